"""The Merkle tree against the vectors of Certificate Transparency and against the recursive definition."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abeyance.ledger.merkle import (
    EMPTY_ROOT,
    CompactRange,
    consistency_ranges,
    inclusion_ranges,
    leaf_hash,
    verify_consistency,
    verify_inclusion,
)

# The test vectors of RFC 6962's reference implementation, used by every later one.
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
INCLUSION = {
    (0, 1): [],
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
}
CONSISTENCY = {
    (1, 8): INCLUSION[0, 8],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
HASHES = [leaf_hash(leaf) for leaf in LEAVES]


def mth(leaves: list[bytes]) -> bytes:
    """MTH of RFC 9162, section 2.1.1, word for word, over leaf hashes."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return sha256(b"\x01" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def tree(leaves: list[bytes]) -> CompactRange:
    grown = CompactRange()
    grown.extend(leaves)
    return grown


def roots(hashes: list[bytes], ranges: list[tuple[int, int]]) -> list[bytes]:
    """The roots of ranges of leaves, by the definition."""
    return [mth(hashes[low:high]) for low, high in ranges]


@pytest.mark.parametrize("size", range(9))
def test_roots_of_the_reference_vectors(size: int) -> None:
    assert tree(HASHES[:size]).root().hex() == ROOTS[size]


@pytest.mark.parametrize(("index", "size"), INCLUSION)
def test_inclusion_proofs_of_the_reference_vectors(index: int, size: int) -> None:
    path = roots(HASHES, inclusion_ranges(index, size))
    assert [node.hex() for node in path] == INCLUSION[index, size]
    assert verify_inclusion(HASHES[index], index, size, path, bytes.fromhex(ROOTS[size]))


@pytest.mark.parametrize(("first", "second"), CONSISTENCY)
def test_consistency_proofs_of_the_reference_vectors(first: int, second: int) -> None:
    path = roots(HASHES, consistency_ranges(first, second))
    assert [node.hex() for node in path] == CONSISTENCY[first, second]
    old, new = bytes.fromhex(ROOTS[first]), bytes.fromhex(ROOTS[second])
    assert verify_consistency(first, second, old, new, path)


leaves = st.integers(1, 70).map(lambda count: [leaf_hash(bytes([n])) for n in range(count)])


@given(leaves, st.lists(st.integers(1, 9)))
def test_a_compact_range_has_the_root_of_the_definition_however_it_grew(
    hashes: list[bytes], steps: list[int]
) -> None:
    grown, rest = CompactRange(), list(hashes)
    for step in steps:
        grown.extend(rest[:step])
        rest = rest[step:]
        grown = CompactRange(grown.size, grown.nodes)
    for leaf in rest:
        grown.append(leaf)
    assert (grown.size, grown.root()) == (len(hashes), mth(hashes))


@given(leaves, st.data())
def test_inclusion_is_proved_for_every_leaf_and_for_no_other(
    hashes: list[bytes], data: st.DataObject
) -> None:
    size = len(hashes)
    index = data.draw(st.integers(0, size - 1))
    path = roots(hashes, inclusion_ranges(index, size))
    root = mth(hashes)
    assert verify_inclusion(hashes[index], index, size, path, root)
    other = data.draw(st.integers(0, size + 2))
    if other != index:
        assert not verify_inclusion(hashes[index], other, size, path, root)
    assert not verify_inclusion(leaf_hash(b"forged"), index, size, path, root)
    assert not verify_inclusion(hashes[index], index, size, [*path, root], root)
    if path:
        assert not verify_inclusion(hashes[index], index, size, path[:-1], root)


@given(leaves, st.data())
def test_consistency_is_proved_for_every_prefix_and_for_no_other(
    hashes: list[bytes], data: st.DataObject
) -> None:
    second = len(hashes)
    first = data.draw(st.integers(1, second))
    path = roots(hashes, consistency_ranges(first, second))
    old, new = mth(hashes[:first]), mth(hashes)
    assert verify_consistency(first, second, old, new, path)
    assert not verify_consistency(first, second, leaf_hash(b"other"), new, path)
    assert not verify_consistency(first, second, old, leaf_hash(b"other"), path)
    assert not verify_consistency(first, second, old, new, [*path, old])


def test_impossible_arguments_are_refused() -> None:
    assert CompactRange().root() == EMPTY_ROOT
    for size, nodes in ((-1, []), (1, []), (2, [b""]), (3, [bytes(32)])):
        with pytest.raises(ValueError, match="compact range"):
            CompactRange(size, nodes)
    for index, size in ((0, 0), (1, 1), (-1, 3)):
        with pytest.raises(ValueError, match="leaf"):
            inclusion_ranges(index, size)
        assert not verify_inclusion(bytes(32), index, size, [], bytes(32))
    for first, second in ((0, 1), (2, 1)):
        with pytest.raises(ValueError, match="no consistency"):
            consistency_ranges(first, second)
        assert not verify_consistency(first, second, bytes(32), bytes(32), [])
