"""The fast search finds what the obvious one finds, to the bit."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abeyance.gallery import exact, matrix
from abeyance.gallery.errors import InvalidInput, ModelMismatch
from abeyance.gallery.kernels import Float32, Int8, Kernel, best_kernel
from abeyance.gallery.matrix import Matrix
from abeyance.gallery.memory import InMemoryGallery
from abeyance.gallery.model import CollectionRef, Kind
from abeyance.gallery.port import Block
from abeyance.gallery.search import Searcher

STAFF = CollectionRef("acme", "staff")


@pytest.fixture(params=["float32", "int8"])
def kernel(request: pytest.FixtureRequest) -> Kernel:
    if request.param == "float32":
        return Float32()
    pytest.importorskip("numkong")
    return Int8()


def some_block(n: int, d: int, seed: int = 0, first: int = 1, kind: Kind = Kind.FACE) -> Block:
    rng = np.random.default_rng(seed)
    templates = rng.standard_normal((n, d)).astype(np.float32)
    templates /= np.linalg.norm(templates, axis=1, keepdims=True)
    ids = rng.integers(0, 256, (n, 16), dtype=np.uint8)
    return Block(kind, np.arange(first, first + n), ids, templates.astype(np.float16))


def alive(block: Block, dead: np.ndarray) -> Block:
    keep = ~np.isin(block.seqs, dead)
    return Block(block.kind, block.seqs[keep], block.ids[keep], block.templates[keep])


@pytest.mark.parametrize("d", [8, 128, 512])
@pytest.mark.parametrize("limit", [1, 10, 5000])
@pytest.mark.parametrize("min_cosine", [-1.0, 0.1, 0.9])
def test_agrees_with_the_oracle(kernel: Kernel, d: int, limit: int, min_cosine: float) -> None:
    block = some_block(3000, d)
    probes = np.random.default_rng(9).standard_normal((5, d)).astype(np.float32)
    probes[0] = block.templates[7]
    expected = exact.oracle([block], probes, limit, min_cosine)
    found = exact.search(Matrix(kernel=kernel).updated([block], None), Kind.FACE, probes, limit, min_cosine)
    assert found == expected


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 400), st.floats(0, 1)), min_size=1, max_size=8),
    st.sampled_from(["float32", "best"]),
    st.integers(0, 2**32),
)
def test_agrees_after_any_appends_and_removals(steps: list[tuple[int, float]], name: str, seed: int) -> None:
    kernel: Kernel = Float32() if name == "float32" else best_kernel()
    rng = np.random.default_rng(seed)
    rows, held, views = matrix.ROWS, Matrix(kernel=kernel), []
    matrix.ROWS = 256
    try:
        blocks: list[Block] = []
        everything: set[int] = set()
        first = 1
        for count, share in steps:
            block = some_block(count, 16, seed + first, first)
            if rng.random() < 0.2:
                block.templates[0] = np.eye(16)[3]
            first += count
            blocks.append(block)
            everything |= set(block.seqs.tolist())
            dead = rng.choice(sorted(everything), int(share * len(everything) * 0.6), replace=False)
            everything -= set(dead.tolist())
            held = held.updated([block], dead.astype(np.int64))
            blocks = [alive(b, dead) for b in blocks]
            views.append((held, list(blocks)))
    finally:
        matrix.ROWS = rows
    probes = rng.standard_normal((3, 16)).astype(np.float32)
    # What was taken before later changes still shows what it showed.
    for view, expected in views:
        assert len(view) == sum(len(block.seqs) for block in expected)
        assert exact.search(view, Kind.FACE, probes, 7, -1.0) == exact.oracle(expected, probes, 7, -1.0)


def test_ties_go_by_id(kernel: Kernel) -> None:
    block = some_block(1000, 8)
    block.templates[:] = block.templates[0]
    found = exact.search(
        Matrix(kernel=kernel).updated([block], None), Kind.FACE, block.templates[:1], 5, -1.0
    )
    assert found == exact.oracle([block], block.templates[:1], 5, -1.0)
    assert [c.face_id for c in found[0]] == sorted(c.face_id for c in found[0])
    assert {c.cosine for c in found[0]} == {1.0}


def test_without_numkong_numpy_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numkong", None)
    best_kernel.cache_clear()
    try:
        assert isinstance(best_kernel(), Float32)
    finally:
        monkeypatch.undo()
        best_kernel.cache_clear()


class TestSearcher:
    @pytest.fixture
    def gallery(self, new_face) -> InMemoryGallery:  # type: ignore[no-untyped-def]
        gallery = InMemoryGallery()
        for name in ("staff", "guests"):
            gallery.create_collection(CollectionRef("acme", name), model="test@000000000000", dimension=8)
            gallery.index(CollectionRef("acme", name), [new_face(f"{name} {n}") for n in range(100)])
        return gallery

    def test_bad_searches_are_refused(self, gallery: InMemoryGallery) -> None:
        searcher = Searcher(gallery)
        good = np.ones((1, 8), dtype=np.float32)
        for probes in (good[0], good[:, :4], good * 0, good * np.nan, good * np.inf):
            with pytest.raises(InvalidInput):
                searcher.search(STAFF, probes)
        with pytest.raises(InvalidInput):
            searcher.search(STAFF, good, limit=0)
        with pytest.raises(ModelMismatch):
            searcher.search(STAFF, good, model="other@0")
        assert searcher.search(STAFF, good[:0]) == []

    def test_the_length_of_a_probe_does_not_matter(self, gallery: InMemoryGallery) -> None:
        probe = np.arange(1, 9, dtype=np.float32)[None]
        searcher = Searcher(gallery)
        assert searcher.search(STAFF, probe * 4) == searcher.search(STAFF, probe)

    def test_memory_is_bounded_and_what_was_forgotten_is_read_again(self, gallery: InMemoryGallery) -> None:
        searcher = Searcher(gallery, max_bytes=1)
        probe = np.ones((1, 8), dtype=np.float32)
        for name in ("staff", "guests", "staff"):
            ref = CollectionRef("acme", name)
            assert len(searcher.search(ref, probe, limit=1000)[0]) == 100
            assert searcher.nbytes == _bytes_of(gallery, ref)

    def test_searches_from_many_threads_agree(self, gallery: InMemoryGallery) -> None:
        searcher = Searcher(gallery)
        probe = np.ones((1, 8), dtype=np.float32)
        expected = Searcher(gallery).search(STAFF, probe)
        found: list[object] = []
        threads = [
            threading.Thread(target=lambda: found.append(searcher.search(STAFF, probe))) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [expected] * 8


def _bytes_of(gallery: InMemoryGallery, ref: CollectionRef) -> int:
    searcher = Searcher(gallery)
    searcher.refresh(ref)
    return searcher.nbytes
