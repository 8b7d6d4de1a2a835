"""The port of a searcher: the part of a gallery that it reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from abeyance.gallery.model import Collection, CollectionRef, TemplateKind

#: Bytes of an id in a :class:`Block`: a UUID's 16, or a user id padded with NUL.
ID_BYTES = {TemplateKind.FACE: 16, TemplateKind.USER: 128}


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Columns of templates, in ascending order of seq.

    Attributes
    ----------
    kind
        Faces or users.
    seqs
        (n,) int64, strictly ascending.
    ids
        (n, 16) uint8 for faces, the bytes of the UUIDs; (n, 128) uint8 for users, padded with NUL.
    templates
        (n, d) float16, unit length before rounding.
    """

    kind: TemplateKind
    seqs: npt.NDArray[np.int64]
    ids: npt.NDArray[np.uint8]
    templates: npt.NDArray[np.float16]


@dataclass(frozen=True, slots=True, eq=False)
class Changes:
    """The changes of a collection after a moment.

    Attributes
    ----------
    reset
        Forget everything read before: these blocks are the whole collection.
    collection
        The collection with these changes.
    blocks
        Templates that came.
    dead
        Seqs of templates that went: of blocks read earlier or of these. The order in which blocks and ``dead`` are
        applied does not matter, because a seq is never used twice.
    """

    reset: bool
    collection: Collection
    blocks: tuple[Block, ...] = ()
    dead: Sequence[int] = ()


class Feed(Protocol):
    """The part of a gallery that a searcher reads."""

    def changes(self, ref: CollectionRef, after: Collection | None = None) -> Changes:
        """Return everything that changed since a moment; the whole collection for ``None``.

        Strongly consistent: a change whose call has returned is in the answer.

        Raises
        ------
        CollectionNotFound
            There is no such collection (any more).
        """
        ...
