"""The typed events of the pipeline: a versioned public contract, from which the JSON Schemas are made.

Each class is one EventBridge ``detail``; its ``detail-type`` is the class name in words (``UploadPermitted`` is
``Upload Permitted``). Identifiers are deterministic, so a subscriber recognises an event that a stage emits twice.
Boxes are shares of the upright image's width and height, as in Rekognition.
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

#: The kinds of uploads.
PHOTO, VIDEO = "photo", "video"


class Upload(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One version of one object, with the tenant, action and collection that its place has.

    In the uploads bucket its key names them. In a bucket that a tenant registered, the rules of that version do.
    """

    bucket: str
    key: str
    #: S3 version id where the bucket has versions, else the ETag without quotes; empty for a deletion.
    version: str
    #: S3's order of events on one key, as in the event; see :func:`abeyance.aws.sequencer.sequencer_order`.
    sequencer: str
    tenant: str = ""
    #: ``index``, ``search`` or ``analyze``.
    action: str = ""
    collection: str = ""
    etag: str = ""
    size: int = 0
    #: Version of the bucket's registration; 0 in the uploads bucket.
    registration: int = 0

    @property
    def identity(self) -> str:
        """The upload's id, 32 hexadecimal digits: equal for every redelivery of its event."""
        parts = "\0".join((self.bucket, self.key, self.version, self.sequencer))
        return hashlib.sha256(parts.encode()).hexdigest()[:32]

    @property
    def is_version_only(self) -> bool:
        """True if this is, as a deletion, one version of many that was deleted for good.

        One with an ETag was written over where no rule for uploads is in force any more.
        """
        return bool(self.version) and not self.etag

    @property
    def folder(self) -> str:
        """The prefix, ending in a slash, of everything that is derived from any version of this object."""
        return f"{self.tenant}/{hashlib.sha256(f'{self.bucket}/{self.key}'.encode()).hexdigest()[:32]}/"

    @property
    def photo(self) -> str:
        """The photo's id, 32 hexadecimal digits: equal for every upload of the same bytes to the same key."""
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
    """A model's answer and its calibrated confidence, 0 to 100: of the answers with 90, about 90 in 100 are right."""

    value: str
    confidence: float


