"""Findings in one collection of a tenant, for people to decide: look-alikes, duplicates and weak enrolments.

Only faces and users that the tenant has enrolled are compared, with each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Final

import msgspec
import numpy as np

from abeyance.erasure.walk import items_of
from abeyance.gallery.exact import id_text
from abeyance.gallery.facade import Gallery
from abeyance.gallery.model import CollectionRef, Face, TemplateKind
from abeyance.gallery.search import Searcher
from abeyance.gallery.verdicts import CollectionSubject
from abeyance.vision.quality import THRESHOLDS, QualityFilter
from abeyance.vision.similarity import SimilarityScale

#: Cosine from which on two faces are one picture, enrolled twice.
DUPLICATE_COSINE: Final = 0.985
#: What does not meet them is recognised worse.
_LIMITS: Final = THRESHOLDS[QualityFilter.HIGH]
#: Below this age a face changes too fast for an old photo to be recognised.
CHILD_AGE: Final = 14
_PROBES: Final = 512
_NEIGHBOURS: Final = 10


class FindingKind(StrEnum):
    """The kind of a finding."""

    LOOK_ALIKE = "look_alike"
    DUPLICATE = "duplicate"
    LOW_QUALITY = "low_quality"
    CHILD = "child"


class Finding(msgspec.Struct, frozen=True):
    """A thing that a person should look at. ``one`` and ``other`` are ids: users of look-alikes, otherwise faces."""

    kind: FindingKind
    one: str
    other: str = ""
    #: 0 to 100, of two users or faces.
    similarity: float | None = None
    #: What is weak: the names of measurements, or an age range.
    reason: str = ""


def findings(
    gallery: Gallery,
    ref: CollectionRef,
    scale: SimilarityScale,
    *,
    threshold: float,
    ages: Callable[[Face], tuple[int, int] | None] | None = None,
) -> Iterator[Finding]:
    """Yield what people should look at in a collection.

    Parameters
    ----------
    scale
        Of the collection's model.
    threshold
        Lowest similarity of look-alikes, 0 to 100.
    ages
        Returns the lowest and highest age of a face from its photo; None without one. No children without it.
    """
    searcher = Searcher(gallery)
    decided = {frozenset(pair) for pair in gallery.list_verdicts(ref)}
    for kind, least in (
        (TemplateKind.USER, scale.cosine(threshold)),
        (TemplateKind.FACE, DUPLICATE_COSINE),
    ):
        found = FindingKind.LOOK_ALIKE if kind is TemplateKind.USER else FindingKind.DUPLICATE
        for one, other, cosine in _pairs(gallery, searcher, ref, kind, least):
            if frozenset({CollectionSubject(kind, one), CollectionSubject(kind, other)}) not in decided:
                yield Finding(found, one, other, round(scale.similarity(cosine), 2))
    for face in items_of(lambda token: gallery.list_faces(ref, token=token)):
        if weak := weaknesses(face):
            yield Finding(FindingKind.LOW_QUALITY, face.id, reason=", ".join(weak))
        if ages and (years := ages(face)) and years[0] < CHILD_AGE:
            yield Finding(FindingKind.CHILD, face.id, reason=f"{years[0]} to {years[1]} years")


def weaknesses(face: Face) -> list[str]:
    """Return the measurements of a face that make it hard to recognise."""
    measured = face.quality
    weak = {
        "confidence": face.confidence < _LIMITS.confidence,
        "sharpness": measured.get("sharpness", 100.0) < _LIMITS.sharpness,
        "brightness": not _LIMITS.darkest <= measured.get("brightness", 50.0) <= _LIMITS.brightest,
        "yaw": abs(measured.get("yaw", 0.0)) > _LIMITS.yaw,
        "pitch": abs(measured.get("pitch", 0.0)) > _LIMITS.pitch,
    }
    return [name for name, is_weak in weak.items() if is_weak]


def _pairs(
    gallery: Gallery, searcher: Searcher, ref: CollectionRef, kind: TemplateKind, min_cosine: float
) -> Iterator[tuple[str, str, float]]:
    """Yield each pair of templates from a cosine on, once, the smaller id first."""
    changes = gallery.changes(ref)
    dead = np.array(sorted(changes.dead), dtype=np.int64)
    seen: set[tuple[str, str]] = set()
    for block in changes.blocks:
        if block.kind is not kind:
            continue
        alive = ~np.isin(block.seqs, dead)
        names = [id_text(kind, bytes(row)) for row in block.ids[alive]]
        templates = block.templates[alive].astype(np.float32)
        for start in range(0, len(names), _PROBES):
            probes = templates[start : start + _PROBES]
            answers = searcher.search(ref, probes, limit=_NEIGHBOURS, min_cosine=min_cosine, kind=kind)
            for name, candidates in zip(names[start:], answers, strict=False):
                for candidate in candidates:
                    pair = min(name, candidate.face_id), max(name, candidate.face_id)
                    if pair not in seen and name != candidate.face_id:
                        seen.add(pair)
                        yield *pair, candidate.cosine
