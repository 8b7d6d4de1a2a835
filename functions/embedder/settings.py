"""The endpoint's settings, read from the environment once."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from abeyance.embedding.npy import MAX_CHIPS

#: Where SageMaker unpacks a model's own files.
SAGEMAKER_MODEL = Path("/opt/ml/model")

Positive = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]


class EmbedderSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Each field is read from ``ABEYANCE_EMBEDDER_<FIELD>``; 0 means: suit the device.

    ``ABEYANCE_MODELS`` and ``ABEYANCE_MANIFEST`` say where models lie, as everywhere.
    """

    #: Loopback by default; the container sets 0.0.0.0.
    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8080
    #: Name in the model manifest.
    model: str = "sface-2021dec"
    #: ``auto``, or ONNX Runtime's names without ``ExecutionProvider``, best first: ``TensorRT,CUDA,CPU``.
    providers: str = "auto"
    #: ``auto`` is fp16 on a GPU and fp32 elsewhere.
    precision: Literal["auto", "fp16", "fp32"] = "auto"
    #: Most chips of one run of the model.
    batch: Annotated[int, msgspec.Meta(ge=0)] = 0
    #: Runs of the model at the same time.
    workers: Annotated[int, msgspec.Meta(ge=0)] = 0
    #: Threads of one run, CPU only.
    threads: Positive = 1
    #: Milliseconds that an incomplete batch waits for more while another run is under way.
    linger: Annotated[float, msgspec.Meta(ge=0, le=1000)] = 0.0
    #: Most chips of one request.
    max_chips: Annotated[int, msgspec.Meta(ge=1, le=4096)] = MAX_CHIPS
    #: Most chips accepted and not answered; past it a request is refused with 429.
    capacity: Annotated[int, msgspec.Meta(ge=0)] = 0
    #: Seconds that a body may take to arrive.
    body_timeout: Seconds = 10.0
    #: Seconds without a successful run after which the endpoint embeds a chip of its own, to know that it can.
    probe: Seconds = 10.0
    #: Seconds after which a run counts as stuck: health turns bad, and who waits is answered with 503.
    stuck: Seconds = 30.0
    #: Seconds that accepted requests have after SIGTERM. ECS and SageMaker kill after 30.
    drain: Seconds = 25.0

    def __post_init__(self) -> None:
        if self.capacity and self.capacity < self.max_chips:
            raise ValueError("capacity must be at least max_chips, or the largest request is never accepted")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> EmbedderSettings:
        """Read the settings; raises ``msgspec.ValidationError`` on an ill-typed one."""
        environment = os.environ if environment is None else environment
        given = {
            name: environment[key]
            for name in cls.__struct_fields__
            if (key := f"ABEYANCE_EMBEDDER_{name.upper()}") in environment
        }
        # SageMaker chooses the port where it runs several containers behind one endpoint.
        if port := environment.get("SAGEMAKER_BIND_TO_PORT"):
            given["port"] = port
        return msgspec.convert(given, cls, strict=False)


def manifest_beside_model(folder: Path = SAGEMAKER_MODEL) -> None:
    """Use the manifest in ``model.tar.gz`` of a SageMaker model, unless the operator named one."""
    if (folder / "manifest.json").is_file():
        os.environ.setdefault("ABEYANCE_MANIFEST", str(folder / "manifest.json"))


def cpus() -> int:
    """Return the number of processors of this process: its affinity, or less by the container's quota."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        available = min(available, max(1, math.floor(int(quota) / int(period))))
    except (OSError, ValueError):
        pass  # no cgroup v2, or its quota is "max"
    return available
