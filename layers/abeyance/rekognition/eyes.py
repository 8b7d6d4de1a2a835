"""What is seen in a photo: faces as the service describes them, and their templates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from abeyance.embedding.port import Embedder
from abeyance.rekognition.call import Timings
from abeyance.rekognition.wire import single
from abeyance.vision.detector import Detector, Face
from abeyance.vision.image import Photo
from abeyance.vision.similarity import SimilarityScale

#: Most faces of one photo, the largest.
MAX_FACES: Final = 100
_NO_CHIPS: Final = np.empty((0, 112, 112, 3), np.uint8)
#: Members of FaceDetail that are always there; every other one is an attribute that must be asked for.
DEFAULT_ATTRIBUTES: Final = frozenset({"DEFAULT"})
#: The service's names of our five points. It counts sides as the viewer sees them, the detector as the person does.
LANDMARKS: Final = ("eyeLeft", "eyeRight", "nose", "mouthLeft", "mouthRight")


class Attributes(Protocol):
    """Describes faces beyond the default attributes."""

    def describe(
        self, pixels: NDArray[np.uint8], faces: Sequence[Face], wanted: frozenset[str]
    ) -> list[Mapping[str, Any]]:
        """For each face the members of a FaceDetail that ``wanted``, names of the model's enum, asks for."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """One face of a photo."""

    face: Face
    #: (112, 112, 3) uint8 RGB, aligned.
    chip: NDArray[np.uint8]
    #: FaceDetail, as the service writes it.
    detail: Mapping[str, Any]
    #: Why the quality filter sets it aside; empty if it does not.
    reasons: tuple[str, ...]

    @property
    def box(self) -> tuple[float, float, float, float]:
        """left, top, width, height as shares of the upright photo."""
        box = self.detail["BoundingBox"]
        return box["Left"], box["Top"], box["Width"], box["Height"]


class Eyes:
    """Decodes, detects, judges and embeds. Models are loaded when they are first needed.

    Parameters
    ----------
    detector, embedder, scale
        Give the loaded model; called for each use.
    attributes
        Gives what describes faces beyond the default; without it, only the default attributes are answered.
    """

    def __init__(
        self,
        detector: Callable[[], Detector],
        embedder: Callable[[], Embedder],
        scale: Callable[[], SimilarityScale],
        attributes: Callable[[], Attributes] | None = None,
    ) -> None:
        self._detector = detector
        self._embedder = embedder
        self._scale = scale
        self._attributes = attributes

    def look(
        self,
        data: bytes,
        timings: Timings,
        *,
        quality: str = "NONE",
        wanted: frozenset[str] = DEFAULT_ATTRIBUTES,
    ) -> tuple[Seen, ...]:
        """Find and describe the faces of an encoded photo, largest first; raises ``ImageRejected``."""
        from abeyance.vision.alignment import align
        from abeyance.vision.image import open_photo
        from abeyance.vision.quality import assess, reasons

        with timings.measure("decode"):
            photo = open_photo(data)
        with timings.measure("detect"):
            faces = self._detector().detect(photo, max_faces=MAX_FACES)
        with timings.measure("describe"):
            chips = align(photo, np.stack([face.landmarks for face in faces])) if faces else _NO_CHIPS
            more = self._describe(photo, faces, wanted)
            seen = []
            for face, chip, extra in zip(faces, chips, more, strict=True):
                judged = assess(photo, face, chip)
                why = tuple(map(str, reasons(judged, face, quality)))
                seen.append(Seen(face, chip, {**_detail(photo.shape, face, judged), **extra}, why))
        return tuple(seen)

    def templates(self, faces: Sequence[Seen], timings: Timings) -> NDArray[np.float32]:
        """Templates of faces, (n, d) float32, unit length."""
        with timings.measure("embed"):
            return self._embedder().embed(np.stack([seen.chip for seen in faces]))

    def similarity(self, cosine: float) -> float:
        """0 to 100, as the service writes it."""
        return single(min(100.0, max(0.0, float(self._scale().similarity(cosine)))))

    def cosine(self, similarity: float) -> float:
        """The cosine at which a similarity begins."""
        return float(self._scale().cosine(similarity))

    def _describe(
        self, photo: Photo, faces: Sequence[Face], wanted: frozenset[str]
    ) -> Sequence[Mapping[str, Any]]:
        if self._attributes is None or wanted <= DEFAULT_ATTRIBUTES or not faces:
            return [{} for _ in faces]
        described: Sequence[Mapping[str, Any]] = written(
            self._attributes().describe(photo.pixels, faces, wanted)
        )
        return described


def written(value: Any) -> Any:
    """A copy whose floats are in single precision, as the service writes them."""
    if isinstance(value, float):
        return single(value)
    if isinstance(value, Mapping):
        return {name: written(item) for name, item in value.items()}
    return [written(item) for item in value] if isinstance(value, list | tuple) else value


def _detail(shape: tuple[int, ...], face: Face, quality: Any) -> dict[str, Any]:
    height, width = shape[:2]
    x, y, w, h = face.box
    return {
        "BoundingBox": wire_box((x / width, y / height, w / width, h / height)),
        "Landmarks": [
            {"Type": name, "X": single(px / width), "Y": single(py / height)}
            for name, (px, py) in zip(LANDMARKS, face.landmarks.tolist(), strict=True)
        ],
        "Pose": {
            "Roll": _degrees(quality.roll),
            "Yaw": _degrees(quality.yaw),
            "Pitch": _degrees(quality.pitch),
        },
        "Quality": {"Brightness": single(quality.brightness), "Sharpness": single(quality.sharpness)},
        "Confidence": percent(face.confidence),
    }


def wire_box(box: tuple[float, float, float, float]) -> dict[str, float]:
    """A BoundingBox of left, top, width, height."""
    left, top, width, height = box
    return {"Width": single(width), "Height": single(height), "Left": single(left), "Top": single(top)}


def percent(share: float) -> float:
    """A Percent of 0 to 1."""
    return single(min(100.0, max(0.0, 100 * share)))


def _degrees(angle: float) -> float:
    return single(min(180.0, max(-180.0, angle)))
