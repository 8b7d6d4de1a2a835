"""Findings in the segments of a video, in the chips bucket until the video is done, and the people made of them.

A segment has two files: ``.tracks``, its tracks without pixels, and ``.npy``, their best chips. A job's people have
one, ``.people``, with every sample, from which the Rekognition API answers.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from abeyance.embedding import npy
from abeyance.pipeline.events import (
    Appearance,
    Box,
    DetectedFace,
    FaceAttributes,
    PersonTimes,
    Quality,
    Upload,
)
from abeyance.pipeline.faces import detected_face
from abeyance.pipeline.ports import ObjectStore
from abeyance.pipeline.uploads import people_key
from abeyance.vision.video.people import TrackSummary, appearances, group_by_person
from abeyance.vision.video.tracks import Track

_MEDIA_TYPE: Final = "application/vnd.msgpack"
#: People of one video: as many as faces of one photo.
MAX_PEOPLE: Final = 100
#: Appearances of one person; the shortest gaps are closed.
MAX_APPEARANCES: Final = 20
#: A person who is gone for less is taken to have stayed.
_STAYED_MS: Final = 1_500
#: Chips of one person, of which the templates are averaged.
_MAX_VIEWS: Final = 5
#: A single sample is a person only from this confidence on, 0 to 100.
_SURE_PERCENT: Final = 90.0


class FaceSample(msgspec.Struct, frozen=True, array_like=True):
    """A face at a time; as :class:`~abeyance.pipeline.events.DetectedFace`, in little space."""

    time_ms: int
    #: Left, top, width and height, as shares of the picture.
    box: tuple[float, float, float, float]
    confidence: float
    #: Brightness, sharpness, yaw, pitch and roll.
    quality: tuple[float, float, float, float, float]
    landmarks: tuple[tuple[float, float], ...]
    reasons: tuple[str, ...] = ()
    attributes: FaceAttributes | None = None

    def face(self, chip: int = -1, times: PersonTimes | msgspec.UnsetType = msgspec.UNSET) -> DetectedFace:
        """Return the face as events carry it."""
        brightness, sharpness, yaw, pitch, roll = self.quality
        return DetectedFace(
            box=Box(*self.box),
            confidence=self.confidence,
            quality=Quality(brightness=brightness, sharpness=sharpness, yaw=yaw, pitch=pitch, roll=roll),
            landmarks=self.landmarks,
            reasons=self.reasons,
            chip=chip,
            attributes=self.attributes or msgspec.UNSET,
            times=times,
        )


class FoundTrack(msgspec.Struct, frozen=True, array_like=True):
    """A track of a segment."""

    samples: tuple[FaceSample, ...]
    #: The averaged template, float32; empty where none is made.
    template: bytes
    #: (score, sample, row of the segment's chips file) of the best views, best first.
    best: tuple[tuple[float, int, int], ...]


class FoundPerson(msgspec.Struct, frozen=True, array_like=True):
    """A person of a video: every sample, in order."""

    samples: tuple[FaceSample, ...]


class PeopleFound(msgspec.Struct, frozen=True):
    """The people of a video as an event carries them, the chips file that belongs to it, and the samples of each."""

    faces: tuple[DetectedFace, ...]
    #: (n, 112, 112, 3) uint8 RGB: a row for each face with a chip, and behind them further views.
    chips: NDArray[np.uint8]
    #: The chip of the same face, for each of the further rows.
    views: tuple[int, ...]
    samples: tuple[FoundPerson, ...]
    left_out: int


class Findings:
    """The files of segments and jobs."""

    def __init__(self, objects: ObjectStore, bucket: str) -> None:
        self._objects = objects
        self._bucket = bucket

    def keep(self, upload: Upload, segment: int, tracks: Sequence[Track]) -> None:
        """Write what was found in a segment."""
        chips: list[NDArray[np.uint8]] = []
        found = [_found(track, chips) for track in tracks]
        rows = np.stack(chips) if chips else np.empty((0, 112, 112, 3), np.uint8)
        self._put(f"{_segment_key(upload, segment)}.npy", npy.encode(rows), npy.MEDIA_TYPE)
        self._put(f"{_segment_key(upload, segment)}.tracks", msgspec.msgpack.encode(found), _MEDIA_TYPE)

    def people(self, upload: Upload, segments: Sequence[int], far: float) -> PeopleFound:
        """Return the people of some segments; ``far`` is the least cosine of two tracks of one person."""
        tracks: list[tuple[int, FoundTrack]] = []
        for segment in segments:
            body = self._objects.get(self._bucket, f"{_segment_key(upload, segment)}.tracks")
            tracks += [(segment, one) for one in msgspec.msgpack.decode(body, type=list[FoundTrack])]
        groups = group_by_person([_summary(*one) for one in tracks], far)
        people = [[tracks[i] for i in group] for group in groups]
        people = [person for person in people if _is_person(person)]
        kept = sorted(people, key=_sample_count, reverse=True)[:MAX_PEOPLE]
        kept.sort(key=_first_ms)
        return self._made(upload, kept, len(people) - len(kept))

    def write_samples(self, upload: Upload, people: Sequence[FoundPerson]) -> None:
        """Write every sample of a job's people, in the order of the event's faces."""
        self._put(people_key(upload), msgspec.msgpack.encode(people), _MEDIA_TYPE)

    def read_samples(self, upload: Upload) -> list[FoundPerson]:
        """Return every sample of a job's people; raises :class:`~abeyance.pipeline.ports.ObjectGone`."""
        body = self._objects.get(self._bucket, people_key(upload))
        return msgspec.msgpack.decode(body, type=list[FoundPerson])

    def delete_segments(self, upload: Upload) -> None:
        """Delete what was found in the segments, once the people are made of it or nothing may be kept."""
        self._objects.delete_all(self._bucket, _segments_prefix(upload))

    def _made(
        self, upload: Upload, people: Sequence[list[tuple[int, FoundTrack]]], left_out: int
    ) -> PeopleFound:
        views = [_views(person) for person in people]
        chips = self._chips(upload, [view for person in views for view in person])
        faces: list[DetectedFace] = []
        first: list[NDArray[np.uint8]] = []
        rest: list[NDArray[np.uint8]] = []
        owners: list[int] = []
        for person, own in zip(people, views, strict=True):
            usable = [view for view in own if not view.sample.reasons]
            best = (usable or own)[0]
            chip = len(first) if usable else -1
            faces.append(best.sample.face(chip, _times(person, best.sample.time_ms)))
            if usable:
                first.append(chips[usable[0].place])
                rest += [chips[view.place] for view in usable[1:_MAX_VIEWS]]
                owners += [chip] * len(usable[1:_MAX_VIEWS])
        rows = [*first, *rest]
        return PeopleFound(
            faces=tuple(faces),
            chips=np.stack(rows) if rows else np.empty((0, 112, 112, 3), np.uint8),
            views=tuple(owners),
            samples=tuple(FoundPerson(_all_samples(person)) for person in people),
            left_out=left_out,
        )

    def _chips(self, upload: Upload, views: Sequence[_View]) -> dict[tuple[int, int], NDArray[np.uint8]]:
        """Return chips by segment and row; each file is read once, and only the rows of ``views`` stay."""
        found = {}
        for segment in sorted({view.place[0] for view in views}):
            body = self._objects.get(self._bucket, f"{_segment_key(upload, segment)}.npy")
            rows = np.load(io.BytesIO(body), allow_pickle=False)
            for view in views:
                if view.place[0] == segment:
                    found[view.place] = rows[view.place[1]].copy()
        return found

    def _put(self, key: str, body: bytes, media_type: str) -> None:
        self._objects.put(self._bucket, key, body, media_type)


