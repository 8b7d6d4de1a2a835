"""The machine that a measurement was made on."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from abeyance.gallery.threads import cores

#: What decides how fast the parts are.
_PACKAGES = ("onnxruntime", "numpy", "pillow", "boto3", "moto")


class Machine(msgspec.Struct, frozen=True):
    """Processor, memory and software."""

    processor: str
    #: That this process may use.
    cores: int
    memory_gib: float
    system: str
    python: str
    packages: dict[str, str]
    #: Processes that waited for a core in the minute before, on average.
    load: float

    @classmethod
    def here(cls) -> Machine:
        """This one, now."""
        return cls(
            processor=processor_name(),
            cores=cores(),
            memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            system=f"{platform.system()} {platform.machine()}",
            python=platform.python_version(),
            packages={name: found for name in _PACKAGES if (found := _version(name))},
            load=round(os.getloadavg()[0], 1),
        )


def processor_name() -> str:
    """As the kernel calls it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or "CPU"


def processor_seconds(pid: int) -> float:
    """Seconds of processor that a process has had. Raises ``OSError`` where the system does not say."""
    # What is before the bracket may hold anything; user and system time are the 12th and 13th field after it.
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def graphics_name() -> str:
    """The first GPU as NVIDIA's driver calls it."""
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0]  # noqa: S603
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "GPU"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
