"""The fast search returns the results of the obvious one, to the bit."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes import InMemoryGallery

from abeyance.gallery import exact, kernels, matrix, products
from abeyance.gallery.errors import InvalidInput, ModelMismatch
from abeyance.gallery.kernels import Float32, Int8, Kernel, best_kernel
from abeyance.gallery.matrix import Matrix
from abeyance.gallery.model import Candidate, CollectionRef, TemplateKind
from abeyance.gallery.port import Block
from abeyance.gallery.search import Searcher

STAFF = CollectionRef("acme", "staff")


def only(name: str, side_by_side: int = 1) -> Int8:
    """Return the kernel that has no choice."""
    pytest.importorskip(name, reason=f"{name} has no wheel for this machine")

    def one(d: int, p: int) -> Iterator[products.Product]:
        yield products.SimSimd(d) if name == "simsimd" else products.OnnxRuntime(side_by_side)

    return Int8(one)


KERNELS: dict[str, Callable[[], Kernel]] = {
    "numpy": Float32,
    "simsimd": lambda: only("simsimd"),
    "onnxruntime": lambda: only("onnxruntime"),
    "onnxruntime, side by side": lambda: only("onnxruntime", 4),
    "by trial": Int8,
}


@pytest.fixture(params=KERNELS)
def kernel(request: pytest.FixtureRequest) -> Kernel:
    return KERNELS[request.param]()


def some_block(
    n: int, d: int, seed: int = 0, first: int = 1, kind: TemplateKind = TemplateKind.FACE
) -> Block:
    rng = np.random.default_rng(seed)
    templates = rng.standard_normal((n, d)).astype(np.float32)
    templates /= np.linalg.norm(templates, axis=1, keepdims=True)
    ids = rng.integers(0, 256, (n, 16), dtype=np.uint8)
    return Block(kind, np.arange(first, first + n), ids, templates.astype(np.float16))


def alive(block: Block, dead: np.ndarray) -> Block:
    keep = ~np.isin(block.seqs, dead)
    return Block(block.kind, block.seqs[keep], block.ids[keep], block.templates[keep])


def search_plainly(
    blocks: Sequence[Block], probes: np.ndarray, limit: int, min_cosine: float
) -> list[list[Candidate]]:
    """Return the answer of ``exact.search`` in the obvious way: every template against every probe."""
    answers = []
    for probe in probes.astype(np.float64):
        candidates = [
            Candidate(exact.id_text(block.kind, raw.tobytes()), float(cosine))
            for block in blocks
            for raw, cosine in zip(
                block.ids, exact._cosines(block.templates, probe / np.linalg.norm(probe)), strict=True
            )
        ]
        candidates.sort(key=lambda candidate: (-candidate.cosine, candidate.face_id))
        answers.append([c for c in candidates if c.cosine >= min_cosine][:limit])
    return answers


@pytest.mark.parametrize("d", [8, 128, 512])
@pytest.mark.parametrize("limit", [1, 10, 5000])
@pytest.mark.parametrize("min_cosine", [-1.0, 0.1, 0.9])
def test_search_agrees_with_the_oracle(kernel: Kernel, d: int, limit: int, min_cosine: float) -> None:
    block = some_block(3000, d)
    probes = np.random.default_rng(9).standard_normal((5, d)).astype(np.float32)
    probes[0] = block.templates[7]
    expected = search_plainly([block], probes, limit, min_cosine)
    found = exact.search(Matrix(kernel=kernel).updated([block]), TemplateKind.FACE, probes, limit, min_cosine)
    assert found == expected


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 400), st.floats(0, 1)), min_size=1, max_size=8),
    st.sampled_from(sorted(KERNELS)),
    st.sampled_from([100, 1000]),
    st.integers(0, 2**32),
)
def test_search_agrees_after_any_appends_and_removals(
    steps: list[tuple[int, float]], name: str, adopted: int, seed: int
) -> None:
    kernel = KERNELS[name]()
    rng = np.random.default_rng(seed)
    held, views = Matrix(kernel=kernel), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matrix, "BLOCK_ROWS", 256)
        patch.setattr(matrix, "ADOPTED_ROWS", adopted)
        patch.setattr(matrix, "cores", lambda: 3)
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
    probes = rng.standard_normal((3, 16)).astype(np.float32)
    # What was taken before later changes still shows what it showed.
    for view, expected in views:
        assert len(view) == sum(len(block.seqs) for block in expected)
        assert exact.search(view, TemplateKind.FACE, probes, 7, -1.0) == search_plainly(
            expected, probes, 7, -1.0
        )


def test_ties_go_by_id(kernel: Kernel) -> None:
    block = some_block(1000, 8)
    block.templates[:] = block.templates[0]
    found = exact.search(
        Matrix(kernel=kernel).updated([block]), TemplateKind.FACE, block.templates[:1], 5, -1.0
    )
    assert found == search_plainly([block], block.templates[:1], 5, -1.0)
    assert [c.face_id for c in found[0]] == sorted(c.face_id for c in found[0])
    assert {c.cosine for c in found[0]} == {1.0}


def test_any_number_of_ties_goes_by_id(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    # More of them than are kept until they are scored exactly, in several blocks and from several threads.
    monkeypatch.setattr(exact, "cores", lambda: 4)
    monkeypatch.setattr(matrix, "BLOCK_ROWS", 2048)
    block = some_block(20_000, 8)
    block.templates[::2] = block.templates[0]
    probes = np.concatenate([block.templates[:1], block.templates[1:2]]).astype(np.float32)
    found = exact.search(Matrix(kernel=kernel).updated([block]), TemplateKind.FACE, probes, 7, -1.0)
    assert found == search_plainly([block], probes, 7, -1.0)


def test_large_blocks_are_not_copied(kernel: Kernel) -> None:
    large, small = some_block(3000, 8), some_block(10, 8, seed=1, first=3001)
    held = Matrix(kernel=kernel).updated([large, small], np.array([5, 3001]))
    assert np.shares_memory(held.blocks[0].templates, large.templates)
    assert [len(rows) for rows in held.blocks] == [3000, 10]
    assert held.nbytes >= 3010 * (8 + 16 + 2 * 8 + 8)
    left = [alive(block, np.array([5, 3001])) for block in (large, small)]
    probes = large.templates[4:5].astype(np.float32)
    assert exact.search(held, TemplateKind.FACE, probes, 20, -1.0) == search_plainly(left, probes, 20, -1.0)


def test_segments_are_scanned_in_stripes(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix, "cores", lambda: 1)
    segments = [some_block(3000, 16, seed=n, first=1 + 3000 * n) for n in range(4)]
    recent = some_block(50, 16, seed=4, first=12_001)
    held = Matrix(kernel=kernel).updated([*segments, recent], np.array([2, 3001, 9000]))
    assert [(len(s.rounded), s.dead.tolist()) for s in held.stripes] == [
        (12_000, [1, 3000, 8999]),
        (50, []),
    ]
    # More than a quarter of the second goes: it is copied, and the others are read as before.
    dead = np.arange(3001, 4001)
    later = held.updated([], dead)
    assert [len(stripe.rounded) for stripe in later.stripes] == [3000, 2000, 6000, 50]
    probes = np.concatenate([block.templates[-1:] for block in (*segments, recent)]).astype(np.float32)
    for view, gone in ((held, [2, 3001, 9000]), (later, [2, *range(3001, 4001), 9000])):
        left = [alive(block, np.array(gone)) for block in (*segments, recent)]
        assert exact.search(view, TemplateKind.FACE, probes, 10, -1.0) == search_plainly(
            left, probes, 10, -1.0
        )


def test_a_template_of_zeros_has_cosine_zero(kernel: Kernel) -> None:
    block = some_block(3000, 8)
    block.templates[:600] = 0
    probes = block.templates[1000:1001].astype(np.float32)
    for blocks in ([block], [Block(block.kind, block.seqs[:9], block.ids[:9], block.templates[:9])]):
        found = exact.search(Matrix(kernel=kernel).updated(blocks), TemplateKind.FACE, probes, 3000, -1.0)
        assert found == search_plainly(blocks, probes, 3000, -1.0)


vectors = st.tuples(st.integers(1, 70), st.sampled_from([1, 3, 16, 128, 200, 512]), st.integers(1, 40))


@settings(max_examples=40, deadline=None)
@given(vectors, st.sampled_from([0.0, 1.0, 4.0]), st.integers(0, 2**32))
def test_the_error_of_the_fast_pass_is_within_its_bound(
    shape: tuple[int, int, int], spikes: float, seed: int
) -> None:
    n, d, p = shape
    rng = np.random.default_rng(seed)
    # Heavy tails are the worst for steps of equal size.
    rows, probes = (
        rng.standard_normal((k, d)) * np.exp(spikes * rng.standard_normal((k, d))) for k in (n, p)
    )
    templates = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    probes /= np.linalg.norm(probes, axis=1, keepdims=True)
    block = Block(TemplateKind.FACE, np.arange(n), np.zeros((n, 16), dtype=np.uint8), templates)
    for kernel in (Float32(), KERNELS[sorted(KERNELS)[seed % len(KERNELS)]]()):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(matrix, "ADOPTED_ROWS", int(rng.choice([1, 1000])))
            (held,) = Matrix(kernel=kernel).updated([block]).blocks
        packed = kernel.packed(probes)
        found = packed.dots(held.rounded) * held.step * packed.steps
        true = templates.astype(np.float64)
        true = true @ probes.T / np.maximum(np.linalg.norm(true, axis=1, keepdims=True), 1e-6)
        assert (np.abs(found - true) <= exact.bounds(held, packed)).all()


class TestKernels:
    @pytest.mark.parametrize("name", [name for name in KERNELS if name != "numpy"])
    @settings(max_examples=30, deadline=None)
    @given(vectors, st.integers(0, 2**32))
    def test_products_of_integers_are_exact(self, name: str, shape: tuple[int, int, int], seed: int) -> None:
        kernel = KERNELS[name]()
        n, d, p = shape
        rng = np.random.default_rng(seed)
        rows = rng.choice(np.array([-127, -126, 0, 126, 127], dtype=np.int8), (n, d))
        packed = kernel.packed(rng.choice([-1.0, 0.1, 1.0], (p, d)))
        expected = rows.astype(np.int64) @ packed.numbers.T.astype(np.int64)
        np.testing.assert_array_equal(packed.dots(rows), expected)

    @pytest.mark.parametrize("name", ["simsimd", "onnxruntime"])
    @pytest.mark.parametrize("d", [1040, 1041, 4096])
    def test_the_largest_sums_are_exact(self, name: str, d: int) -> None:
        rows = np.full((3, d), 127, dtype=np.int8)
        packed = only(name).packed(np.ones((1, d)))
        assert packed.dots(rows).tolist() == [[127 * d * int(packed.numbers[0, 0])]] * 3

    def test_the_model_is_one_product(self) -> None:
        onnx = pytest.importorskip("onnx")
        h, t = onnx.helper, onnx.TensorProto
        tensors = {"a": (t.UINT8, "nd"), "b": (t.INT8, "dp"), "y": (t.INT32, "np")}
        a, b, y = (h.make_tensor_value_info(name, kind, list(axes)) for name, (kind, axes) in tensors.items())
        graph = h.make_graph(
            [h.make_node("MatMulInteger", ["a", "b", "z"], ["y"])],
            "g",
            [a, b],
            [y],
            [h.make_tensor("z", t.UINT8, [], [128])],
        )
        model = h.make_model(graph, opset_imports=[h.make_opsetid("", 10)], ir_version=7, producer_name="")
        assert model.SerializeToString() == products._MODEL

    def test_a_processor_that_adds_pairs_in_16_bits_gets_shorter_probes(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(products, "is_exact", lambda run, levels: 255 * levels * 2 < 2**15)
        products._onnxruntime.cache_clear()
        monkeypatch.setattr(products, "_onnxruntime", products._onnxruntime.__wrapped__)
        block = some_block(3000, 128)
        kernel = only("onnxruntime")
        probes = some_block(5, 128, seed=3).templates.astype(np.float32)
        assert np.abs(kernel.packed(probes.astype(np.float64)).numbers).max() == 64
        found = exact.search(Matrix(kernel=kernel).updated([block]), TemplateKind.FACE, probes, 10, -1.0)
        assert found == search_plainly([block], probes, 10, -1.0)

    @pytest.mark.parametrize("why", ["not installed", "not exact"])
    def test_without_a_library_numpy_multiplies(self, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
        monkeypatch.setitem(sys.modules, "simsimd", None)
        if why == "not installed":
            monkeypatch.setitem(sys.modules, "onnxruntime", None)
        monkeypatch.setattr(products, "is_exact", lambda run, levels: False)
        monkeypatch.setattr(products, "_onnxruntime", products._onnxruntime.__wrapped__)
        best_kernel.cache_clear()
        try:
            assert isinstance(best_kernel(), Float32)
        finally:
            best_kernel.cache_clear()

    def test_a_function_that_only_searches_does_not_import_onnxruntime(self) -> None:
        code = (
            "import sys, numpy as np; from abeyance.gallery.kernels import best_kernel;"
            "best_kernel().packed(np.eye(128)[:1]); print('onnxruntime' in sys.modules);"
            "best_kernel().packed(np.eye(128)[:32]); print('onnxruntime' in sys.modules)"
        )
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        assert out.split() == ["False", "True"]

    def test_the_fastest_product_is_taken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seconds = {"SimSimd": 3.0, "OnnxRuntime": 2.0}
        monkeypatch.setattr(kernels, "_seconds", lambda dots, *factors: seconds[type(dots.__self__).__name__])
        assert best_kernel().packed(np.eye(64)[:5]).scores is np.int32
        seconds["SimSimd"] = 1.0
        assert Int8().packed(np.eye(64)[:5]).scores is np.float32


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

    def test_memory_is_bounded_and_dropped_collections_are_read_again(self, gallery: InMemoryGallery) -> None:
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
