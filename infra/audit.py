"""Look at the templates with other people's rules: ``python -m infra.audit``.

cdk-nag's AwsSolutions while synthesising, then cfn-lint and checkov on what came out. Exceptions are in
``suppressions.py`` and ``checkov.yaml``, each with its reason.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from infra.cdk import command, environment
from infra.config import ROOT

#: The deployments whose templates differ.
VARIANTS: dict[str, dict[str, str]] = {
    "local": {"vector_index": "true"},
    "sagemaker": {"embedder": "sagemaker"},
    "ecs": {"embedder": "ecs"},
}


def checkov() -> Path:
    """checkov's command, installed on first use."""
    home, lock = ROOT / ".cache" / "audit-venv", ROOT / "requirements" / "audit.txt"
    done = home / ".installed"
    if not done.is_file() or done.read_bytes() != lock.read_bytes():
        shutil.rmtree(home, ignore_errors=True)
        _run(sys.executable, "-m", "venv", str(home))
        python = str(home / "bin" / "python")
        _run(python, "-m", "pip", "install", "--quiet", "--require-hashes", "--requirement", str(lock))
        done.write_bytes(lock.read_bytes())
    return home / "bin" / "checkov"


def main() -> int:
    """Exit status 0 if nothing was found."""
    failed = 0
    for name, choices in VARIANTS.items():
        out = ROOT / ".cache" / "audit" / name
        shutil.rmtree(out, ignore_errors=True)
        context = [word for key, value in choices.items() for word in ("-c", f"{key}={value}")]
        image = (
            []
            if name == "local"
            else ["-c", "embedder_image=000000000000.dkr.ecr.eu-central-1.amazonaws.com/e:1"]
        )
        failed |= _run(*command(), "synth", "--quiet", "--output", str(out), *context, *image, check=False)
        templates = [str(path) for path in sorted(out.glob("*.template.json"))]
        failed |= _run(str(Path(sys.executable).with_name("cfn-lint")), *templates, check=False)
        failed |= _run(
            str(checkov()),
            "--config-file",
            str(ROOT / "infra" / "checkov.yaml"),
            "-f",
            *templates,
            check=False,
        )
    return failed


def _run(*words: str, check: bool = True) -> int:
    return subprocess.run(words, cwd=ROOT, env=environment(), check=check, timeout=900).returncode  # noqa: S603


if __name__ == "__main__":
    sys.exit(main())
