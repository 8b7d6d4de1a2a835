"""People who are in a set of strangers twice: left out by a judged list, or by cosine, with a report on them.

A set of strangers is meant to show everybody once. Where it does not, pairs of one person look like false matches, and
they set the thresholds. A cosine alone cannot find them: young children of one age are as similar as two photos of one
adult, and linking them leaves out the people for whom the model errs most. So people leave a calibration by a list of
pairs that somebody looked at; the cosine is there to find the pairs, and to show what it would have done.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

import msgspec
import numpy as np

from abeyance.evaluation.arrays import BoolArray, Float32Array, Int32Array, IntArray
from abeyance.evaluation.datasets import PhotoSet, codes_of
from abeyance.evaluation.errors import DataInvalid
from abeyance.evaluation.pairs import PairScan, scan

#: Warn if one person would have more photos than this, or a group would lose a larger share of its photos.
_MANY_PHOTOS = 6
_LARGE_SHARE = 0.1
#: A group with fewer photos gets no warning for its share.
_LEAST_PHOTOS = 50
#: Lists of judged pairs that come with the package.
_LISTS = ("fairface",)


class RemovedShare(msgspec.Struct, frozen=True, kw_only=True):
    """Photos of one group that were left out."""

    group: str
    photos: int
    removed: int

    @property
    def share(self) -> float:
        """Share of the group's photos, 0 to 1."""
        return self.removed / self.photos


class Cleaning(msgspec.Struct, frozen=True, kw_only=True):
    """Photos left out because they repeat a person, and the scale that results."""

    how: str
    photos_left_out: int
    people_with_several: int
    #: Most photos that count as one person.
    largest: int
    #: Attribute: what was left out of each of its groups.
    removed: dict[str, tuple[RemovedShare, ...]]
    warnings: tuple[str, ...]
    #: Cosine of each anchor of the scale; None where every group is too small.
    thresholds: dict[str, float | None] = {}


class ClosePair(msgspec.Struct, frozen=True, kw_only=True):
    """Two photos to judge."""

    image_a: str
    image_b: str
    cosine: float
    #: Whether the published group and age of both are the same.
    alike: bool


class ClosestPairs(msgspec.Struct, frozen=True, kw_only=True):
    """Result of ``abeyance calibrate repeats``."""

    source: str
    photos: int
    level: float
    pairs: tuple[ClosePair, ...]


def closest_pairs(photos: PhotoSet, vectors: Float32Array, level: float) -> ClosestPairs:
    """Return the pairs to judge, closest first: those that join two people for the first time.

    Of three photos of one person, two pairs are enough, so that a person of many photos asks for few looks.

    Parameters
    ----------
    vectors
        (n, d) float32, unit length: the photos' templates.
    """
    from scipy.cluster.hierarchy import DisjointSet  # type: ignore[import-untyped]

    found = scan(vectors, level=level)
    joined = DisjointSet(range(len(vectors)))
    labels = photos.labels(photos.groupings)
    pairs = [
        ClosePair(
            image_a=photos.photos[a].path.name,
            image_b=photos.photos[b].path.name,
            cosine=score,
            alike=labels[a] == labels[b],
        )
        for a, b, score in zip(found.left.tolist(), found.right.tolist(), found.scores.tolist(), strict=True)
        if joined.merge(a, b)
    ]
    return ClosestPairs(source=photos.name, photos=len(photos), level=level, pairs=tuple(pairs))


