"""The stores that outlive an erasure because nothing can be written there, and until when."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import msgspec

#: Days that a message is in a queue and its dead-letter queue together at most.
QUEUE_DAYS: Final = 28


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """Days that a deployment keeps things: records and results, the bus's archive, table backups, access logs."""

    retention_days: int
    archive_days: int
    recovery_days: int
    log_days: int


def remains(retention: Retention, moment: str) -> list[dict[str, str]]:
    """Return each store that still holds something, what, and the last date on which it does (empty: no end).

    ``moment`` is that of the erasure, RFC 3339.
    """
    start = datetime.fromisoformat(moment)
    kept = {
        "ledger: pseudonyms": None,
        "table of erasures and the gallery's records of photos: ids of erased faces": None,
        "uploads bucket: photos, until their owner deletes them": None,
        "records of uploads: names of photos": retention.retention_days,
        "point-in-time recovery of tables": retention.recovery_days,
        "archive of the event bus": retention.archive_days,
        "messages in queues": QUEUE_DAYS,
        "access logs of buckets: names of objects": retention.log_days,
    }
    return [
        {"store": store, "until": "" if days is None else (start + timedelta(days=days)).date().isoformat()}
        for store, days in kept.items()
    ]
