"""Run the pinned CDK command line: ``python -m infra.cdk synth|deploy|destroy|bootstrap|diff …``.

The command line is fetched once, with npm, into ``.cache``; nothing is installed on the machine.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from infra import nodejs
from infra.config import ROOT

#: Newer major versions of the command line cannot read what aws-cdk-lib 2 writes.
VERSION = "2.1148.1"


def command() -> list[str]:
    """Return the command that runs the CDK's command line, fetched first if it is missing."""
    home = ROOT / ".cache" / f"aws-cdk-{VERSION}"
    script = home / "node_modules" / "aws-cdk" / "bin" / "cdk"
    if not script.is_file():
        home.mkdir(parents=True, exist_ok=True)
        options = ["--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"]
        subprocess.run(  # noqa: S603 - npm's own command line, no shell
            [*nodejs.npm(), "install", *options, "--prefix", str(home), f"aws-cdk@{VERSION}"],
            check=True,
            stdout=sys.stderr,
            timeout=600,
        )
    return [str(nodejs.node()), str(script)]


def environment() -> dict[str, str]:
    """Return this process's environment with Node and this Python first on the path."""
    path = os.pathsep.join([str(nodejs.node().parent), str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "JSII_NODE": str(nodejs.node()), "CDK_DISABLE_CLI_TELEMETRY": "true"}


def context(choices: Mapping[str, str]) -> list[str]:
    """Return the options that hand choices of :class:`infra.config.Config` to the command line."""
    return [word for name, value in choices.items() for word in ("-c", f"{name}={value}")]


def main() -> int:
    """Run the command line in the repository's root; return its exit status."""
    return subprocess.run([*command(), *sys.argv[1:]], cwd=ROOT, env=environment(), check=False).returncode  # noqa: S603


if __name__ == "__main__":
    sys.exit(main())
