"""Photo to faces: decode, detect, align, measure quality and, where asked, estimate attributes.

Detection, the Rekognition API, the console and the evaluation all analyse photos here, so that they see the same
boxes, chips and reasons.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from abeyance.vision.alignment import CHIP, align
from abeyance.vision.boxes import iou
from abeyance.vision.detector import MAX_FACES, MIN_CONFIDENCE, Detector, FaceDetection
from abeyance.vision.image import DEFAULT_LIMITS, Limits, Photo, open_photo
from abeyance.vision.models.manifest import ModelRole
from abeyance.vision.quality import FaceQuality, QualityFilter, UnindexedReason, assess, unindexed_reasons

if TYPE_CHECKING:
    from abeyance.vision.attributes.estimate import AttributeEstimate
    from abeyance.vision.attributes.estimator import AttributeEstimator

#: The roles whose models estimate attributes.
ATTRIBUTE_ROLES: Final = frozenset(
    {ModelRole.AGE, ModelRole.GENDER, ModelRole.EXPRESSION, ModelRole.MESH, ModelRole.IRIS}
)

#: Faces of a photo whose attributes are estimated: each takes some 10 ms, twice that on a slow or busy machine.
_MAX_ESTIMATED: Final = 64
#: The same of a photo whose decoding takes long.
_MAX_ESTIMATED_OF_A_COSTLY_PHOTO: Final = 24

#: Chooses detections of a photo of ``shape`` (height, width, 3).
Selection: TypeAlias = Callable[[Sequence[FaceDetection], tuple[int, int, int]], Sequence[FaceDetection]]
#: Measures the time of a named step: ``decode``, ``detect`` or ``describe``.
Measure: TypeAlias = Callable[[str], contextlib.AbstractContextManager[None]]


@dataclass(frozen=True, slots=True, eq=False)
class AnalyzedFace:
    """A face of a photo.

    Pixels are those of the upright photo: x runs right, y runs down, (0, 0) is the top left corner. Shares are
    those pixels divided by the photo's width (x) or height (y).
    """

    #: x, y, width, height in pixels. A face at the border may reach outside the photo.
    box: tuple[float, float, float, float]
    #: (5, 2) float32 in pixels: right eye, left eye, nose tip, right and left mouth corner; the person's own sides.
    landmarks: NDArray[np.float32]
    #: Share of faces among detections like this one, 0 to 1; see :meth:`abeyance.vision.detector.Detector.certainty`.
    confidence: float
    quality: FaceQuality
    #: Reasons for which the quality filter leaves the face out; empty if it meets the filter.
    reasons: tuple[UnindexedReason, ...]
    #: (112, 112, 3) uint8 RGB, aligned.
    chip: NDArray[np.uint8]
    #: Width and height of the photo in pixels.
    photo_size: tuple[int, int]
    #: None unless attributes were asked for.
    attributes: AttributeEstimate | None = None

    @property
    def relative_box(self) -> tuple[float, float, float, float]:
        """Left, top, width and height as shares of the photo."""
        x, y, width, height = self.box
        across, down = self.photo_size
        return x / across, y / down, width / across, height / down

    @property
    def relative_landmarks(self) -> tuple[tuple[float, float], ...]:
        """The five points as shares of the photo, in the order of ``landmarks``."""
        across, down = self.photo_size
        return tuple((x / across, y / down) for x, y in self.landmarks.tolist())


@dataclass(frozen=True, slots=True, eq=False)
class AnalyzedPhoto:
    """A decoded photo and its faces."""

    #: Pixels of the upright photo.
    width: int
    height: int
    #: Largest box first, unless a selection ordered them otherwise.
    faces: tuple[AnalyzedFace, ...]
    #: Number of faces that were detected, before any selection.
    detected: int

    @property
    def chips(self) -> NDArray[np.uint8]:
        """(n, 112, 112, 3) uint8 RGB: the chips of ``faces``."""
        return np.stack([face.chip for face in self.faces]) if self.faces else _NO_CHIPS


#: A detected face is a face that was seen before from this intersection over union on.
SAME_BOX_IOU: Final = 0.5


def face_at(faces: Sequence[AnalyzedFace], box: tuple[float, float, float, float]) -> AnalyzedFace | None:
    """Return the face of a photo that is where a face was seen before; None if none is.

    Parameters
    ----------
    box
        Left, top, width, height as shares of the photo.
    """
    if not faces:
        return None
    overlaps = iou(box, [one.relative_box for one in faces])[0]
    best = int(np.argmax(overlaps))
    return faces[best] if overlaps[best] >= SAME_BOX_IOU else None


_NO_CHIPS: Final = np.empty((0, CHIP, CHIP, 3), np.uint8)


class FaceAnalyzer:
    """Analysis of photos with the models of a deployment. May be used from several threads at once.

    Parameters
    ----------
    detector, attributes
        Return the loaded models; called for each use, and only where they are needed.
    limits
        Limits of accepted images.

    Examples
    --------
    >>> analyzer = FaceAnalyzer(load_detector, load_attributes)  # doctest: +SKIP
    >>> [face.box for face in analyzer.analyze(jpeg).faces]  # doctest: +SKIP
    [(224.1, 66.2, 92.7, 121.3)]
    """

    def __init__(
        self,
        detector: Callable[[], Detector],
        attributes: Callable[[], AttributeEstimator],
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self._detector = detector
        self._attributes = attributes
        self.limits = limits

    def open_models(self, attributes: Collection[ModelRole] = ()) -> None:
        """Open the detector and the attribute models for ``attributes``.

        A caller that gives up on a photo calls this first, so that a missing model is never taken for a bad photo.

        Raises
        ------
        ModelError
            If a model is missing, damaged or cannot be run.
        """
        self._detector()
        if attributes:
            self._attributes().open(attributes)

    def analyze(
        self,
        data: bytes | Photo,
        *,
        quality_filter: QualityFilter = QualityFilter.NONE,
        attributes: Collection[ModelRole] = (),
        min_confidence: float = MIN_CONFIDENCE,
        max_faces: int = MAX_FACES,
        select: Selection | None = None,
        measure: Measure = lambda _: contextlib.nullcontext(),
    ) -> AnalyzedPhoto:
        """Find the faces of a photo and describe them.

        Parameters
        ----------
        data
            A JPEG, PNG or WebP file, or a photo that is open already.
        quality_filter
            Decides ``reasons``; faces that do not meet it stay in the result.
        attributes
            Roles of the attribute models to ask, such as :data:`ATTRIBUTE_ROLES`. Only the first 64 faces are
            estimated, of a photo whose decoding takes long the first 24, and every answer for the others is withheld.
            A photo of more than 16 megapixels is taken in half its size, where the decoder gives that.
        min_confidence
            Of the network, 0 to 1; less certain detections are left out.
        max_faces
            The largest detections are kept.
        select
            Keeps some of the detections; the others are counted, and neither aligned nor described.
        measure
            Measures each step.

        Raises
        ------
        ImageRejected
            If the bytes are not an image within the limits.
        ModelError
            If a model is missing, damaged or cannot be run.
        """
        with measure("decode"):
            photo = data if isinstance(data, Photo) else open_photo(data, self.limits)
        with measure("detect"):
            found = self._detector().detect(photo, min_confidence=min_confidence, max_faces=max_faces)
            chosen = select(found, photo.shape) if select else found
        with measure("describe"):
            faces = self._describe(photo, chosen, quality_filter, attributes)
        return AnalyzedPhoto(photo.width, photo.height, faces, len(found))

    def _describe(
        self,
        photo: Photo,
        found: Sequence[FaceDetection],
        quality_filter: QualityFilter,
        roles: Collection[ModelRole],
    ) -> tuple[AnalyzedFace, ...]:
        if not found:
            return ()
        chips = align(photo, np.stack([face.landmarks for face in found]))
        estimates: list[AttributeEstimate | None] = [None] * len(found)
        if roles:
            from abeyance.vision.attributes.estimate import AttributeEstimate

            some = found[: _MAX_ESTIMATED_OF_A_COSTLY_PHOTO if photo.is_costly else _MAX_ESTIMATED]
            pixels, reduction = photo.reduced(2 if photo.is_large else 1)
            some = [face.reduced(reduction) for face in some]
            answered = self._attributes().estimate(pixels, some, roles)
            estimates = [one.enlarged(reduction) for one in answered]
            estimates += [AttributeEstimate()] * (len(found) - len(some))
        faces = []
        for face, chip, estimate in zip(found, chips, estimates, strict=True):
            quality = assess(photo, face, chip)
            faces.append(
                AnalyzedFace(
                    box=face.box,
                    landmarks=face.landmarks,
                    confidence=self._detector().certainty(face.confidence),
                    quality=quality,
                    reasons=unindexed_reasons(quality, face, quality_filter),
                    chip=chip,
                    photo_size=(photo.width, photo.height),
                    attributes=estimate,
                )
            )
        return tuple(faces)
