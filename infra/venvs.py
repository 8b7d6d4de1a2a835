"""Virtual environments for tools whose dependencies conflict with ours: checkov, the emulator, benchmarked rivals."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from abeyance.vision.models.registry import locked
from infra.config import ROOT


class VenvFailed(RuntimeError):
    """A virtual environment that could not be made, with pip's message."""


def python_of(name: str, root: Path = ROOT) -> Path:
    """Return the Python of ``.cache/<name>-venv``, made on first use from ``requirements/<name>.txt`` with its hashes.

    Several processes may ask at once: one makes it, the others wait.

    Raises
    ------
    VenvFailed
        Outside a checkout, or if pip fails.
    """
    home, lock = root / ".cache" / f"{name}-venv", root / "requirements" / f"{name}.txt"
    if not lock.is_file():
        raise VenvFailed(f"requirements/{name}.txt is missing: run this in a checkout of Abeyance")
    python, receipt = home / "bin" / "python", home / ".installed"
    with locked(home.with_name(f".{name}-venv.lock")):
        if receipt.is_file() and receipt.read_bytes() == lock.read_bytes():
            return python
        shutil.rmtree(home, ignore_errors=True)
        _run(sys.executable, "-m", "venv", str(home))
        # Without dependencies: the list is complete, and may leave out on purpose what a package asks for.
        options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
        _run(str(python), "-m", "pip", "install", *options, "--requirement", str(lock))
        shutil.copyfile(lock, receipt)
    return python


def _run(*command: str) -> None:
    made = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)  # noqa: S603
    if made.returncode:
        raise VenvFailed(f"{' '.join(command[:4])} failed: {made.stderr.strip()[-1000:]}")
