"""The machine that a measurement was made on."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import msgspec

from abeyance.gallery.threads import cores

#: The packages that do most of the work.
_PACKAGES = ("onnxruntime", "numpy", "pillow", "boto3", "moto")


#: Instruction sets that change how fast networks and searches are, in the order in which they are listed.
_INSTRUCTION_SETS = (
    *("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16"),
    *("asimddp", "i8mm", "bf16", "sve", "sve2"),
)


class Machine(msgspec.Struct, frozen=True):
    """Processor, memory and software."""

    processor: str
    instruction_sets: tuple[str, ...]
    #: Cores that this process may use.
    cores: int
    memory_gib: float
    system: str
    python: str
    packages: dict[str, str]
    #: Processes that waited for a core in the minute before, on average.
    load: float

    @property
    def kind(self) -> str:
        """Kind of processor; ratios are compared with those of the same kind only."""
        return f"{self.processor}, {self.cores} cores ({' '.join(self.instruction_sets) or 'no vector extensions'})"

    @classmethod
    def here(cls) -> Machine:
        """Describe this machine as it is now."""
        flags = {*_cpu_info("flags").split(), *_cpu_info("Features").split()}
        return cls(
            processor=processor_name(),
            instruction_sets=tuple(name for name in _INSTRUCTION_SETS if name in flags),
            cores=cores(),
            memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            system=f"{platform.system()} {platform.machine()}",
            python=platform.python_version(),
            packages={name: version(name) for name in _PACKAGES},
            load=round(os.getloadavg()[0], 1),
        )


def processor_name() -> str:
    """Return the name that the kernel gives to the processor."""
    return _cpu_info("model name") or platform.processor() or "CPU"


def _cpu_info(field: str) -> str:
    """Return a field of the first processor in /proc/cpuinfo; empty where there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(field)), "")


def processor_seconds(pid: int) -> float:
    """Return the processor seconds of a process so far; raises ``OSError`` where the system does not count them."""
    # The text before the bracket may hold anything; user and system time are the 12th and 13th field after it.
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def graphics_name() -> str:
    """Return the name that NVIDIA's driver gives to the first GPU."""
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0]  # noqa: S603
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "GPU"
