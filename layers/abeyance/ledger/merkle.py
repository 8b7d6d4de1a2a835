"""Merkle tree of RFC 9162 (Certificate Transparency 2.0), section 2.1, over the hashes of entries.

Everything streams: a root comes from one pass over the leaves with O(log n) memory, because a :class:`CompactRange`
keeps only the roots of the complete subtrees so far.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Final

#: Root of the tree without leaves (RFC 9162, section 2.1.1).
EMPTY_ROOT: Final = sha256(b"").digest()


def leaf_hash(data: bytes) -> bytes:
    """32 bytes: SHA-256(0x00 || data)."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """32 bytes: SHA-256(0x01 || left || right)."""
    return sha256(b"\x01" + left + right).digest()


class CompactRange:
    """The first ``size`` leaves of a tree, as the roots of its complete subtrees, largest first.

    Parameters
    ----------
    size
        Number of leaves.
    nodes
        One root of 32 bytes for every 1 in the binary form of ``size``, largest subtree first.

    Raises
    ------
    ValueError
        The nodes do not fit the size.
    """

    __slots__ = ("_levels", "size")

    def __init__(self, size: int = 0, nodes: Sequence[bytes] = ()) -> None:
        levels = [level for level in range(size.bit_length()) if size >> level & 1]
        if size < 0 or len(levels) != len(nodes) or any(len(node) != 32 for node in nodes):
            raise ValueError(
                "a compact range has one node of 32 bytes for every 1 in the binary form of its size"
            )
        self.size = size
        self._levels = dict(zip(levels, reversed(nodes), strict=True))

    @classmethod
    def of(cls, leaves: Iterable[bytes]) -> CompactRange:
        """Return the range of these leaf hashes."""
        made = cls()
        made.extend(leaves)
        return made

    @property
    def nodes(self) -> list[bytes]:
        """Roots of the complete subtrees, largest first."""
        return [self._levels[level] for level in sorted(self._levels, reverse=True)]

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash."""
        self.extend([leaf])

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Add leaf hashes, level by level, which is several times faster than one by one."""
        row = list(leaves)
        self.size += len(row)
        level = 0
        while row:
            waiting = self._levels.pop(level, None)
            if waiting is not None:
                row.insert(0, waiting)
            if len(row) & 1:
                self._levels[level] = row.pop()
            row = [
                sha256(b"\x01" + left + right).digest()
                for left, right in zip(row[::2], row[1::2], strict=True)
            ]
            level += 1

    def root(self) -> bytes:
        """Root of the tree of these leaves, 32 bytes (RFC 9162, section 2.1.1)."""
        root = b""
        for level in sorted(self._levels):
            root = node_hash(self._levels[level], root) if root else self._levels[level]
        return root or EMPTY_ROOT


def inclusion_ranges(index: int, size: int) -> list[tuple[int, int]]:
    """Which half-open ranges of leaves have the roots that prove leaf ``index`` in a tree of ``size`` leaves.

    In the order of the proof, PATH of RFC 9162, section 2.1.3.1.

    Raises
    ------
    ValueError
        Not ``0 <= index < size``.
    """
    if not 0 <= index < size:
        raise ValueError(f"leaf {index} is not in a tree of {size} leaves")
    ranges: list[tuple[int, int]] = []
    low, high = 0, size
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            ranges.append((middle, high))
            high = middle
        else:
            ranges.append((low, middle))
            low = middle
    return ranges[::-1]


def consistency_ranges(first: int, second: int) -> list[tuple[int, int]]:
    """Which ranges of leaves have the roots that prove that ``first`` leaves begin the tree of ``second``.

    In the order of the proof, SUBPROOF of RFC 9162, section 2.1.4.1; empty if the sizes are equal.

    Raises
    ------
    ValueError
        Not ``0 < first <= second``.
    """
    if not 0 < first <= second:
        raise ValueError(f"no consistency proof from {first} to {second} leaves")
    ranges: list[tuple[int, int]] = []
    low, high, whole = 0, second, True
    while high != first:
        middle = low + _split(high - low)
        if first <= middle:
            ranges.append((middle, high))
            high = middle
        else:
            ranges.append((low, middle))
            low, whole = middle, False
    if not whole:
        ranges.append((low, high))
    return ranges[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Return whether ``path`` proves that leaf hash ``leaf`` is at ``index`` of the tree with this size and root.

    RFC 9162, section 2.1.3.2.
    """
    if not 0 <= index < size:
        return False
    node, last, value = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            return False
        if node & 1 or node == last:
            value = node_hash(sibling, value)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            value = node_hash(value, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and value == root


def verify_consistency(first: int, second: int, old: bytes, new: bytes, path: Sequence[bytes]) -> bool:
    """Return whether ``path`` proves that the tree of size ``first`` and root ``old`` begins that of ``second`` and
    ``new``.

    RFC 9162, section 2.1.4.2.
    """
    if not 0 < first <= second:
        return False
    if first == second:
        return not path and old == new
    nodes = list(path)
    if first & (first - 1) == 0:
        nodes.insert(0, old)
    if not nodes:
        return False
    node, last = first - 1, second - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    before = after = nodes[0]
    for sibling in nodes[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            before, after = node_hash(sibling, before), node_hash(sibling, after)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            after = node_hash(after, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and before == old and after == new


def _split(size: int) -> int:
    """Largest power of two below ``size``."""
    return 1 << (size - 1).bit_length() - 1
