"""An event is a pointer: a stage works from the record of the stage before it, never from what an event says.

Whoever may put events on the bus, or messages into a queue, can say anything. The records of uploads are written by the
stages alone, each in its own name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec

from abeyance.aws.timestamps import timestamp
from abeyance.pipeline import events, topology
from abeyance.pipeline.events import Event, Upload
from abeyance.pipeline.upload_records import UploadState

#: Detail-type -> the stages that record such events.
_EMITTERS = {
    kind.detail_type: frozenset(stage.name for stage in topology.STAGES if kind in stage.emits)
    for kind in events.EVENTS
}


def recorded_for(event: Event, state: UploadState, derive: Callable[[Upload], Upload]) -> Event | None:
    """Return the event that a stage recorded and that ``event`` points to; ``None`` if there is none.

    Its tenant, action and collection must be those that ``derive`` finds, whatever anybody wrote into a record.
    """
    emitters = _EMITTERS[event.detail_type]
    found = [one for stage, one in state.recorded.items() if stage in emitters and type(one) is type(event)]
    recorded = event if event in found else (found[0] if found else None)
    if recorded is None or derive(recorded.upload) != recorded.upload:
        return None
    return recorded


def refusal(stage: str, event: Event, recorded: Event | None) -> events.EventRefused:
    """Return the trace of an event that is not what was recorded, ``recorded`` being what was instead."""
    digest = hashlib.sha256(msgspec.json.encode(event)).hexdigest()[:32]
    return events.EventRefused(
        id=f"event-refused:{digest}",
        time=timestamp(),
        upload=event.upload,
        stage=stage,
        claimed=event.detail_type,
        reason=_difference(event, recorded),
    )


def _difference(event: Event, recorded: Event | None) -> str:
    if recorded is None:
        return "NOT_RECORDED"
    plain, other = (
        {
            name: value
            for name, value in msgspec.structs.asdict(one).items()
            if name not in one.withheld_from_ledger
        }
        for one in (event, recorded)
    )
    # So an event looks whose person was erased while it was under way.
    return "DIFFERS_IN_WITHHELD_FIELDS" if plain == other else "DIFFERS_FROM_RECORD"
