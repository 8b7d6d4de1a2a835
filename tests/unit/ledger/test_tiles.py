"""Tiles: their paths and codec by C2SP tlog-tiles, and a tree read from them beside the tree itself."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.log_objects import MemoryLogObjects

from abeyance.ledger.errors import LedgerCorrupt
from abeyance.ledger.integrate import (
    TreeEdge,
    integrate,
    plan,
    read_edge,
)
from abeyance.ledger.merkle import CompactRange, leaf_hash, verify_consistency, verify_inclusion
from abeyance.ledger.tiles import (
    ENTRIES,
    OPENINGS,
    TileName,
    TileReader,
    decode_bundle,
    encode_bundle,
    hash_tile,
    parse_tile_name,
)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        (TileName("tile/0", 0, 256), "tile/0/000"),
        (TileName("tile/0", 1234067, 256), "tile/0/x001/x234/067"),
        (TileName("tile/3", 1000, 8), "tile/3/x001/000.p/8"),
        (TileName(ENTRIES, 66, 255), "tile/entries/066.p/255"),
        (TileName(OPENINGS, 999, 1), "opening/999.p/1"),
    ],
)
def test_paths_are_those_of_the_standard(name: TileName, key: str) -> None:
    assert str(name) == key
    assert parse_tile_name(key) == name


@pytest.mark.parametrize(
    "key",
    ["tile/0/1", "tile/00/001", "tile/64/001", "tile/0/x000/001", "tile/0/001.p/256", "tile/0/001.p/0",
     "tile/0/001.p/01", "tile/0/x001", "tile/entries/x001/0010", "opening/", "tile/0/001/", "opening/001.p/"],
)  # fmt: skip
def test_other_spellings_are_none(key: str) -> None:
    assert parse_tile_name(key) is None


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_a_bundle_gives_back_what_it_holds(items: list[bytes]) -> None:
    data = encode_bundle(items)
    assert decode_bundle(data) == items
    for cut in range(1, min(len(data), 4)):
        with contextlib.suppress(LedgerCorrupt):
            assert encode_bundle(decode_bundle(data[:-cut])) == data[:-cut]


def test_a_bundle_takes_no_item_beyond_16_bits() -> None:
    assert decode_bundle(encode_bundle([b"x" * 65535])) == [b"x" * 65535]
    with pytest.raises(OverflowError):
        encode_bundle([b"x" * 65536])


def entries(first: int, count: int) -> list[tuple[bytes, bytes]]:
    return [(b"leaf %d" % n, b"opening %d" % n) for n in range(first, first + count)]


def grown(*batches: int) -> tuple[MemoryLogObjects, TreeEdge]:
    objects, edge = MemoryLogObjects(), TreeEdge()
    for count in batches:
        edge = integrate(objects, edge, entries(edge.size, count))
    return objects, edge


batches = st.lists(
    st.sampled_from([1, 2, 100, 255, 256, 257, 511, 1024]) | st.integers(0, 700), min_size=1, max_size=6
)


@settings(max_examples=40)
@given(batches, st.integers(0), st.integers(0))
def test_the_tree_of_the_tiles_is_the_tree_of_the_leaves(counts: list[int], place: int, older: int) -> None:
    objects, edge = grown(*counts)
    size = sum(counts)
    leaves = [leaf_hash(leaf) for leaf, _ in entries(0, size)]
    root = CompactRange.of(leaves).root()
    assert edge.root() == root == TileReader(objects, size).root()
    assert read_edge(objects, size) == edge
    if not size:
        return
    reader, index, first = TileReader(objects, size), place % size, older % size + 1
    assert (reader.leaf(index), reader.opening(index)) == entries(index, 1)[0]
    assert verify_inclusion(leaves[index], index, size, reader.inclusion(index), root)
    old = CompactRange.of(leaves[:first]).root()
    assert verify_consistency(first, size, old, root, reader.consistency(first))


@settings(max_examples=40)
@given(batches)
def test_batches_make_the_same_full_tiles_as_one(counts: list[int]) -> None:
    objects, edge = grown(*counts)
    whole, same = grown(sum(counts))
    assert edge == same
    assert whole.stored.items() <= objects.stored.items()


def test_a_level_grows_by_one_tile_at_256_and_65536_entries() -> None:
    objects, edge = grown(65536)
    assert edge.hashes == ((), (), (edge.root(),))
    assert objects.get(hash_tile(2, 0, 1)) == edge.root()
    assert TileReader(objects, 65536).root() == edge.root()
    assert {parse_tile_name(key) for key in objects.keys("tile/1")} == {TileName("tile/1", 0, 256)}


def test_integration_repeats_and_resumes_and_never_writes_over() -> None:
    objects, edge = grown(300)
    batch = entries(300, 600)
    written, after = plan(edge, batch)
    for stop in range(len(written)):
        half = MemoryLogObjects()
        half.stored = {key: list(versions) for key, versions in objects.stored.items()}
        for key, data in written[:stop]:
            half.put_new(key, data)
        assert integrate(half, edge, batch) == after == integrate(half, read_edge(half, 300), batch)
        assert all(len(versions) == 1 for versions in half.stored.values())
    integrate(objects, edge, batch)
    before = {key: list(versions) for key, versions in objects.stored.items()}
    with pytest.raises(LedgerCorrupt):
        integrate(objects, edge, [(b"another", b"opening"), *batch[1:]])
    assert objects.stored == before


def test_a_partial_tile_that_is_gone_is_read_from_the_full_one() -> None:
    objects, _ = grown(300, 300)
    for key in ("tile/entries/001.p/44", "tile/0/001.p/44"):
        del objects.stored[key]
    reader = TileReader(objects, 300)
    assert reader.leaf(299) == b"leaf 299"
    assert reader.root() == grown(300)[1].root()
    with pytest.raises(LedgerCorrupt, match="behind the end"):
        reader.leaf(600)


def test_a_proof_reads_as_many_tiles_as_the_tree_has_levels() -> None:
    objects, _ = grown(70_000)
    read: list[str] = []
    stored_get = objects.get
    objects.get = lambda key, version=None: read.append(key) or stored_get(key, version)  # type: ignore[method-assign,func-returns-value]
    TileReader(objects, 70_000).inclusion(12_345)
    assert len(read) <= 5
