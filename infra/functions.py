"""Every deployed function in one table: its folder, layers, memory, time limit and settings.

What each may do is in :mod:`infra.permissions`. The layers are built by :mod:`infra.layers`:

==============  =========================  ================================================================
layer           carried by                 holds
==============  =========================  ================================================================
``base``        every function             botocore, msgspec, rfc8785
``vision``      those that see pixels      numpy, onnxruntime, pillow, simplejpeg
``web``         console                    flask
``signatures``  checkpoint                 cryptography
``video``       frames                     PyAV with FFmpeg
``detector``    console                    the converted model that finds faces
``analysis``    detect, api                the same, and those that describe faces
``embedder``    recognize, api             the one that makes templates
``tracking``    frames                     all of these: Lambda takes five layers a function
``decide``      those that see no pixels   our rooms without pixels: moratorium, ledger, pipeline, what they use
``abeyance``    those that see pixels      all our rooms that are deployed
==============  =========================  ================================================================
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from abeyance.deployment.settings import UNITS, UnitSettings
from abeyance.pipeline import topology
from infra import trim
from infra.config import ROOT, Config

LayerName = Literal[
    "base",
    "vision",
    "web",
    "signatures",
    "video",
    "detector",
    "analysis",
    "embedder",
    "tracking",
    "decide",
    "abeyance",
]
DECISION_LAYERS: tuple[LayerName, ...] = ("base", "decide")
PIXEL_LAYERS: tuple[LayerName, ...] = ("base", "vision", "abeyance")

#: Stages that read photos, chips or templates, and what they carry for it. The others must not be able to.
_PIXEL_STAGES: dict[str, tuple[LayerName, ...]] = {
    "detect": ("analysis",),
    "frames": ("video", "tracking"),
    "recognize": ("embedder",),
}


class FunctionSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One folder of ``functions/``, as it is deployed; its entry point is ``handler.handler``."""

    name: str
    layers: tuple[LayerName, ...]
    memory_mib: int
    timeout_s: int

    @property
    def folder(self) -> Path:
        """The folder of the handler."""
        return ROOT / "functions" / self.name

    @property
    def settings(self) -> type[UnitSettings]:
        """The settings that it reads from its environment."""
        return UNITS[self.name]


STAGES = tuple(
    FunctionSpec(
        name=stage.name,
        layers=(*PIXEL_LAYERS, *more) if (more := _PIXEL_STAGES.get(stage.name)) else DECISION_LAYERS,
        memory_mib=stage.memory,
        timeout_s=stage.timeout,
    )
    for stage in topology.STAGES
)
#: Signs checkpoints. It reads all entries since the last one, which after an outage may be many.
CHECKPOINT = FunctionSpec(
    name="checkpoint", layers=(*DECISION_LAYERS, "signatures"), memory_mib=1024, timeout_s=600
)
#: Writes the lookup index; a segment of entries is in memory while it is sorted.
INDEX = FunctionSpec(name="index", layers=DECISION_LAYERS, memory_mib=1769, timeout_s=600)
#: Compares what happened with the ledger. It reads whole tables, and changes nothing.
RECONCILE = FunctionSpec(name="reconcile", layers=DECISION_LAYERS, memory_mib=1024, timeout_s=900)
#: The Rekognition API. API Gateway waits no longer than 29 s.
API = FunctionSpec(name="api", layers=(*PIXEL_LAYERS, "analysis", "embedder"), memory_mib=3008, timeout_s=29)
#: The change service, AppConfig's validator, and the schedules of announcements.
FLAGS = FunctionSpec(name="flags", layers=(*DECISION_LAYERS, "web"), memory_mib=1024, timeout_s=25)
#: The console. An HTTP API waits no longer than 30 s.
CONSOLE = FunctionSpec(
    name="console", layers=(*PIXEL_LAYERS, "detector", "web"), memory_mib=2048, timeout_s=29
)

FUNCTIONS = (*STAGES, CHECKPOINT, INDEX, RECONCILE, API, FLAGS, CONSOLE)


#: Executions of their own for functions that must not starve, beside the gate: the ledger's two sequencers, its signer,
#: and changes of flags, some at a time.
_RESERVED = {"ledger": 2, "checkpoint": 1, "flags": 5}


def reserved_of(name: str, config: Config) -> int:
    """Return the executions that a function has to itself; 0 for a function that shares."""
    if not config.reserved_concurrency:
        return 0
    return config.reserved_concurrency if name == topology.GATE.name else _RESERVED.get(name, 0)


def runtime_environment(packages: str = "/opt/python") -> dict[str, str]:
    """Return the variables of every function that follow from its layers, ``packages`` being where those lie."""
    return {"AWS_CA_BUNDLE": f"{packages}/{trim.AUTHORITIES}"}
