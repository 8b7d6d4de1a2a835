"""Searches whose authorisation was to follow: they get it when it arrives, or everything made of them is deleted."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import msgspec

from abeyance.moratorium.authorization_store import AuthorizationTable
from abeyance.moratorium.authorization_uses import LateSearch
from abeyance.pipeline import events
from abeyance.pipeline.events import Box, DetectedFace, Event, Quality
from abeyance.pipeline.leftovers import Leftovers
from abeyance.pipeline.outbox import Outbox
from abeyance.pipeline.upload_records import UploadRecords

log = logging.getLogger("abeyance")

#: Time for which deletion is repeated: longer than any invocation that was permitted before the authorisation was due.
GRACE: Final = timedelta(minutes=15)
_NO_QUALITY: Final = Quality(brightness=0.0, sharpness=0.0, yaw=0.0, pitch=0.0, roll=0.0)


class SettleLateSearches:
    """The scheduled task. Each run may die anywhere; the next one does the rest.

    Parameters
    ----------
    outbox
        That of the task itself: its outcome is the last word on an upload.
    clock
        Now, aware.
    """

    def __init__(
        self,
        authorizations: AuthorizationTable,
        records: UploadRecords,
        leftovers: Leftovers,
        outbox: Outbox,
        clock: Callable[[], datetime],
    ) -> None:
        self._authorizations = authorizations
        self._records = records
        self._leftovers = leftovers
        self._outbox = outbox
        self._clock = clock

    def __call__(self) -> dict[str, int]:
        """Settle every late search; return how many are late, used and lapsed now. One that fails stops no other."""
        counts: Counter[str] = Counter()
        for late in self._authorizations.uses.late():
            try:
                counts[self._settle(late)] += 1
            except Exception as error:  # noqa: BLE001 - whatever it was, the search stays on the list
                log.error("a late search is not settled", extra={"error": type(error).__name__})
                counts["failed"] += 1
        return dict(counts)

    def _settle(self, late: LateSearch) -> str:
        now = self._clock()
        state = self._authorizations.settle(late, now)
        if state == "lapsed":
            self._undo(late)
            if now >= late.due_at + GRACE:
                self._authorizations.uses.close(late)
        return state

    def _undo(self, late: LateSearch) -> None:
        """Delete everything made of the search, and put that on the ledger once."""
        recorded = self._records.recorded(late.id)
        upload = next((event.upload for event in recorded.values()), None)
        if upload is None:
            return  # the gate died before it recorded a permit; nothing was made
        deleted = self._leftovers.delete_lapsed(upload)
        self._records.rewrite(late.id, emptied)
        known = self._outbox.recorded_event(upload)
        lapsed = events.AuthorizationLapsed.of(upload, due=late.due, count=deleted)
        self._outbox.record_outcome(known or lapsed)


def emptied(event: Event) -> Event:
    """Return an event without anything that was seen in the photo; the number of its faces stays, as on the ledger."""
    if isinstance(event, events.FacesDetected | events.FacesAnalyzed):
        return msgspec.structs.replace(event, faces=tuple(map(_emptied, event.faces)))
    if isinstance(event, events.FacesIndexed):
        faces = tuple(
            events.IndexedFace(face_id="", external_image_id="", face=_emptied(one.face))
            for one in event.faces
        )
        return msgspec.structs.replace(event, faces=faces, unindexed=tuple(map(_emptied, event.unindexed)))
    if isinstance(event, events.FacesMatched | events.MatchesReleased):
        searched = tuple(events.SearchedFace(face=_emptied(one.face), matches=()) for one in event.faces)
        event = msgspec.structs.replace(event, faces=searched)
    if isinstance(event, events.FacesMatched):
        return msgspec.structs.replace(event, unsearched=tuple(map(_emptied, event.unsearched)))
    return event


def _emptied(face: DetectedFace) -> DetectedFace:
    return DetectedFace(
        box=Box(0.0, 0.0, 0.0, 0.0),
        confidence=0.0,
        quality=_NO_QUALITY,
        landmarks=(),
        reasons=face.reasons,
        chip=face.chip,
    )
