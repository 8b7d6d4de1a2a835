"""The way of changes onto the ledger: before a loosening takes effect, and for a tightening as soon as the ledger can.

Nothing may hold up a tightening, so what the ledger does not take at once waits in the outbox: items ``outbox`` /
``<time>#<id>`` of the change service's table, written in the transaction of the change and sent in their order. A
loosening waits for all of them.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Struct

from abeyance.aws.table import PARTITION, SORT, Put, Table
from abeyance.aws.timestamps import rfc3339
from abeyance.moratorium.errors import MoratoriumError

log = logging.getLogger("abeyance")
#: Type of the entry of something in force that the service did not put there.
DRIFT: Final = "moratorium.drift"
_OUTBOX: Final = "outbox"


class ChangeEntry(Struct, frozen=True, kw_only=True):
    """One entry for the ledger: the same id for every attempt to send it."""

    id: str
    kind: str
    time: str
    body: Mapping[str, Any]


#: Puts an entry on the ledger, or raises.
Send = Callable[[ChangeEntry], None]


class LedgerRefused(MoratoriumError):
    """A step that cannot be put on the ledger and therefore does not happen: try again when the ledger is back."""


class ChangeRecorder:
    """See the module.

    Parameters
    ----------
    table
        The change service's own.
    send
        Puts an entry on the ledger and raises if the ledger does not confirm it.
    """

    def __init__(self, table: Table, send: Send, clock: Callable[[], datetime]) -> None:
        self._table = table
        self._send = send
        self._clock = clock

    def require(self, kind: str, body: Mapping[str, Any]) -> None:
        """Put an entry on the ledger after all that wait; raises :class:`LedgerRefused`."""
        try:
            self.drain()
            self._send(self._entry(kind, body))
        except Exception as error:  # noqa: BLE001 - whatever happened, the entry is not known to be on the ledger
            raise LedgerRefused(
                f"nothing was changed, because it cannot be recorded now ({type(error).__name__}); try again"
            ) from None

    def later(self, kind: str, body: Mapping[str, Any]) -> Put:
        """Return the operation that puts an entry into the outbox, for the transaction that makes the change."""
        entry = self._entry(kind, body)
        item = {PARTITION: _OUTBOX, SORT: f"{entry.time}#{entry.id}", "entry": msgspec.json.encode(entry)}
        return Put(item, absent=True)

    def keep(self, kind: str, body: Mapping[str, Any]) -> None:
        """Put an entry into the outbox, and send what waits if the ledger takes it now."""
        self._table.transact([self.later(kind, body)])
        self.flush()

    def flush(self) -> None:
        """Send what waits, if the ledger takes it now; the rest waits for the next call."""
        try:
            self.drain()
        except Exception as error:  # noqa: BLE001 - whatever happened, what is not sent is still there
            log.warning("the ledger does not take changes now", extra={"because": type(error).__name__})

    def drain(self) -> int:
        """Send what waits, oldest first, and return how many there were. Raises what sending raises."""
        sent = 0
        for item in list(self._table.query(_OUTBOX)):
            self._send(msgspec.json.decode(item["entry"], type=ChangeEntry))
            self._table.delete_many([(_OUTBOX, item[SORT])])
            sent += 1
        return sent

    def _entry(self, kind: str, body: Mapping[str, Any]) -> ChangeEntry:
        now = rfc3339(self._clock(), "microseconds")
        return ChangeEntry(id=f"moratorium:{secrets.token_hex(8)}", kind=kind, time=now, body=body)
