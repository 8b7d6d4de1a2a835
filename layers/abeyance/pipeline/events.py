"""The typed events of the pipeline: a versioned public contract, from which the JSON Schemas are made.

Each class is one EventBridge ``detail``; its ``detail-type`` is the class name in words (``UploadPermitted`` is
``Upload Permitted``). Identifiers are deterministic, so a stage that runs twice says the same thing twice and
whoever listens can tell. Boxes are shares of the upright image's width and height, as in Rekognition.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any, ClassVar, Self

import msgspec

from abeyance.aws.timestamps import timestamp
from abeyance.moratorium.decide import Decision

#: Version of this contract. A field may be added under the same number; nothing is removed or changes its meaning.
SCHEMA = "1"


class Upload(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One version of one object in the uploads bucket, and what its key says."""

    bucket: str
    key: str
    #: S3 version id where the bucket has versions, else the ETag without quotes; empty for a deletion.
    version: str
    #: S3's order of events on one key, as in the event: hexadecimal, compared after padding on the right.
    sequencer: str
    tenant: str = ""
    #: ``index``, ``search`` or ``analyze``.
    action: str = ""
    collection: str = ""
    etag: str = ""
    size: int = 0

    @property
    def identity(self) -> str:
        """What makes this upload itself, as hexadecimal digits: equal for every redelivery of its event."""
        parts = "\0".join((self.bucket, self.key, self.version, self.sequencer))
        return hashlib.sha256(parts.encode()).hexdigest()[:32]

    @property
    def folder(self) -> str:
        """Prefix, ending in a slash, of all that is derived from any version of this object."""
        return f"{self.tenant}/{hashlib.sha256(f'{self.bucket}/{self.key}'.encode()).hexdigest()[:32]}/"

    @property
    def photo(self) -> str:
        """The same for every upload of the same bytes to the same key, as hexadecimal digits."""
        return hashlib.sha256("\0".join((self.bucket, self.key, self.version)).encode()).hexdigest()[:32]


class Box(msgspec.Struct, frozen=True):
    """Left, top, width and height as shares of the image's width and height."""

    left: float
    top: float
    width: float
    height: float


class Quality(msgspec.Struct, frozen=True):
    """Brightness and sharpness, 0 to 100; pose in degrees (yaw, pitch and roll, signs as in Rekognition)."""

    brightness: float
    sharpness: float
    yaw: float
    pitch: float
    roll: float


class Judgement(msgspec.Struct, frozen=True):
    """What a model says, and how sure it is, 0 to 100: of the answers given with 90, about 90 in 100 are right."""

    value: str
    confidence: float


