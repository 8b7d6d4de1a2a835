"""The share of the exact search's results that a search through an imperfect index finds."""

from __future__ import annotations

import uuid

import numpy as np
import pytest
from tests.fakes import InMemoryGallery
from tests.vector_index import over_memory

from abeyance.gallery.model import Candidate, CollectionRef, NewFace
from abeyance.gallery.search import Searcher
from abeyance.gallery.vector_index import IndexSearcher

STAFF = CollectionRef("acme", "staff")
#: People, templates of each, and what is searched: other templates of some of them.
PEOPLE, EACH, PROBES = 1200, 5, 80


@pytest.fixture(scope="module")
def people() -> np.ndarray:
    return _unit(np.random.default_rng(1).standard_normal((PEOPLE, 128)))


@pytest.fixture(scope="module")
def probes(people: np.ndarray) -> np.ndarray:
    return _shots(people[:PROBES], seed=3)


@pytest.fixture(scope="module")
def gallery(people: np.ndarray) -> InMemoryGallery:
    gallery = InMemoryGallery(vector_index="templates-test")
    gallery.create_collection(STAFF, model="test@0", dimension=128)
    templates = _shots(np.repeat(people, EACH, axis=0), seed=2)
    for start in range(0, len(templates), 100):
        faces = [
            NewFace(id=str(uuid.UUID(int=start + n)), model="test@0", template=template)
            for n, template in enumerate(templates[start : start + 100])
        ]
        gallery.index(STAFF, faces)
    return gallery


@pytest.fixture(scope="module")
def exactly(gallery: InMemoryGallery, probes: np.ndarray) -> list[list[Candidate]]:
    return Searcher(gallery).search(STAFF, probes, limit=10)


@pytest.mark.parametrize(
    ("levels", "lose", "top", "least", "most"),
    [
        # An index that ranks as we do, and loses nothing.
        (0, 0.0, 100, 1.0, 1.0),
        # A coarse one: its first ten are not the ten nearest, but those are among its first hundred.
        (2, 0.0, 10, 0.6, 0.85),
        (2, 0.0, 100, 0.97, 1.0),
        (4, 0.0, 100, 0.999, 1.0),
        # What it does not come across is lost, however many it is asked for; and no more than that.
        (0, 0.02, 100, 0.96, 0.995),
        (2, 0.02, 100, 0.94, 0.99),
    ],
)
def test_recall_at_ten(
    gallery: InMemoryGallery,
    probes: np.ndarray,
    exactly: list[list[Candidate]],
    levels: int,
    lose: float,
    top: int,
    least: float,
    most: float,
) -> None:
    index = over_memory(gallery.table, catches_up="never", levels=levels, lose=lose, top=top)
    index.catch_up()
    searcher = IndexSearcher(gallery, index, exact_up_to=0, recent=0)
    # One by one, as candidates of one probe serve the others too.
    found = [searcher.search(STAFF, probe[None], limit=10)[0] for probe in probes]
    hits = [set(row) & set(expected) for row, expected in zip(found, exactly, strict=True)]
    assert least <= sum(map(len, hits)) / (10 * PROBES) <= most
    # A candidate that both have has the same cosine to the bit, or it would not be in both sets.
    for row, expected in zip(found, exactly, strict=True):
        common = {c.face_id for c in row} & {c.face_id for c in expected}
        assert len(common) == len(set(row) & set(expected))
        assert [c.cosine for c in row] == sorted((c.cosine for c in row), reverse=True)


def _shots(people: np.ndarray, seed: int) -> np.ndarray:
    """Return a template of each, at a cosine of about 0.6 to another of the same person."""
    noise = np.random.default_rng(seed).standard_normal(people.shape) / np.sqrt(people.shape[1])
    return _unit(people + 0.8 * noise)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)
