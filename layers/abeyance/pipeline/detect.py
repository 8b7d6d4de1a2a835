"""Detection: the only stage that decodes a photo. A bad photo ends here as Upload Rejected, with a reason."""

from __future__ import annotations

import functools
import io
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from abeyance.moratorium.guard import Guard
from abeyance.pipeline import events, topology
from abeyance.pipeline.events import Box, DetectedFace, Event, FaceAttributes, Judgement
from abeyance.pipeline.ports import ObjectGone, Objects
from abeyance.pipeline.stage import Message, Outbox, halted, one_by_one, rejected, timestamp
from abeyance.pipeline.uploads import chips_key
from abeyance.vision.alignment import align
from abeyance.vision.analysis import ATTRIBUTE_ROLES
from abeyance.vision.detector import Detector, FaceDetection
from abeyance.vision.errors import ImageRejected, RejectReason
from abeyance.vision.image import Limits, Photo, open_photo
from abeyance.vision.quality import QualityFilter, assess, unindexed_reasons

if TYPE_CHECKING:
    from abeyance.vision.attributes.estimate import Answer, AttributeEstimate
    from abeyance.vision.attributes.estimator import AttributeEstimator

log = logging.getLogger("abeyance")


class Detect:
    """Upload Permitted becomes Faces Detected, with the aligned chips in the chips bucket, or Upload Rejected."""

    def __init__(
        self,
        guard: Guard,
        objects: Objects,
        outbox: Outbox,
        detector: Callable[[], Detector],
        chips_bucket: str,
        limits: Limits | None = None,
        attributes: Callable[[], AttributeEstimator] | None = None,
    ) -> None:
        self._guard = guard
        self._objects = objects
        self._outbox = outbox
        self._detector = detector
        self._chips_bucket = chips_bucket
        self._limits = limits or Limits()
        self._attributes = attributes

    def __call__(self, messages: Sequence[Message]) -> list[str]:
        """Settle every message; the ids of those to deliver again."""
        return one_by_one(messages, self._one)

    def _one(self, message: Message) -> None:
        permitted = message.event()
        assert isinstance(permitted, events.UploadPermitted), permitted.detail_type
        upload = permitted.upload
        if self._outbox.repeat(upload):
            if not self._outbox.is_latest(upload):
                # Whoever was cut off may have left chips behind when the later event's stages had tidied up.
                self._objects.delete(self._chips_bucket, chips_key(upload))
            return
        decision = self._guard.decide(upload.tenant, upload.action, permitted.purpose)
        if not decision.permitted:
            self._outbox.settle(halted(upload, decision))
            return
        try:
            event = self._detect(permitted, last=message.receives >= topology.DETECT.max_receives)
        except ObjectGone:
            log.info(
                "object is gone, or was replaced; its next event will come", extra={"message_id": message.id}
            )
            return
        except ImageRejected as error:
            event = _rejected(permitted.upload, str(error.reason), str(error))
        self._outbox.settle(event)

    def _detect(self, permitted: events.UploadPermitted, *, last: bool) -> Event:
        upload = permitted.upload
        if upload.size > self._limits.max_bytes:
            raise ImageRejected(
                RejectReason.TOO_MANY_BYTES,
                f"The image has {upload.size} bytes, at most {self._limits.max_bytes} are accepted; make it smaller.",
            )
        body = self._objects.read(upload)
        if last:
            # S3 answers, so it is this photo that ended every attempt, by an exception or with the whole process.
            return _rejected(
                upload, "UNPROCESSABLE", "The image could not be processed. Save it anew and upload that."
            )
        photo = open_photo(body, self._limits)
        found = self._detector().detect(photo)
        if not found and upload.action != "analyze":
            return _rejected(upload, "NO_FACE", "No face was found in the image.")
        quality_filter = QualityFilter.AUTO if upload.action == "index" else QualityFilter.NONE
        chips = align(photo, np.stack([face.landmarks for face in found])) if found else _NO_CHIPS
        faces, kept = _describe(photo, found, chips, quality_filter)
        if upload.action == "analyze" and self._attributes and found:
            faces = _analysed(faces, self._attributes().estimate(photo.pixels, found, ATTRIBUTE_ROLES))
        key = chips_key(upload)
        rows = io.BytesIO()
        np.save(rows, chips[kept], allow_pickle=False)
        self._objects.put(self._chips_bucket, key, rows.getvalue(), "application/x-npy")
        return events.FacesDetected(
            id=events.FacesDetected.identify(upload),
            time=timestamp(),
            upload=upload,
            permitted=permitted,
            width=photo.width,
            height=photo.height,
            chips=key,
            faces=faces,
        )


_NO_CHIPS = np.empty((0, 112, 112, 3), np.uint8)


def _describe(
    photo: Photo, found: Sequence[FaceDetection], chips: np.ndarray, quality_filter: QualityFilter
) -> tuple[tuple[DetectedFace, ...], list[int]]:
    """The faces as events carry them, and whose chips are wanted, in the order of the chips file."""
    width, height = photo.width, photo.height
    faces: list[DetectedFace] = []
    kept: list[int] = []
    for number, (face, chip) in enumerate(zip(found, chips, strict=True)):
        quality = assess(photo, face, chip)
        why = unindexed_reasons(quality, face, quality_filter)
        x, y, w, h = face.box
        faces.append(
            DetectedFace(
                box=Box(_share(x, width), _share(y, height), _share(w, width), _share(h, height)),
                confidence=round(100 * face.confidence, 3),
                quality=events.Quality(
                    brightness=round(quality.brightness, 3),
                    sharpness=round(quality.sharpness, 3),
                    yaw=round(quality.yaw, 3),
                    pitch=round(quality.pitch, 3),
                    roll=round(quality.roll, 3),
                ),
                landmarks=tuple((_share(px, width), _share(py, height)) for px, py in face.landmarks),
                reasons=why,
                chip=-1 if why else len(kept),
            )
        )
        if not why:
            kept.append(number)
    return tuple(faces), kept


def _share(pixels: float, whole: int) -> float:
    """A share of the photo's side; six decimals are a hundredth of a pixel in the largest photo."""
    return round(float(pixels) / whole, 6)


def _analysed(faces: Sequence[DetectedFace], judged: Sequence[AttributeEstimate]) -> tuple[DetectedFace, ...]:
    """The faces with what may be said of them."""

    def word(answer: Answer | None) -> Judgement | None:
        return Judgement(answer.value, round(100 * answer.confidence, 3)) if answer else None

    return tuple(
        msgspec.structs.replace(
            face,
            attributes=FaceAttributes(
                age_range=own.ages,
                gender=word(own.gender),
                emotions={name: round(100 * share, 3) for name, share in (own.expression or {}).items()},
                smile=word(own.smile),
                mouth_open=word(own.mouth_open),
            ),
        )
        for face, own in zip(faces, judged, strict=True)
    )


_rejected = functools.partial(rejected, topology.DETECT.name)
