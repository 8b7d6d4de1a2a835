"""The records of uploads: the latest event of S3 on each key, and the event that each stage recorded for an upload.

They make the stages idempotent. The first event that a stage records for an upload stays, also when a later upload
takes the key; a redelivered message finds it.

========================  ==========================================================================
``object``                attributes
========================  ==========================================================================
``<bucket>/<key>``        ``sequencer`` (padded, so that it sorts as text) and ``upload``, the latest's identity;
                          ``replaced``: 1 if an earlier upload may have left something
``upload#<record>``       ``stage_<name>`` for each stage that recorded an event: its detail-type and JSON; a record is
                          an upload's identity, or that of a part of it (:attr:`abeyance.pipeline.events.Event.record`)
========================  ==========================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from abeyance.aws.sequencer import sequencer_order
from abeyance.aws.table import TTL, Below, Conflict, Item, Key, Put, ReadAlong, Table, Update
from abeyance.pipeline import events
from abeyance.pipeline.events import Event, Upload, part_record

#: The table's only key attribute.
KEY: Final = "object"
_STAGE: Final = "stage_"


class UploadState(msgspec.Struct, frozen=True):
    """The state of an upload.

    Attributes
    ----------
    latest
        True if no later event has come on its key.
    recorded
        Stage -> the event that it recorded.
    replaced
        True if an earlier upload had its key.
    """

    latest: bool
    recorded: Mapping[str, Event]
    replaced: bool = False


class UploadRecords:
    """See the module. ``now`` returns epoch seconds; records expire after ``retention_days``."""

    def __init__(self, table: Table, retention_days: int, now: Callable[[], float]) -> None:
        self._table = table
        self._retention_s = retention_days * 86400
        self._now = now

    def claim(self, upload: Upload) -> bool:
        """Make this the latest event on its key unless a later one is; return True if it is the latest now."""
        order = sequencer_order(upload.sequencer)
        item = {
            KEY: f"{upload.bucket}/{upload.key}",
            "sequencer": order,
            "upload": upload.identity,
            TTL: self._expiry(),
        }
        not_later = ({KEY: None}, {"sequencer": Below(order)}, {"upload": upload.identity})
        for operation in (Put(item, absent=True), Put(item | {"replaced": 1}, expect=not_later)):
            try:
                self._table.transact([operation])
            except Conflict as conflict:
                if not any(conflict.failed):
                    raise
            else:
                return True
        return False

    def read_states(self, uploads: Sequence[Upload], along: Sequence[ReadAlong] = ()) -> list[UploadState]:
        """Return the state of each upload, all from one request for a hundred items, those read ``along`` included."""
        keys = [(_key_of(upload), _record_of(upload.identity)) for upload in uploads]
        found = self._table.get_many((key for pair in keys for key in pair), along=along)
        return [
            UploadState(
                _latest(found.get(place)) == upload.identity,
                _events(found.get(record)),
                "replaced" in found.get(place, ()),
            )
            for upload, (place, record) in zip(uploads, keys, strict=True)
        ]

    def latest(self, uploads: Sequence[Upload]) -> list[str]:
        """Return the identity of the latest upload on the key of each of at most a hundred; empty if there is none."""
        found = self._table.get_many(map(_key_of, uploads))
        return [_latest(found.get(_key_of(upload))) for upload in uploads]

    def recorded(self, identity: str) -> dict[str, Event]:
        """Return stage -> the event that it recorded for the upload of that identity."""
        return _events(self._table.get(_record_of(identity)))

    def recorded_parts(self, upload: Upload, parts: Sequence[str | int]) -> dict[str | int, dict[str, Event]]:
        """Return stage -> the event that it recorded for each of some parts of an upload; none for the others."""
        keys = {part: _record_of(part_record(upload, part)) for part in parts}
        found = self._table.get_many(keys.values())
        return {part: _events(found[key]) for part, key in keys.items() if key in found}

    def record(self, stage: str, event: Event) -> Event:
        """Record ``event`` unless the stage has one in its record; return the one that stands."""
        name = f"{_STAGE}{stage}"
        try:
            self._table.transact(
                [
                    Update(
                        _record_of(event.record),
                        set={name: _text(event), TTL: self._expiry()},
                        expect={name: None},
                    )
                ]
            )
        except Conflict as conflict:
            if conflict.item is None:
                raise
            return _event(conflict.item[name])
        return event

    def all(self) -> Iterator[dict[str, Event]]:
        """Yield the events recorded for each upload, by stage: a scan of the table, in no order."""
        return map(_events, self._table.scan({"sequencer": None}))

    def rewrite(self, identity: str, change: Callable[[Event], Event]) -> None:
        """Replace each event recorded for an upload by what ``change`` returns for it; its id has to stay.

        Raises ``Conflict`` if another writer changes one at this moment.
        """
        key = _record_of(identity)
        for name, stored in (self._table.get(key) or {}).items():
            if name.startswith(_STAGE) and (after := change(before := _event(stored))) != before:
                self._table.transact([Update(key, set={name: _text(after)}, expect={name: stored})])

    def _expiry(self) -> int:
        return int(self._now() + self._retention_s)


def _key_of(upload: Upload) -> Key:
    return f"{upload.bucket}/{upload.key}", ""


def _record_of(identity: str) -> Key:
    return f"upload#{identity}", ""


def _latest(item: Item | None) -> str:
    return str(item["upload"]) if item else ""


def _events(item: Item | None) -> dict[str, Event]:
    return {
        name.removeprefix(_STAGE): _event(value)
        for name, value in (item or {}).items()
        if name.startswith(_STAGE)
    }


def _text(event: Event) -> str:
    return f"{event.detail_type}\n{msgspec.json.encode(event).decode()}"


def _event(stored: str) -> Event:
    detail_type, detail = stored.split("\n", 1)
    return msgspec.json.decode(detail.encode(), type=events.BY_DETAIL_TYPE[detail_type])
