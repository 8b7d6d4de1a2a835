"""The identity of a log: the object ``log``, written once before the first entry."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

import msgspec

from abeyance.aws.timestamps import rfc3339
from abeyance.ledger.canonical import canonical_json
from abeyance.ledger.entry import TIME_PATTERN
from abeyance.ledger.errors import Inadmissible, LedgerCorrupt

#: Key of the object.
LOG: Final = "log"
LOG_FORMAT: Final = "abeyance-log-1"
_ORIGIN: Final = re.compile(r"abeyance/[a-z0-9][a-z0-9.-]{0,62}")
_TIME: Final = re.compile(TIME_PATTERN)


class LogIdentity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The name of a log, ``abeyance/<log id>``, and when it was begun."""

    created: str
    format: str
    origin: str

    @property
    def canonical(self) -> bytes:
        """The content of the object."""
        return canonical_json(msgspec.structs.asdict(self))


def new_identity(log_id: str, created: datetime) -> LogIdentity:
    """Return the identity of a new log; ``created`` has a time zone.

    Raises
    ------
    Inadmissible
        ``log_id`` is not 1 to 63 of ``a-z 0-9 . -``.
    """
    origin = f"abeyance/{log_id}"
    if not _ORIGIN.fullmatch(origin):
        raise Inadmissible("log id: 1 to 63 of a-z 0-9 . - and the first a letter or digit")
    return LogIdentity(rfc3339(created, "microseconds"), LOG_FORMAT, origin)


def read_identity(data: bytes | None) -> LogIdentity:
    """Return the identity from the content of the object; ``None`` stands for a missing one.

    Raises
    ------
    LedgerCorrupt
        Missing, or not in its one form.
    """
    if data is None:
        raise LedgerCorrupt("there is no log: the object 'log' is missing")
    try:
        identity = msgspec.json.decode(data, type=LogIdentity)
        good = _ORIGIN.fullmatch(identity.origin) and _TIME.fullmatch(identity.created)
        if good and identity.format == LOG_FORMAT and identity.canonical == data:
            return identity
    except (msgspec.MsgspecError, ValueError):
        pass
    raise LedgerCorrupt("the object 'log' is damaged, or of a later format")
