"""Tracks: the appearances of one face in consecutive samples, linked by box and template."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from abeyance.vision.analysis import AnalyzedFace
from abeyance.vision.boxes import iou

#: Makes templates, (n, d) float32 of unit length, of chips, (n, 112, 112, 3) uint8 RGB.
Embed: TypeAlias = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

#: A face that was not seen for longer begins a new track.
MAX_GAP_MS: Final = 1_500
#: After a longer time, somebody else may stand where the face was.
_RECENT_MS: Final = 800
#: Boxes of one face in two samples overlap at least so much, where the templates agree.
_SAME_BOX_IOU: Final = 0.25
#: The same, where no templates are made.
_SAME_BOX_ALONE_IOU: Final = 0.4
#: Chips that are kept of a track.
BEST_CHIPS: Final = 3


@dataclass(frozen=True, slots=True)
class LinkThresholds:
    """Cosines of two templates of one person.

    Attributes
    ----------
    near
        In the same place a moment later: one in ten thousand strangers has it.
    far
        Anywhere in the picture, and between tracks: strangers hardly ever have it.
    """

    near: float
    far: float


@dataclass(slots=True, eq=False)
class Track:
    """A face over time. ``faces`` are its samples, without pixels but for the best chips."""

    times_ms: list[int] = field(default_factory=list)
    faces: list[AnalyzedFace] = field(default_factory=list)
    #: The last sample's template, and the sum of all, (d,) float32; empty where none are made.
    last: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    template_sum: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    #: (score, chip, template) of the best samples, best first.
    best: list[tuple[float, int, NDArray[np.float32]]] = field(default_factory=list)

    @property
    def template(self) -> NDArray[np.float32]:
        """The average of the best samples' templates, (d,) float32 of unit length; empty where none are made."""
        return _unit(np.sum([template for _, _, template in self.best], axis=0))

    def add(self, time_ms: int, face: AnalyzedFace, template: NDArray[np.float32]) -> None:
        """Add a sample."""
        self.times_ms.append(time_ms)
        self.last = template
        self.faces.append(face)
        self.template_sum = self.template_sum + template if self.template_sum.size else template.copy()
        self.best.append((view_score(face), len(self.faces) - 1, template))
        self.best.sort(key=lambda one: -one[0])
        del self.best[BEST_CHIPS:]

    @property
    def mean(self) -> NDArray[np.float32]:
        """The average of all templates, (d,) float32 of unit length."""
        return _unit(self.template_sum)


class TrackLinker:
    """Links the faces of consecutive samples of a segment into tracks.

    Parameters
    ----------
    embed
        Makes templates; None where none may be made, and faces are linked by their boxes alone.
    thresholds
        Of the templates.
    """

    def __init__(self, embed: Embed | None, thresholds: LinkThresholds) -> None:
        self._embed = embed
        self._thresholds = thresholds
        self._open: list[Track] = []
        self.tracks: list[Track] = []

    def add(self, time_ms: int, faces: Sequence[AnalyzedFace], *, is_cut: bool) -> None:
        """Link the faces of the next sample; ``is_cut`` if a cut lies before it."""
        if is_cut:
            self._open = []
        self._open = [track for track in self._open if time_ms - track.times_ms[-1] <= MAX_GAP_MS]
        if not faces:
            return
        templates: list[NDArray[np.float32]] = [np.empty(0, np.float32)] * len(faces)
        if self._embed:
            templates = list(self._embed(np.stack([face.chip for face in faces])))
        links = self._links(time_ms, faces, templates)
        for number, face in enumerate(faces):
            track = links.get(number)
            if track is None:
                track = Track()
                self._open.append(track)
                self.tracks.append(track)
            track.add(time_ms, face, templates[number])

    def _links(
        self, time_ms: int, faces: Sequence[AnalyzedFace], templates: Sequence[NDArray[np.float32]]
    ) -> dict[int, Track]:
        """Return the track of each face that has one; the surest pairs first, and each track once."""
        if not self._open:
            return {}
        overlaps = iou([face.relative_box for face in faces], [t.faces[-1].relative_box for t in self._open])
        if self._embed:
            # The last sample has about the same pose, and the mean is of all of them.
            means = np.stack(templates) @ np.stack([track.mean for track in self._open]).T
            cosines = np.maximum(
                means, np.stack(templates) @ np.stack([track.last for track in self._open]).T
            )
            near, far = self._thresholds.near, self._thresholds.far
            recent = np.array([time_ms - track.times_ms[-1] <= _RECENT_MS for track in self._open])
            same = ((overlaps >= _SAME_BOX_IOU) & recent & (cosines >= near)) | (cosines >= far)
            scores = np.where(same, cosines + overlaps, -np.inf)
        else:
            scores = np.where(overlaps >= _SAME_BOX_ALONE_IOU, overlaps, -np.inf)
        links: dict[int, Track] = {}
        while np.isfinite(scores).any():
            face, track = np.unravel_index(int(np.argmax(scores)), scores.shape)
            links[int(face)] = self._open[int(track)]
            scores[face, :] = -np.inf
            scores[:, track] = -np.inf
        return links


def view_score(face: AnalyzedFace) -> float:
    """Return how good a view of the face is: sure, large, sharp and frontal. Scores compare views of one video only."""
    _, _, width, height = face.box
    turned = max(abs(face.quality.yaw), abs(face.quality.pitch))
    size = min(1.0, float(np.sqrt(max(0.0, width * height))) / 112)
    return face.confidence * size * (0.2 + face.quality.sharpness / 100) * max(0.1, 1 - turned / 60)


def _unit(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    length = float(np.linalg.norm(vector)) if vector.size else 0.0
    return (vector / np.float32(length)).astype(np.float32) if length > 0 else vector