class FaceAttributes(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The estimated attributes of a face. An attribute without a model, or with too little confidence, is absent."""

    #: Lowest and highest age in years.
    age_range: tuple[int, int] | None = None
    #: ``Female`` or ``Male``: a stranger's guess, not an identity.
    gender: Judgement | None = None
    #: Expressions of the face, not feelings of the person, by Rekognition's names: 0 to 100.
    emotions: dict[str, float] = {}
    #: ``true`` or ``false``.
    smile: Judgement | None = None
    mouth_open: Judgement | None = None
    eyes_open: Judgement | None = None


class Appearance(msgspec.Struct, frozen=True):
    """The first and the last sample of a time in which a person is in the picture, in milliseconds."""

    first_ms: int
    last_ms: int


class PersonTimes(msgspec.Struct, frozen=True, kw_only=True):
    """The times at which a person is in a video, in milliseconds since its start."""

    #: Of the best view.
    view_ms: int
    appearances: tuple[Appearance, ...]
    #: Number of samples with the person.
    samples: int


class DetectedFace(msgspec.Struct, frozen=True, kw_only=True):
    """A detected face. ``landmarks`` are five (x, y) shares of the image, the subject's right eye first."""

    box: Box
    confidence: float
    quality: Quality
    landmarks: tuple[tuple[float, float], ...]
    #: The reasons of the quality filter, as in Rekognition's ``UnindexedFaces``; empty for a face that passed it.
    reasons: tuple[str, ...] = ()
    #: Row of the chips file; -1 for a face that the quality filter left out.
    chip: int = -1
    #: Present if the upload's action is ``analyze``.
    attributes: FaceAttributes | msgspec.UnsetType = msgspec.UNSET
    #: Present for a person in a video, of whom the other fields show the best view.
    times: PersonTimes | msgspec.UnsetType = msgspec.UNSET


class Video(msgspec.Struct, frozen=True, kw_only=True):
    """The facts in a video's container; ``width`` and ``height`` are those of an upright frame, in pixels."""

    duration_ms: int
    width: int
    height: int
    #: Frames a second, on average; 0 if the container does not say.
    frame_rate: float
    codec: str
    #: ``mov`` (MP4 and QuickTime) or ``matroska`` (MKV and WebM).
    container: str


class VideoExamined(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a video that stands behind a result. A denied segment, and all that follow, are not in it."""

    video: Video
    #: Milliseconds from the start; the result is about these.
    examined_ms: int
    #: Milliseconds of the segments before that could not be decoded.
    unreadable_ms: int = 0
    #: The decision that ended the examination; absent if nothing did.
    halt: Decision | msgspec.UnsetType = msgspec.UNSET
    #: People that an event cannot carry: those with the fewest samples.
    people_left_out: int = 0


class VideoSource(msgspec.Struct, frozen=True, kw_only=True):
    """The object in S3 that a job reads, exactly that version."""

    bucket: str
    key: str
    version: str
    etag: str
    size: int


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
    """A probe and its candidates, nearest first; without candidates while they await review."""

    face: DetectedFace
    matches: tuple[Match, ...]


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of every event."""

    id: str
    #: Time of the outcome, UTC, RFC 3339.
    time: str
    upload: Upload
    schema: str = SCHEMA

    detail_type: ClassVar[str]
    #: Fields that the ledger must not hold: personal, biometric or large ones. A list is replaced by its length.
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

    @property
    def record(self) -> str:
        """The id of the record that the event is kept in: that of the upload, or of a part of it."""
        return self.upload.identity


class UploadPermitted(Event, frozen=True, kw_only=True):
    """The gate permits the upload: the next stage may read its pixels."""

    decision: Decision
    purpose: str
    external_image_id: str = ""
    #: Lowest similarity that the uploader asks for, 0 to 100; None for the deployment's.
    face_match_threshold: float | None = None
    #: Number of the authorisation that the uploader names, or "late"; empty for none.
    authorization: str = ""
    #: Id under which the request of a job used it; empty for an upload, which has its own.
    search: str = ""
    #: ``photo`` or ``video``, by the name of the object.
    media: str = PHOTO

    withheld_from_ledger: ClassVar[tuple[str, ...]] = ("external_image_id",)


class UploadHalted(Event, frozen=True, kw_only=True):
    """The gate denies the upload. Its bytes were not read."""

    decision: Decision


class UploadRejected(Event, frozen=True, kw_only=True):
    """The upload cannot be processed; ``reason`` is one of the documented codes, ``message`` says what to do."""

    stage: str
    reason: str
    message: str


class UploadWithdrawn(Event, frozen=True, kw_only=True):
    """The source object was deleted; everything that came from it is deleted too."""


class VideoRequested(Event, frozen=True, kw_only=True):
    """The decision for a job of the Rekognition API, which no gate sees, when the job begins."""

    decision: Decision
    purpose: str

    @property
    def record(self) -> str:
        return part_record(self.upload, "request")


class VideoOpened(Event, frozen=True, kw_only=True):
    """A video within the limits, and its segments, (start, end) in milliseconds; each is decided for by itself."""

    permitted: UploadPermitted
    decision: Decision
    video: Video
    segments: tuple[tuple[int, int], ...]
    #: Of a job of the Rekognition API; an upload is its own source.
    source: VideoSource | msgspec.UnsetType = msgspec.UNSET

    withheld_from_ledger: ClassVar[tuple[str, ...]] = ("permitted", "segments", "source")

    @property
    def record(self) -> str:
        return part_record(self.upload, "video")


class SegmentExamined(Event, frozen=True, kw_only=True):
    """A segment of a video. ``outcome`` is EXAMINED, HALTED (nothing of it is kept) or UNREADABLE."""

    #: Made when the segment began, and again when its end was recorded.
    decision: Decision
    segment: int
    start_ms: int
    end_ms: int
    outcome: str
    #: Number of tracks of faces, and of faces of which templates were made to link them.
    tracks: int = 0
    embedded: int = 0

    @property
    def record(self) -> str:
        return part_record(self.upload, self.segment)

    @classmethod
    def of_segment(cls, upload: Upload, segment: int, **fields: Any) -> Self:
        """Return the event for a segment, at the time now."""
        return cls(
            id=f"{cls.identify(upload)}:{segment}",
            time=timestamp(),
            upload=upload,
            segment=segment,
            **fields,
        )


def part_record(upload: Upload, part: str | int) -> str:
    """Return the id of the record of a part of an upload: a segment's number, or ``video`` for their plan."""
    return f"{upload.identity}#{part}"


class FacesDetected(Event, frozen=True, kw_only=True):
    """Faces were detected; their chips are in the chips bucket as one ``.npy`` file, (n, 112, 112, 3) uint8 RGB."""

    permitted: UploadPermitted
    #: Width and height of the upright photo in pixels.
    width: int
    height: int
    chips: str
    faces: tuple[DetectedFace, ...]
    #: Present for a video: ``faces`` are then people, and ``views`` are the faces that the rows after them show too.
    video: VideoExamined | msgspec.UnsetType = msgspec.UNSET
    views: tuple[int, ...] | msgspec.UnsetType = msgspec.UNSET

    withheld_from_ledger: ClassVar[tuple[str, ...]] = ("permitted", "faces", "chips", "views")


class RecognitionHalted(Event, frozen=True, kw_only=True):
    """The decision of a later stage denies the upload: a flag changed while the event waited. No template is kept."""

    decision: Decision
    #: Present for a video.
    video: VideoExamined | msgspec.UnsetType = msgspec.UNSET


class FacesIndexed(Event, frozen=True, kw_only=True):
    """The faces that were added to the gallery, ``faces``, or left out by the quality filter, ``unindexed``."""

    decision: Decision
    model: str
    faces: tuple[IndexedFace, ...]
    unindexed: tuple[DetectedFace, ...] = ()
    #: Present for a video: ``faces`` are then people.
    video: VideoExamined | msgspec.UnsetType = msgspec.UNSET

    withheld_from_ledger: ClassVar[tuple[str, ...]] = ("faces", "unindexed")


class FacesMatched(Event, frozen=True, kw_only=True):
    """The result of a search. ``threshold`` is the lowest similarity of a candidate."""

    decision: Decision
    model: str
    threshold: float
    faces: tuple[SearchedFace, ...]
    unsearched: tuple[DetectedFace, ...] = ()
    #: Number of candidates that an event cannot carry: the least similar ones of each face are left out.
    left_out: int = 0
    #: Number of people who must review the candidates; until then they are absent from ``faces``.
    reviewers: int = 0
    #: Present for a video: ``faces`` are then people.
    video: VideoExamined | msgspec.UnsetType = msgspec.UNSET

    withheld_from_ledger: ClassVar[tuple[str, ...]] = ("faces", "unsearched")


class MatchesReleased(Event, frozen=True, kw_only=True):
    """A finished review. ``faces`` has the candidates in which every reviewer recognised the person."""

    #: Made again when the review was finished.
    decision: Decision
    model: str
    threshold: float
    faces: tuple[SearchedFace, ...]
    #: Number of reviewers of each candidate, and number of candidates that are not released.
    reviewers: int
    withheld: int

    withheld_from_ledger: ClassVar[tuple[str, ...]] = ("faces",)


class MatchesWithheld(Event, frozen=True, kw_only=True):
    """A review that releases no candidate. ``reason`` is NOT_CONFIRMED, HALTED or GONE (no candidate is left)."""

    decision: Decision
    reason: str
    reviewers: int
    withheld: int


class AuthorizationLapsed(Event, frozen=True, kw_only=True):
    """An authorisation that was to follow did not arrive in time; everything made of the upload was deleted.

    ``due`` is the moment before which it had to arrive, and ``count`` the number of faces deleted from the gallery.
    """

    due: str
    count: int


class FacesAnalyzed(Event, frozen=True, kw_only=True):
    """The analysed faces; no template was made."""

    decision: Decision
    faces: tuple[DetectedFace, ...]
    #: Present for a video: ``faces`` are then people, told apart by where they are in the picture.
    video: VideoExamined | msgspec.UnsetType = msgspec.UNSET

    withheld_from_ledger: ClassVar[tuple[str, ...]] = ("faces",)


class FacesDeleted(Event, frozen=True, kw_only=True):
    """The faces of a withdrawn upload were deleted from the gallery, and its chips and result with them."""

    count: int


class EventRefused(Event, frozen=True, kw_only=True):
    """An event that no stage had recorded, or not like this. Only what was recorded is done.

    ``claimed`` is its detail-type; ``upload`` is as it said. ``reason`` is NOT_RECORDED, DIFFERS_FROM_RECORD, or
    DIFFERS_IN_WITHHELD_FIELDS, as after an erasure of the person while the event was under way.
    """

    stage: str
    claimed: str
    reason: str


EVENTS: tuple[type[Event], ...] = (
    UploadPermitted,
    UploadHalted,
    UploadRejected,
    UploadWithdrawn,
    VideoRequested,
    VideoOpened,
    SegmentExamined,
    FacesDetected,
    RecognitionHalted,
    FacesIndexed,
    FacesMatched,
    MatchesReleased,
    MatchesWithheld,
    FacesAnalyzed,
    AuthorizationLapsed,
    FacesDeleted,
    EventRefused,
)

BY_DETAIL_TYPE = {event.detail_type: event for event in EVENTS}


def parse(detail_type: str, detail: Any) -> Event:
    """Return an event from its EventBridge ``detail-type`` and ``detail``; raises ``msgspec.ValidationError``."""
    if detail_type not in BY_DETAIL_TYPE:
        raise msgspec.ValidationError(f"Unknown detail-type {detail_type!r}")
    return msgspec.convert(detail, BY_DETAIL_TYPE[detail_type])


def schemas() -> dict[str, dict[str, Any]]:
    """Return the JSON Schema of each event's ``detail``, by detail-type."""
    return {event.detail_type: json.loads(json.dumps(msgspec.json.schema(event))) for event in EVENTS}


def publish(folder: str) -> None:
    """Write the JSON Schemas to ``folder``, one file a detail-type."""
    for name, schema in schemas().items():
        path = Path(folder) / f"{name.lower().replace(' ', '-')}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(schema, indent=2) + "\n")


if __name__ == "__main__":
    publish(sys.argv[1])
