"""What one photo needs of every stage: processor time, calls of AWS, DynamoDB units. Read here, measured elsewhere.

``demand.json`` is measured on the real handlers in a checkout, by ``python -m benchmarks.demand``.
"""

from __future__ import annotations

from importlib import resources

import msgspec

#: Among the calls of a stage: an item of a DynamoDB transaction. Each takes time of its own.
TRANSACTED = "dynamodb.transacted item"
#: Among the calls of a stage: an event on the bus, whose call may have carried several.
TOLD = "events.told event"


class StageDemand(msgspec.Struct, frozen=True, kw_only=True):
    """What a stage needs for an invocation, and for each message in it."""

    #: Milliseconds of one processor.
    invocation_ms: float
    message_ms: float
    #: Calls of AWS by ``service.Operation``.
    invocation_calls: dict[str, float]
    message_calls: dict[str, float]
    #: DynamoDB units of one message in a full batch.
    write_units: float
    read_units: float


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """What a photo that is indexed needs on its way, and what it leaves behind."""

    measured: str
    faces: float
    stages: dict[str, StageDemand]
    #: Of ``recognize``'s processor time, the milliseconds of one face in the embedder: a GPU takes them over.
    embed_ms: float
    #: Write units of one ledger entry in the partition that holds all entries.
    entry_units: float
    #: Bytes that a photo leaves, by where: DynamoDB tables and S3 buckets.
    left: dict[str, float]
    #: Bytes of the events of one photo together.
    event_bytes: float


def stored() -> Demand:
    """As measured when ``demand.json`` was last made, by ``python -m benchmarks.demand``."""
    found: Demand = load(resources.files("abeyance.cost").joinpath("demand.json").read_bytes())
    return found


def load(body: bytes) -> Demand:
    """A measurement from JSON; raises ``msgspec.MsgspecError``."""
    return msgspec.json.decode(body, type=Demand)
