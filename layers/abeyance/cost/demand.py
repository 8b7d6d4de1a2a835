"""The demand of one photo on every stage: processor time, calls of AWS, DynamoDB units.

It is measured on the real handlers in a checkout: ``python -m benchmarks.demand`` writes ``demand.json``.
"""

from __future__ import annotations

from importlib import resources

import msgspec

#: Among the calls of a stage: an item of a DynamoDB transaction. Each takes time of its own.
TRANSACTED = "dynamodb.transacted item"
#: Among the calls of a stage: an event on the bus, whose call may have carried several.
EVENT_PUT = "events.told event"


class StageDemand(msgspec.Struct, frozen=True, kw_only=True):
    """The demand of an invocation of a stage, and of each message in it."""

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
    """The demand of an indexed photo on its way, and its records in storage."""

    measured: str
    faces: float
    stages: dict[str, StageDemand]
    #: Of ``recognize``'s processor time, the milliseconds of one face in the embedder: a GPU takes them over.
    embed_ms: float
    #: Bytes of an event's message as Lambda hands it to the ledger, in 6 MB at most.
    message_bytes: float
    #: Of the ledger's processor time of an entry, the milliseconds in which no other sequencer gets on.
    serial_ms: float
    #: Stored bytes of a photo's records, by DynamoDB table and S3 bucket.
    left: dict[str, float]
    #: Bytes of the events of one photo together.
    event_bytes: float


def stored() -> Demand:
    """Read ``demand.json``."""
    found: Demand = load(resources.files("abeyance.cost").joinpath("demand.json").read_bytes())
    return found


def load(body: bytes) -> Demand:
    """Parse a measurement; raises ``msgspec.MsgspecError``."""
    return msgspec.json.decode(body, type=Demand)
