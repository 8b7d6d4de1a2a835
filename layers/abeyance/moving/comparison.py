"""The same probes against Amazon Rekognition and a deployment, and where their answers differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from abeyance.aws.errors import aws_code
from abeyance.moving.journal import Journal, SourceFace
from abeyance.moving.photos import PhotoMissing, PhotoReader
from abeyance.moving.rekognition import image_of


class ProbeDifference(msgspec.Struct, frozen=True):
    """The answers to one probe. Faces are named by their ids in the collection that was read."""

    probe: str
    #: Similarity of each match, 0 to 100, by face.
    there: dict[str, float]
    here: dict[str, float]
    #: The error that one of the two gave instead; empty for none.
    error: str = ""

    @property
    def only_there(self) -> list[str]:
        """Moved faces that match there and not here."""
        return sorted(self.there.keys() - self.here.keys())

    @property
    def only_here(self) -> list[str]:
        """Faces that match here and not there."""
        return sorted(self.here.keys() - self.there.keys())

    @property
    def same_first(self) -> bool:
        """True if both have the same best match, or neither has any."""
        there, here = _best(self.there), _best(self.here)
        return bool(there & here) or not (there or here)


class AnswerComparison(msgspec.Struct, frozen=True):
    """The comparison of all probes."""

    probes: int
    threshold: float
    same_matches: int
    same_first: int
    differences: tuple[ProbeDifference, ...]


def compare(
    source: Any,
    source_collection: str,
    api: Any,
    collection: str,
    photos: PhotoReader,
    journal: Journal,
    *,
    probes: int,
    threshold: float = 80.0,
    advance: Callable[[int], None] = lambda _: None,
) -> AnswerComparison:
    """Search with the photos of moved faces in both; the largest face of each photo is the probe.

    Faces that were not moved are left out of the answers. Amazon bills each search.

    Parameters
    ----------
    probes
        Number of photos.
    threshold
        FaceMatchThreshold in both, 0 to 100. The two scales differ: Amazon does not publish its own.
    """
    results = []
    for face in journal.moved(probes):
        results.append(
            _probe(
                face,
                photos,
                lambda image: _matches(source, source_collection, image, threshold, journal.moved_id),
                lambda image: _matches(api, collection, image, threshold, journal.old_id),
            )
        )
        advance(len(results))
    return AnswerComparison(
        len(results),
        threshold,
        sum(not one.error and one.there.keys() == one.here.keys() for one in results),
        sum(not one.error and one.same_first for one in results),
        tuple(
            one for one in results if one.error or one.there.keys() != one.here.keys() or not one.same_first
        ),
    )


def _probe(
    face: SourceFace,
    photos: PhotoReader,
    search_there: Callable[[dict[str, Any]], dict[str, float]],
    search_here: Callable[[dict[str, Any]], dict[str, float]],
) -> ProbeDifference:
    try:
        image = image_of(photos.read(face))
    except PhotoMissing as missing:
        return ProbeDifference(face.face_id, {}, {}, str(missing))
    answers: list[dict[str, float]] = []
    errors: list[str] = []
    for search in (search_there, search_here):
        try:
            answers.append(search(image))
        except Exception as error:
            # No face was found in the photo, or it cannot be read: an answer that is to be compared.
            if aws_code(error) not in ("InvalidParameterException", "InvalidImageFormatException"):
                raise
            answers.append({})
            errors.append(aws_code(error))
    return ProbeDifference(face.face_id, answers[0], answers[1], errors[0] if len(errors) == 1 else "")


def _matches(
    client: Any,
    collection: str,
    image: dict[str, Any],
    threshold: float,
    name: Callable[[str], Sequence[str]],
) -> dict[str, float]:
    """Return the similarity of each match, by the names of its face in the collection that was read."""
    answer = client.search_faces_by_image(
        CollectionId=collection,
        Image=image,
        FaceMatchThreshold=threshold,
        MaxFaces=4096,
        QualityFilter="NONE",
    )
    return {
        face_id: round(one["Similarity"], 2)
        for one in answer["FaceMatches"]
        for face_id in name(one["Face"]["FaceId"])
    }


def _best(matches: dict[str, float]) -> set[str]:
    """Return the faces with the highest similarity; several, where it is the same."""
    highest = max(matches.values(), default=0.0)
    return {face_id for face_id, similarity in matches.items() if similarity == highest}
