"""Exact search that sees every write and delete that has returned."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from abeyance.gallery import exact
from abeyance.gallery.errors import CollectionNotFound, InvalidInput, ModelMismatch
from abeyance.gallery.items import KEEP
from abeyance.gallery.matrix import Matrix
from abeyance.gallery.model import Candidate, CollectionRef, Kind
from abeyance.gallery.port import Changes, Feed, Position

#: Bytes of templates that a searcher keeps in memory.
MAX_BYTES = 2 * 1024**3


class Searcher:
    """Searches collections that it keeps in memory, brought up to date before every search.

    Safe for use from many threads. Searches do not wait for each other; those that ask about the same
    collection at the same moment share one refresh, but only one that began after they did.

    Parameters
    ----------
    feed
        The gallery.
    max_bytes
        When the templates in memory are more than this, collections that were not searched for longest are
        forgotten. The one being searched always stays.
    clock
        Seconds, going on while the process is frozen: who was away for longer than the gallery keeps its
        change log reads the collection anew.

    Examples
    --------
    >>> from abeyance.gallery.memory import InMemoryGallery
    >>> gallery = InMemoryGallery()
    >>> staff = CollectionRef("acme", "staff")
    >>> gallery.create_collection(staff, model="sface@0", dimension=128).face_count
    0
    >>> Searcher(gallery).search(staff, np.ones((1, 128), dtype=np.float32), limit=3)
    [[]]
    """

    def __init__(
        self, feed: Feed, *, max_bytes: int = MAX_BYTES, clock: Callable[[], float] = time.time
    ) -> None:
        self._feed = feed
        self._max_bytes = max_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._known: OrderedDict[CollectionRef, _Held] = OrderedDict()

    def search(
        self,
        ref: CollectionRef,
        probes: npt.NDArray[np.floating],
        *,
        limit: int = 10,
        min_cosine: float = -1.0,
        kind: Kind = Kind.FACE,
        model: str = "",
    ) -> list[list[Candidate]]:
        """The best matches of each probe, exactly.

        Parameters
        ----------
        ref
            The collection.
        probes
            (n, d) floating point; any length but zero.
        limit
            Most candidates for each probe, at least 1.
        min_cosine
            Candidates below it are left out.
        kind
            Search faces, or users by the mean of their faces.
        model
            Identity of the model that the probes come from; checked if given.

        Returns
        -------
        list of list of Candidate
            For each probe, best first; equal cosines in the order of their ids.

        Raises
        ------
        CollectionNotFound
            There is no such collection (any more).
        ModelMismatch
            The probes come from another model than the collection's templates.
        InvalidInput
            Probes of another shape, zero, or not finite; a limit below 1.
        """
        view = self._fresh(ref)
        probes = checked(probes, view.model, view.dimension, limit=limit, model=model)
        return exact.search(view.matrices[kind], kind, probes, limit, min_cosine) if len(probes) else []

    def refresh(self, ref: CollectionRef) -> int:
        """Bring a collection into memory and up to date; returns its seq. For warming up."""
        return self._fresh(ref).position.seq

    @property
    def nbytes(self) -> int:
        """Bytes of templates in memory."""
        with self._lock:
            return sum(held.nbytes for held in self._known.values())

    def _fresh(self, ref: CollectionRef) -> _View:
        with self._lock:
            held = self._known.setdefault(ref, _Held())
            self._known.move_to_end(ref)
        try:
            view = held.fresh(lambda position: self._feed.changes(ref, position), self._clock)
        except CollectionNotFound:
            with self._lock:
                if self._known.get(ref) is held:
                    del self._known[ref]
            raise
        self._shrink(ref)
        return view

    def _shrink(self, keep: CollectionRef) -> None:
        with self._lock:
            total = sum(held.nbytes for held in self._known.values())
            for ref in list(self._known):
                if total <= self._max_bytes:
                    return
                if ref != keep:
                    total -= self._known.pop(ref).nbytes


def checked(
    probes: npt.NDArray[np.floating], pinned_to: str, dimension: int, *, limit: int, model: str
) -> npt.NDArray[np.float32]:
    """The probes of a search as (n, d) float32; raises what :meth:`Searcher.search` says of bad ones."""
    if limit < 1:
        raise InvalidInput("a search returns at least 1 candidate")
    if model and model != pinned_to:
        raise ModelMismatch(f"the collection holds templates of {pinned_to}, not of {model}")
    probes = np.asarray(probes, dtype=np.float32)
    if probes.ndim != 2 or probes.shape[1] != dimension:
        raise InvalidInput(f"probes of this collection are (n, {dimension})")
    lengths = np.linalg.norm(probes, axis=1)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise InvalidInput("a probe is finite and not zero")
    return probes


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    """A collection at a position."""

    model: str
    dimension: int
    position: Position
    #: When it was read.
    seen: float
    matrices: dict[Kind, Matrix]

    @classmethod
    def of(cls, changes: Changes, seen: float, before: _View | None) -> _View:
        old = {} if before is None or changes.reset else before.matrices
        matrices = {
            kind: old.get(kind, Matrix()).updated((b for b in changes.blocks if b.kind is kind), changes.dead)
            for kind in Kind
        }
        return cls(changes.model, changes.dimension, changes.position, seen, matrices)


class _Held:
    """A collection in memory, and the one thread at a time that refreshes it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._view: _View | None = None
        self._begun = 0
        self._done = 0

    @property
    def nbytes(self) -> int:
        view = self._view
        return sum(matrix.nbytes for matrix in view.matrices.values()) if view else 0

    def fresh(self, read: Callable[[Position | None], Changes], clock: Callable[[], float]) -> _View:
        """The collection with everything that had been committed when this was called."""
        arrived = self._begun
        with self._lock:
            if self._view is not None and self._done > arrived:
                # A refresh that began after we came has ended while we waited.
                return self._view
            self._begun += 1
            now = clock()
            view = self._view
            expired = view is not None and not 0 <= now - view.seen < KEEP / 2
            changes = read(None if view is None or expired else view.position)
            self._view = view = _View.of(changes, now, view)
            self._done = self._begun
            return view
