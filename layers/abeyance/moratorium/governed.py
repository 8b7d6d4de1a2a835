"""The flags that a stage decides by: what AppConfig hands out, the brake, and the record of what was agreed, together.

All three are polled. The tighter of what is handed out and what was agreed holds, and the brake holds beside both; see
:mod:`abeyance.moratorium.inforce`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

from msgspec import structs

from abeyance.aws.timestamps import utc_now
from abeyance.moratorium.audit_store import AUDITS, audits_of
from abeyance.moratorium.audits import AuditFacts
from abeyance.moratorium.document import FlagSet
from abeyance.moratorium.errors import Fault, FlagsError, MoratoriumError
from abeyance.moratorium.inforce import BRAKE, FLAGS, InForce, combine
from abeyance.moratorium.source import MAX_AGE_S, SHORTEST_POLL_S, Clock, FlagSource, Snapshot

log = logging.getLogger("abeyance")
#: Reads the records, by name.
ReadRecords = Callable[[], Mapping[str, InForce]]


class PolledRecords:
    """The records of what is in force, read again after ``poll_interval`` seconds and never used beyond ``max_age``."""

    def __init__(
        self,
        read: ReadRecords,
        *,
        poll_interval: float = SHORTEST_POLL_S,
        max_age: float = MAX_AGE_S,
        clock: Clock = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._poll_interval = poll_interval
        self._max_age = max_age
        self._clock = clock
        self._monotonic = monotonic
        self._found: Mapping[str, InForce] | None = None
        self._at: tuple[datetime, float] | None = None
        self._asked = float("-inf")

    def current(self, *, again: bool = False) -> tuple[Mapping[str, InForce], datetime]:
        """Return the records and the moment before they were read. Raises ``FlagsError`` if they are too old.

        ``again`` reads them now, because something was handed out that they do not expect.
        """
        tick = self._monotonic()
        if again or not 0 <= tick - self._asked < self._poll_interval:
            self._asked, asked = tick, (self._clock(), tick)
            try:
                self._found = self._read()
            except Exception as error:  # noqa: BLE001 - whatever failed, age decides what follows
                if self._found is None:
                    raise FlagsError(
                        Fault.FLAGS_UNAVAILABLE,
                        f"the record of what is in force cannot be read ({type(error).__name__})",
                    ) from None
            else:
                self._at = asked
        if self._found is None or self._at is None or self._monotonic() - self._at[1] > self._max_age:
            raise FlagsError(Fault.FLAGS_STALE, "the record of what is in force is out of reach for too long")
        return self._found, self._at[0]


class GovernedFlags:
    """:class:`~abeyance.moratorium.source.FlagSource` of flags, brake and record together.

    Parameters
    ----------
    flags
        The flags that are handed out.
    brake
        The brake, or ``None`` where there is none.
    records
        What was agreed, or ``None`` on one machine, where a file is what is in force.
    audits
        The record of audits where ``records`` has none; read only if a flag is bound to one.
    """

    def __init__(
        self,
        flags: FlagSource,
        brake: FlagSource | None = None,
        records: PolledRecords | None = None,
        audits: PolledRecords | None = None,
    ) -> None:
        self._flags = flags
        self._brake = brake
        self._records = records
        self._audits = records or audits
        self._lock = threading.Lock()
        self._last: tuple[tuple[object, ...], FlagSet] | None = None
        self._read: tuple[int, Mapping[str, AuditFacts]] | None = None

    def current(self) -> Snapshot:
        with self._lock:
            flags = self._flags.current()
            brake = None if self._brake is None else self._brake.current()
            fetched = [flags.fetched_at, *([brake.fetched_at] if brake else [])]
            records: Mapping[str, InForce] = {}
            if self._records is not None:
                records, read_at = self._records.current()
                if not _expected(records, flags, brake):
                    records, read_at = self._records.current(again=True)
                fetched.append(read_at)
            together = self._together(flags, brake, records)
            audits: Mapping[str, AuditFacts] = {}
            if self._audits is not None and any(flag.audit is not None for flag in together.flags):
                audited, read_at = self._audits.current()
                audits = self._read_audits(audited.get(AUDITS))
                fetched.append(read_at)
            return structs.replace(flags, flags=together, fetched_at=min(fetched), audits=audits)

    def _read_audits(self, record: InForce | None) -> Mapping[str, AuditFacts]:
        """Return the audits in force. What cannot be read lifts nothing."""
        revision = 0 if record is None else record.revision
        if self._read is None or self._read[0] != revision:
            try:
                self._read = (revision, audits_of(record))
            except MoratoriumError as error:
                log.error("the audits in force cannot be read", extra={"error": type(error).__name__})
                self._read = (revision, {})
        return self._read[1]

    def _together(self, flags: Snapshot, brake: Snapshot | None, records: Mapping[str, InForce]) -> FlagSet:
        made_of: tuple[object, ...] = (
            flags.flags,
            brake and brake.flags,
            *sorted((name, record.revision) for name, record in records.items()),
        )
        if self._last is None or self._last[0] != made_of:
            combined = combine(flags.flags, records.get(FLAGS))
            if brake is not None:
                held = combine(brake.flags, records.get(BRAKE))
                combined = combined.joined(
                    [(_BRAKE_PREFIX, held)], brake=brake.flags.digest, drift=combined.drift or held.drift
                )
            self._last = (made_of, combined)
        return self._last[1]


_BRAKE_PREFIX: Final = "brake:"


def _expected(records: Mapping[str, InForce], flags: Snapshot, brake: Snapshot | None) -> bool:
    handed_out = {FLAGS: flags.flags.digest, **({BRAKE: brake.flags.digest} if brake else {})}
    return all(name not in records or records[name].expects(digest) for name, digest in handed_out.items())
