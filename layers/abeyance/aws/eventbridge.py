"""Entries for an event bus, sent in as few calls as EventBridge's limits allow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

#: Most entries of one call.
MAX_ENTRIES: Final = 10
#: EventBridge takes 256 KB a call; this leaves room for what it counts beside the detail.
MAX_BYTES: Final = 240_000


def put_events(client: Any, entries: Iterable[Mapping[str, Any]]) -> None:
    """Send entries in their order, and return when all of them were taken.

    Raises ``ConnectionError`` if EventBridge refused any; any of the others may have been taken then.
    """
    for call in _calls(entries):
        answer = client.put_events(Entries=call)
        if answer["FailedEntryCount"]:
            codes = {entry["ErrorCode"] for entry in answer["Entries"] if "ErrorCode" in entry}
            raise ConnectionError(f"EventBridge refused {answer['FailedEntryCount']} events: {sorted(codes)}")


def _calls(entries: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    call: list[Mapping[str, Any]] = []
    size = 0
    for entry in entries:
        own = len(entry["Detail"].encode())
        if call and (len(call) == MAX_ENTRIES or size + own > MAX_BYTES):
            yield call
            call, size = [], 0
        call.append(entry)
        size += own
    if call:
        yield call
