"""The gate: decides on an upload's metadata alone. It imports no image library and never asks for an object's bytes."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from typing import NamedTuple

from abeyance.moratorium.guard import Guard
from abeyance.moratorium.vocabulary import UNSPECIFIED
from abeyance.pipeline import events, topology
from abeyance.pipeline.events import Event, Upload
from abeyance.pipeline.ports import Head, Heads, ObjectGone, Standing, Uploads
from abeyance.pipeline.stage import Decide, Message, Outbox, each, rejected, timestamp, together
from abeyance.pipeline.uploads import KeyNotUnderstood, external_image_id, from_s3, understand

log = logging.getLogger("abeyance")


class _Said(NamedTuple):
    """What a message of S3 says."""

    id: str
    upload: Upload
    deleted: bool


class Gate:
    """S3's ``Object Created`` becomes Upload Permitted, Halted or Rejected; ``Object Deleted``, Upload Withdrawn."""

    def __init__(self, guard: Guard, heads: Heads, uploads: Uploads, outbox: Outbox) -> None:
        self._guard = guard
        self._heads = heads
        self._uploads = uploads
        self._outbox = outbox

    def __call__(self, messages: Sequence[Message]) -> list[str]:
        """Settle every message; the ids of those to deliver again.

        What is asked about several uploads is asked once: the records, and the decision for a tenant and a purpose.
        """
        failed: list[str] = []
        # The decision is of the moment in which the batch first needs it.
        decide = functools.cache(self._guard.decide)
        said = each(((message, message) for message in messages), _said, failed)
        standing = together(said, self._standing, failed)
        judged = each(standing, lambda pair: self._one(*pair, decide), failed)
        self._outbox.settle_all([(message, event) for message, event in judged if event], failed)
        return failed

    def _standing(self, said: Sequence[_Said]) -> list[tuple[_Said, Standing]]:
        return list(zip(said, self._uploads.look([one.upload for one in said]), strict=True))

    def _one(self, said: _Said, standing: Standing, decide: Decide) -> Event | None:
        """What the upload is settled with now, if it is not settled yet."""
        settled = standing.settled
        if settled:
            # A later stage has it already, unless the gate is all there is: then its event may never have left.
            if settled.keys() == {topology.GATE.name}:
                self._outbox.tell(settled[topology.GATE.name])
            return None
        upload = said.upload
        # One version of many that is deleted for good is not the latest event on the key.
        if not (said.deleted and upload.version) and not self._uploads.claim(upload):
            return None
        try:
            return _withdrawn(upload) if said.deleted else self._judge(upload, decide)
        except ObjectGone:
            log.info(
                "object is gone, or was replaced; its next event will come", extra={"message_id": said.id}
            )
            return None

    def _judge(self, upload: Upload, decide: Decide) -> Event:
        try:
            upload = understand(upload)
        except KeyNotUnderstood as error:
            return rejected(topology.GATE.name, upload, "KEY_NOT_UNDERSTOOD", str(error))
        head = self._heads.head(upload)
        try:
            threshold = _threshold(head)
        except ValueError as error:
            return rejected(topology.GATE.name, upload, "INVALID_METADATA", str(error))
        purpose = head.metadata.get("purpose", UNSPECIFIED)
        decision = decide(upload.tenant, upload.action, purpose)
        if not decision.permitted:
            return events.UploadHalted(
                id=events.UploadHalted.identify(upload), time=timestamp(), upload=upload, decision=decision
            )
        return events.UploadPermitted(
            id=events.UploadPermitted.identify(upload),
            time=timestamp(),
            upload=upload,
            decision=decision,
            purpose=purpose,
            external_image_id=external_image_id(upload, head.metadata.get("external-image-id", "")),
            face_match_threshold=threshold,
        )


def _said(message: Message) -> _Said:
    deleted = message.envelope["detail-type"] == "Object Deleted"
    return _Said(message.id, from_s3(message.envelope["detail"]), deleted)


def _withdrawn(upload: Upload) -> Event | None:
    """The end of an upload; None if its key never said what it was, so that nothing can have come from it."""
    try:
        upload = understand(upload)
    except KeyNotUnderstood:
        return None
    return events.UploadWithdrawn(id=events.UploadWithdrawn.identify(upload), time=timestamp(), upload=upload)


def _threshold(head: Head) -> float | None:
    given = head.metadata.get("face-match-threshold")
    if given is None:
        return None
    try:
        threshold = float(given)
    except ValueError:
        threshold = -1.0
    if not 0 <= threshold <= 100:
        raise ValueError("The metadata face-match-threshold must be a number from 0 to 100.")
    return threshold