def read_repeats(sources: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs of file names that lists judge to show one person.

    Parameters
    ----------
    sources
        Each a CSV with ``image_a``, ``image_b`` and ``same``, or the name of a list that comes with the package:
        ``fairface``.

    Raises
    ------
    DataInvalid
        If there is no such list, or it lacks a column.
    """
    return [pair for source in sources for pair in _read_list(source)]


def strangers_only(photos: PhotoSet, known: Sequence[PhotoSet], pairs: Sequence[tuple[str, str]]) -> PhotoSet:
    """Return one photo of each person by judged pairs, and none of those who are in a ``known`` set.

    Raises
    ------
    DataInvalid
        If two photos have the name of a listed one.
    """
    before = [path for known_set in known for path in known_set.paths]
    people = judged_people([*before, *photos.paths], pairs)
    first = np.unique(people, return_index=True)[1]
    return photos.rows(np.sort(first[first >= len(before)]) - len(before))


def _read_list(source: str) -> list[tuple[str, str]]:
    try:
        if source in _LISTS:
            text = resources.files("abeyance.evaluation").joinpath(f"judged/{source}.csv").read_text("utf-8")
        else:
            text = Path(source).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataInvalid(f"cannot read the list of judged pairs {source}: {error}") from error
    rows = list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
    if not rows or any(column not in rows[0] for column in ("image_a", "image_b", "same")):
        raise DataInvalid(f"{source} needs the columns image_a, image_b and same (1 for one person, else 0)")
    return [(row["image_a"], row["image_b"]) for row in rows if row["same"] == "1"]


def judged_people(paths: Sequence[Path], pairs: Sequence[tuple[str, str]]) -> IntArray:
    """Return the person of each photo, (n,): those of a judged pair are one, also through others.

    Photos are found by the last part of their name. A photo of the list that is not there still joins those that are.

    Raises
    ------
    DataInvalid
        If two photos have the name of a listed one.
    """
    listed = {Path(name).name for pair in pairs for name in pair}
    rows: dict[str, int] = {}
    for row, path in enumerate(paths):
        if path.name in listed and rows.setdefault(path.name, row) != row:
            raise DataInvalid(
                f"two photos are called {path.name}, so the judged list does not say which it means"
            )
    for number, name in enumerate(sorted(listed - rows.keys())):
        rows[name] = len(paths) + number
    links = np.array([[rows[Path(name).name] for name in pair] for pair in pairs], np.int32).reshape(-1, 2)
    return components(len(paths) + len(listed), links[:, 0], links[:, 1])[: len(paths)]


def components(count: int, left: Int32Array, right: Int32Array) -> IntArray:
    """Return the lowest row of each row's connected component: (count,) int64.

    Parameters
    ----------
    left, right
        Rows of each link.
    """
    from scipy.sparse import coo_array  # type: ignore[import-untyped]
    from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

    links = coo_array((np.ones(len(left), bool), (left, right)), shape=(count, count))
    _, component = connected_components(links, directed=False)
    lowest = np.unique(component, return_index=True)[1]
    return np.asarray(lowest[component], np.int64)


def people_by_cosine(
    vectors: Float32Array, level: float, blocks: IntArray | None = None, found: PairScan | None = None
) -> IntArray:
    """Return the person of each photo, (n,): the lowest row of those whose mean cosine is ``level`` or more.

    Average linkage, within blocks: a chain of people, each similar to the next, does not become one person, as it
    would by single linkage, which takes more of a set the larger it is.

    Parameters
    ----------
    blocks
        (n,) int: only photos of one block are linked, such as one group and age.
    found
        A scan of the vectors that reaches down to ``level``, if there is one.
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform  # type: ignore[import-untyped]

    if found is None or found.level > level:
        found = scan(vectors, level=level)
    left, right = found.matches(level)
    if blocks is not None:
        inside = blocks[left] == blocks[right]
        left, right = left[inside], right[inside]
    people = components(len(vectors), left, right)
    for chain in np.flatnonzero(np.bincount(people, minlength=len(vectors)) > 2):
        rows = np.flatnonzero(people == chain)
        distances = np.maximum(1 - vectors[rows] @ vectors[rows].T, 0)
        np.fill_diagonal(distances, 0)
        part = fcluster(linkage(squareform(distances, checks=False), "average"), 1 - level, "distance")
        for number in np.unique(part):
            people[rows[part == number]] = rows[part == number][0]
    return people


def describe_cleaning(
    how: str, people: IntArray, labels: Mapping[str, Sequence[str]]
) -> tuple[IntArray, Cleaning]:
    """Return the rows that stay, the first of each person, and the report of those that do not.

    Parameters
    ----------
    how
        The rule in words.
    people
        (n,) int: person of each photo.
    labels
        Attribute: group of each photo, to report by.
    """
    kept = np.unique(people, return_index=True)[1]
    kept.sort()
    gone = np.ones(len(people), bool)
    gone[kept] = False
    sizes = np.unique(people, return_counts=True)[1]
    removed = {name: _shares(groups, gone) for name, groups in labels.items()}
    largest = int(sizes.max(initial=1))
    warnings = []
    if largest > _MANY_PHOTOS:
        warnings.append(f"{largest} photos count as one person: look at them before you believe it.")
    warnings += [
        f"{row.share:.0%} of {name} {row.group} are left out: are they one person twice, or people alike?"
        for name, rows in removed.items()
        for row in rows
        if row.share > _LARGE_SHARE and row.photos >= _LEAST_PHOTOS
    ]
    return kept, Cleaning(
        how=how,
        photos_left_out=int(gone.sum()),
        people_with_several=int((sizes > 1).sum()),
        largest=largest,
        removed=removed,
        warnings=tuple(warnings),
    )


def _shares(groups: Sequence[str], gone: BoolArray) -> tuple[RemovedShare, ...]:
    codes, names = codes_of(groups), list(dict.fromkeys(groups))
    photos, removed = np.bincount(codes, minlength=len(names)), np.bincount(codes[gone], minlength=len(names))
    rows = zip(names, photos.tolist(), removed.tolist(), strict=True)
    return tuple(RemovedShare(group=name, photos=n, removed=k) for name, n, k in sorted(rows))
