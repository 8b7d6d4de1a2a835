"""People: the tracks of a whole video that show one person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

#: Tracks whose ends are no further apart, and that lie in two segments, may be one that the border cut.
_BORDER_GAP_MS: Final = 1_000
_SAME_BOX_IOU: Final = 0.4


class TrackSummary(NamedTuple):
    """A track without its samples; boxes are left, top, width and height as shares of the picture."""

    segment: int
    first_ms: int
    last_ms: int
    first_box: tuple[float, float, float, float]
    last_box: tuple[float, float, float, float]
    #: (d,) float32 of unit length; empty where none are made.
    template: NDArray[np.float32]
    #: Number of samples: the weight of the template.
    samples: int


def group_by_person(tracks: Sequence[TrackSummary], far: float) -> list[list[int]]:
    """Return the indices of the tracks of each person, in the order in which the people first appear.

    With templates, two tracks are one person's if their averages agree by a cosine of at least ``far`` and they never
    show at the same time; groups are joined surest first, and compared by the average of all their templates. Without
    templates, only tracks that the border between two segments cut are joined.
    """
    order = sorted(range(len(tracks)), key=lambda i: (tracks[i].first_ms, tracks[i].segment, i))
    groups = [[i] for i in order]
    has_templates = bool(tracks) and tracks[0].template.size > 0
    groups = _by_template(tracks, groups, far) if has_templates else _by_border(tracks, groups)
    return sorted(groups, key=lambda group: min(tracks[i].first_ms for i in group))


def _by_template(tracks: Sequence[TrackSummary], groups: list[list[int]], far: float) -> list[list[int]]:
    sums = [np.sum([tracks[i].template * tracks[i].samples for i in group], axis=0) for group in groups]
    matrix = np.stack([_unit(one) for one in sums])
    cosines = matrix @ matrix.T
    for a in range(len(groups)):
        for b in range(len(groups)):
            if a == b or _together(tracks, groups[a], groups[b]):
                cosines[a, b] = -np.inf
    while True:
        place = int(np.argmax(cosines))
        a, b = sorted(divmod(place, len(groups)))
        if not cosines[a, b] >= far:
            return [group for group in groups if group]
        groups[a] += groups[b]
        sums[a] = sums[a] + sums[b]
        forbidden = np.isinf(cosines[a]) | np.isinf(cosines[b])
        matrix[a] = _unit(sums[a])
        cosines[a, :] = np.where(forbidden, -np.inf, matrix @ matrix[a])
        cosines[:, a] = cosines[a, :]
        groups[b] = []
        cosines[b, :] = cosines[:, b] = -np.inf


def _by_border(tracks: Sequence[TrackSummary], groups: list[list[int]]) -> list[list[int]]:
    from abeyance.vision.boxes import iou

    joined: list[list[int]] = []
    for (index,) in groups:
        track = tracks[index]
        before = [
            group
            for group in joined
            if tracks[group[-1]].segment < track.segment
            and 0 <= track.first_ms - tracks[group[-1]].last_ms <= _BORDER_GAP_MS
            and float(iou(tracks[group[-1]].last_box, track.first_box)[0, 0]) >= _SAME_BOX_IOU
        ]
        if before:
            before[0].append(index)
        else:
            joined.append([index])
    return joined


def _together(tracks: Sequence[TrackSummary], first: Sequence[int], second: Sequence[int]) -> bool:
    """Return whether any two tracks show at the same time: they are two people."""
    return any(
        tracks[i].first_ms <= tracks[j].last_ms and tracks[j].first_ms <= tracks[i].last_ms
        for i in first
        for j in second
    )


def appearances(spans: Sequence[tuple[int, int]], gap_ms: int, most: int) -> list[tuple[int, int]]:
    """Return at most ``most`` times, (first, last) in milliseconds, that cover ``spans``, joined over short gaps."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if joined and first - joined[-1][1] <= gap_ms:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    while len(joined) > most:
        gaps = [joined[i + 1][0] - joined[i][1] for i in range(len(joined) - 1)]
        nearest = int(np.argmin(gaps))
        joined[nearest : nearest + 2] = [(joined[nearest][0], joined[nearest + 1][1])]
    return joined


def _unit(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    length = float(np.linalg.norm(vector))
    return (vector / np.float32(length)).astype(np.float32) if length > 0 else vector
