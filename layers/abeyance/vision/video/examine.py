"""A segment of a video to tracks: sample, analyse, link."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from abeyance.vision.analysis import FaceAnalyzer
from abeyance.vision.image import Photo
from abeyance.vision.models.manifest import ModelRole
from abeyance.vision.quality import QualityFilter
from abeyance.vision.video.sampling import Frame, sample
from abeyance.vision.video.tracks import Embed, LinkThresholds, Track, TrackLinker

#: Faces of one sample, the largest.
_MAX_FACES: Final = 40


def examine(
    frames: Iterable[Frame],
    analyzer: FaceAnalyzer,
    embed: Embed | None,
    thresholds: LinkThresholds,
    *,
    quality_filter: QualityFilter = QualityFilter.NONE,
    attributes: Collection[ModelRole] = (),
) -> list[Track]:
    """Return the tracks of a segment, in the order in which they begin.

    Parameters
    ----------
    frames
        The segment's frames, in order.
    embed
        Makes templates; None where none may be made.
    quality_filter
        Decides the reasons of each face.
    attributes
        Roles of the attribute models to ask for every face.
    """
    linker = TrackLinker(embed, thresholds)
    for frame, is_cut in sample(frames):
        found = analyzer.analyze(
            Photo.of(frame.pixels()),
            quality_filter=quality_filter,
            attributes=attributes,
            max_faces=_MAX_FACES,
        )
        linker.add(frame.time_ms, found.faces, is_cut=is_cut)
    return linker.tracks