class _View(msgspec.Struct, frozen=True):
    """A view of a person: its score, its sample, and segment and row of its chip."""

    score: float
    sample: FaceSample
    place: tuple[int, int]


def _segments_prefix(upload: Upload) -> str:
    return f"{upload.folder}{upload.identity}.segment-"


def _segment_key(upload: Upload, segment: int) -> str:
    return f"{_segments_prefix(upload)}{segment:05}"


def _found(track: Track, chips: list[NDArray[np.uint8]]) -> FoundTrack:
    best = []
    for score, number, _ in track.best:
        best.append((score, number, len(chips)))
        chips.append(track.faces[number].chip)
    samples = []
    for time_ms, analyzed in zip(track.times_ms, track.faces, strict=True):
        face = detected_face(analyzed)
        quality = face.quality
        samples.append(
            FaceSample(
                time_ms=time_ms,
                box=(face.box.left, face.box.top, face.box.width, face.box.height),
                confidence=face.confidence,
                quality=(quality.brightness, quality.sharpness, quality.yaw, quality.pitch, quality.roll),
                landmarks=face.landmarks,
                reasons=face.reasons,
                attributes=face.attributes or None,
            )
        )
    return FoundTrack(tuple(samples), track.template.tobytes(), tuple(best))


def _summary(segment: int, track: FoundTrack) -> TrackSummary:
    first, last = track.samples[0], track.samples[-1]
    return TrackSummary(
        segment=segment,
        first_ms=first.time_ms,
        last_ms=last.time_ms,
        first_box=first.box,
        last_box=last.box,
        template=np.frombuffer(track.template, np.float32),
        samples=len(track.samples),
    )


def _is_person(person: Sequence[tuple[int, FoundTrack]]) -> bool:
    samples = [sample for _, track in person for sample in track.samples]
    return len(samples) > 1 or samples[0].confidence >= _SURE_PERCENT


def _sample_count(person: Sequence[tuple[int, FoundTrack]]) -> int:
    return sum(len(track.samples) for _, track in person)


def _first_ms(person: Sequence[tuple[int, FoundTrack]]) -> int:
    return min(track.samples[0].time_ms for _, track in person)


def _views(person: Sequence[tuple[int, FoundTrack]]) -> list[_View]:
    views = [
        _View(score, track.samples[number], (segment, row))
        for segment, track in person
        for score, number, row in track.best
    ]
    return sorted(views, key=lambda view: -view.score)


def _times(person: Sequence[tuple[int, FoundTrack]], view_ms: int) -> PersonTimes:
    spans = [(track.samples[0].time_ms, track.samples[-1].time_ms) for _, track in person]
    shown = appearances(spans, _STAYED_MS, MAX_APPEARANCES)
    return PersonTimes(
        view_ms=view_ms,
        appearances=tuple(Appearance(*span) for span in shown),
        samples=_sample_count(person),
    )


def _all_samples(person: Sequence[tuple[int, FoundTrack]]) -> tuple[FaceSample, ...]:
    return tuple(
        sorted((sample for _, track in person for sample in track.samples), key=lambda one: one.time_ms)
    )