class FaceAttributes(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a face seems to be. Whatever no model tells, or none is sure enough of, is absent."""

    #: Lowest and highest age in years.
    age_range: tuple[int, int] | None = None
    #: ``Female`` or ``Male``, as a stranger would guess.
    gender: Judgement | None = None
    #: How the face looks, not what anybody feels: Rekognition's names, 0 to 100.
    emotions: dict[str, float] = {}
    #: ``true`` or ``false``.
    smile: Judgement | None = None
    mouth_open: Judgement | None = None


class DetectedFace(msgspec.Struct, frozen=True, kw_only=True):
    """A face that was found. ``landmarks`` are five (x, y) shares of the image, the subject's right eye first."""

    box: Box
    confidence: float
    quality: Quality
    landmarks: tuple[tuple[float, float], ...]
    #: Why the quality filter set it aside, as Rekognition's ``UnindexedFaces`` reasons; empty if it passed.
    reasons: tuple[str, ...] = ()
    #: Which row of the chips file; -1 for a face that was set aside.
    chip: int = -1
    #: Only there where the upload's action is ``analyze``.
    attributes: FaceAttributes | msgspec.UnsetType = msgspec.UNSET


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate from the gallery. ``similarity`` is 0 to 100, a calibrated function of the false-match rate."""

    face_id: str
    similarity: float
    external_image_id: str = ""


class IndexedFace(msgspec.Struct, frozen=True, kw_only=True):
    """A face that is now in the gallery."""

    face_id: str
    external_image_id: str
    face: DetectedFace


class SearchedFace(msgspec.Struct, frozen=True, kw_only=True):
    """A probe and its candidates, nearest first. While a review is awaited the candidates are not shown."""

    face: DetectedFace
    matches: tuple[Match, ...]


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """What all events carry."""

    id: str
    #: When the stage came to it, UTC, RFC 3339.
    time: str
    upload: Upload
    schema: str = SCHEMA

    detail_type: ClassVar[str]
    #: Fields that the ledger must not hold: what is personal, biometric or large. Each is replaced by its count.
    withheld_from_ledger: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        cls.detail_type = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", cls.__name__)
        super().__init_subclass__(**kwargs)

    @classmethod
    def of(cls, upload: Upload, **fields: Any) -> Self:
        """Return the event of this kind for an upload, at the time now; ``fields`` are those of the kind."""
        return cls(id=cls.identify(upload), time=timestamp(), upload=upload, **fields)

    @classmethod
    def identify(cls, upload: Upload) -> str:
        """Return the one id of this kind of event for this upload."""
        return f"{cls.detail_type.lower().replace(' ', '-')}:{upload.identity}"


class UploadPermitted(Event, frozen=True, kw_only=True):
    """The gate lets the upload pass: a stage may read its pixels."""

    decision: Decision
    purpose: str
    external_image_id: str = ""
    #: Lowest similarity that the uploader asks for; None for the deployment's.
    face_match_threshold: float | None = None

    withheld_from_ledger: ClassVar[tuple[str, ...]] = ("external_image_id",)


class UploadHalted(Event, frozen=True, kw_only=True):
    """The gate does not let the upload pass. Its bytes were not read."""

    decision: Decision


class UploadRejected(Event, frozen=True, kw_only=True):
    """The upload cannot be processed; ``reason`` is one of the documented codes, ``message`` says what to do."""

    stage: str
    reason: str
    message: str


class UploadWithdrawn(Event, frozen=True, kw_only=True):
    """The source object was deleted, and what came from it goes too."""


class FacesDetected(Event, frozen=True, kw_only=True):
    """Faces were found; the aligned chips lie in the chips bucket as one ``.npy``, (n, 112, 112, 3) uint8 RGB."""

    permitted: UploadPermitted
    #: Width and height of the upright photo in pixels.
    width: int
    height: int
    chips: str
    faces: tuple[DetectedFace, ...]

    withheld_from_ledger: ClassVar[tuple[str, ...]] = ("permitted", "faces", "chips")


class RecognitionHalted(Event, frozen=True, kw_only=True):
    """A flag changed while the event waited: no template was made."""

    decision: Decision


class FacesIndexed(Event, frozen=True, kw_only=True):
    """Templates were added to the gallery, ``faces``, or set aside by the quality filter, ``unindexed``."""

    decision: Decision
    model: str
    faces: tuple[IndexedFace, ...]
    unindexed: tuple[DetectedFace, ...] = ()

    withheld_from_ledger: ClassVar[tuple[str, ...]] = ("faces", "unindexed")


class FacesMatched(Event, frozen=True, kw_only=True):
    """The probes were searched for. ``threshold`` is the similarity that a candidate had to reach."""

    decision: Decision
    model: str
    threshold: float
    faces: tuple[SearchedFace, ...]
    unsearched: tuple[DetectedFace, ...] = ()
    #: Candidates that were found and left out, the least similar of each face, because an event cannot carry them.
    left_out: int = 0
    #: How many people must look before the candidates are shown; they are absent from ``faces`` until then.
    reviewers: int = 0

    withheld_from_ledger: ClassVar[tuple[str, ...]] = ("faces", "unsearched")


class MatchesReleased(Event, frozen=True, kw_only=True):
    """People have looked, and every one of them saw the same person in the candidates that are in ``faces``."""

    #: Decided again when the last of them had looked.
    decision: Decision
    model: str
    threshold: float
    faces: tuple[SearchedFace, ...]
    #: How many people looked at each candidate, and how many candidates are not released.
    reviewers: int
    withheld: int

    withheld_from_ledger: ClassVar[tuple[str, ...]] = ("faces",)


class MatchesWithheld(Event, frozen=True, kw_only=True):
    """No candidate is released. ``reason`` is NOT_CONFIRMED, HALTED or GONE (nothing was left to decide about)."""

    decision: Decision
    reason: str
    reviewers: int
    withheld: int


class FacesAnalyzed(Event, frozen=True, kw_only=True):
    """The faces were described; no template was made."""

    decision: Decision
    faces: tuple[DetectedFace, ...]

    withheld_from_ledger: ClassVar[tuple[str, ...]] = ("faces",)


class FacesDeleted(Event, frozen=True, kw_only=True):
    """The faces that came from a withdrawn upload are gone from the gallery, and its chips and result with them."""

    count: int


EVENTS: tuple[type[Event], ...] = (
    UploadPermitted,
    UploadHalted,
    UploadRejected,
    UploadWithdrawn,
    FacesDetected,
    RecognitionHalted,
    FacesIndexed,
    FacesMatched,
    MatchesReleased,
    MatchesWithheld,
    FacesAnalyzed,
    FacesDeleted,
)

BY_DETAIL_TYPE = {event.detail_type: event for event in EVENTS}


def parse(detail_type: str, detail: Any) -> Event:
    """An event from its EventBridge ``detail-type`` and ``detail``; raises ``msgspec.ValidationError``."""
    if detail_type not in BY_DETAIL_TYPE:
        raise msgspec.ValidationError(f"Unknown detail-type {detail_type!r}")
    return msgspec.convert(detail, BY_DETAIL_TYPE[detail_type])


def schemas() -> dict[str, dict[str, Any]]:
    """The JSON Schema of each event's ``detail``, by detail-type."""
    return {event.detail_type: json.loads(json.dumps(msgspec.json.schema(event))) for event in EVENTS}


def publish(folder: str) -> None:
    """Write the JSON Schemas to ``folder``, one file a detail-type."""
    for name, schema in schemas().items():
        path = Path(folder) / f"{name.lower().replace(' ', '-')}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(schema, indent=2) + "\n")


if __name__ == "__main__":
    publish(sys.argv[1])
