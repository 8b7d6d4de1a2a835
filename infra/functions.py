"""Every deployed function in one table: what it carries and how large it is. What it may do is in permissions.py."""

from __future__ import annotations

import msgspec

from abeyance.pipeline import topology
from infra import trim
from infra.layers import Kind


class Function(msgspec.Struct, frozen=True, kw_only=True):
    """One folder of ``functions/``. Times are in seconds, memory in MiB."""

    name: str
    layers: tuple[Kind, ...]
    memory: int
    timeout: int


#: Those that see pixels or templates, and those that must not be able to.
SEEING: tuple[Kind, ...] = ("base", "vision", "models", "abeyance")
BLIND: tuple[Kind, ...] = ("base", "decide")

_SEES = frozenset({"detect", "recognize"})

STAGES = tuple(
    Function(
        name=stage.name,
        layers=SEEING if stage.name in _SEES else BLIND,
        memory=stage.memory,
        timeout=stage.timeout,
    )
    for stage in topology.STAGES
)
#: The Rekognition API. API Gateway waits no longer than 29 seconds.
API = Function(name="api", layers=SEEING, memory=3008, timeout=29)
#: AppConfig's validator, and what keeps the announcements of moratoria in step with the flags.
#: It has its time for stopping what stands in the way of a document that the console hands over.
FLAGS = Function(name="flags", layers=BLIND, memory=512, timeout=25)
#: What people look at. An HTTP API waits no longer than 30 seconds.
CONSOLE = Function(
    name="console", layers=("base", "vision", "web", "models", "abeyance"), memory=2048, timeout=29
)

FUNCTIONS = (*STAGES, API, FLAGS, CONSOLE)


def in_lambda(layers: str = "/opt/python") -> dict[str, str]:
    """What functions are told in Lambda and nowhere else, because of what is in their layers."""
    return {
        "AWS_CA_BUNDLE": f"{layers}/{trim.AUTHORITIES}",
        # A layer cannot change: to look whether its models are whole would be 40 ms for each cold start of recognize.
        "ABEYANCE_VERIFY_MODELS": "false",
    }
