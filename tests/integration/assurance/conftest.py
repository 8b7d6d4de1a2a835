"""The fixtures of the pipeline's tests: the whole system on this machine, and sample photos."""

from ..pipeline.conftest import portraits, system, upload

__all__ = ["portraits", "system", "upload"]
