"""Check the templates against other people's rules: ``python -m infra.audit``.

cdk-nag's AwsSolutions run during synthesis, then cfn-lint and checkov on its output. Exceptions stand in
``nag.toml`` and ``checkov.yaml``, each with its reason.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from infra import cdk, venvs
from infra.config import ROOT

_IMAGE = "000000000000.dkr.ecr.eu-central-1.amazonaws.com/e:1"
#: Context of the deployments whose templates differ.
VARIANTS: dict[str, dict[str, str]] = {
    "local": {"vector_index": "true"},
    "sagemaker": {"embedder": "sagemaker", "embedder_image": _IMAGE},
    "ecs": {"embedder": "ecs", "embedder_image": _IMAGE},
}


def main() -> int:
    """Check every variant; return 0 if nothing was found."""
    linter = str(Path(sys.executable).with_name("cfn-lint"))
    checkov = [
        str(venvs.python_of("audit").with_name("checkov")),
        "--config-file",
        "infra/checkov.yaml",
        "-f",
    ]
    failed = 0
    for name, choices in VARIANTS.items():
        out = ROOT / ".cache" / "audit" / name
        shutil.rmtree(out, ignore_errors=True)
        failed |= _run(*cdk.command(), "synth", "--quiet", "--output", str(out), *cdk.context(choices))
        templates = [str(path) for path in sorted(out.glob("*.template.json"))]
        failed |= _run(linter, *templates) | _run(*checkov, *templates)
    return failed


def _run(*command: str) -> int:
    return subprocess.run(command, cwd=ROOT, env=cdk.environment(), check=False, timeout=900).returncode  # noqa: S603


if __name__ == "__main__":
    sys.exit(main())
