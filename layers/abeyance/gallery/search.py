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
from abeyance.gallery.items import KEEP_S
from abeyance.gallery.matrix import Matrix
from abeyance.gallery.model import Candidate, Collection, CollectionRef, TemplateKind
from abeyance.gallery.port import Changes, Feed

#: Bytes of templates that a searcher keeps in memory.
MAX_BYTES = 2 * 1024**3


class Searcher:
    """A search of collections that are kept in memory and brought up to date before every search.

    Safe for use from many threads. Searches do not wait for each other; those of the same collection at the same
    moment share one refresh, but only one that began after they did.

    Parameters
    ----------
    feed
        The gallery.
    max_bytes
        When the templates in memory are more than this, the collections that were not searched for longest are
        dropped. The one being searched always stays.
    clock
        Seconds, going on while the process is frozen: a searcher that was idle for longer than the gallery keeps its
        change log reads the collection anew.

    Examples
    --------
    >>> searcher = Searcher(DynamoGallery(dynamodb, "gallery", s3, "gallery"))  # doctest: +SKIP
    >>> searcher.search(CollectionRef("acme", "staff"), probes, limit=3)  # doctest: +SKIP
    [[Candidate(face_id='...', cosine=0.71)]]
    """

    def __init__(
        self, feed: Feed, *, max_bytes: int = MAX_BYTES, clock: Callable[[], float] = time.time
    ) -> None:
        self._feed = feed
        self._max_bytes = max_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._cached: OrderedDict[CollectionRef, _CachedCollection] = OrderedDict()

    def search(
        self,
        collection: CollectionRef | Collection,
        probes: npt.NDArray[np.floating],
        *,
        limit: int = 10,
        min_cosine: float = -1.0,
        kind: TemplateKind = TemplateKind.FACE,
        model: str = "",
    ) -> list[list[Candidate]]:
        """Return the best matches of each probe, exactly.

        Parameters
        ----------
        collection
            A name; or what :meth:`refresh` returned, to search without reading the gallery again. The search then
            sees at least every change up to the refresh.
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
        view = self.view(collection)
        probes = checked(probes, view.collection, limit=limit, model=model)
        return exact.search(view.matrices[kind], kind, probes, limit, min_cosine) if len(probes) else []

    def refresh(self, ref: CollectionRef) -> Collection:
        """Bring a collection into memory and up to date; return it as it is now."""
        return self.view(ref).collection

    @property
    def nbytes(self) -> int:
        """Bytes of templates in memory."""
        with self._lock:
            return sum(cached.nbytes for cached in self._cached.values())

    def view(self, collection: CollectionRef | Collection) -> CollectionView:
        """Return the templates, with at least every change up to a moment; up to now for a bare name."""
        ref, since = (
            (collection.ref, collection) if isinstance(collection, Collection) else (collection, None)
        )
        with self._lock:
            cached = self._cached.setdefault(ref, _CachedCollection())
            self._cached.move_to_end(ref)
        try:
            view = cached.view(since, lambda after: self._feed.changes(ref, after), self._clock)
        except CollectionNotFound:
            with self._lock:
                if self._cached.get(ref) is cached:
                    del self._cached[ref]
            raise
        with self._lock:
            total = sum(cached.nbytes for cached in self._cached.values())
            for other in list(self._cached):
                if total > self._max_bytes and other != ref:
                    total -= self._cached.pop(other).nbytes
        return view


def checked(
    probes: npt.NDArray[np.floating], collection: Collection, *, limit: int, model: str
) -> npt.NDArray[np.float32]:
    """Return the probes of a search as (n, d) float32; raise as :meth:`Searcher.search` does."""
    if limit < 1:
        raise InvalidInput("a search returns at least 1 candidate")
    if model and model != collection.model:
        raise ModelMismatch(f"the collection holds templates of {collection.model}, not of {model}")
    probes = np.asarray(probes, dtype=np.float32)
    if probes.ndim != 2 or probes.shape[1] != collection.dimension:
        raise InvalidInput(f"probes of this collection are (n, {collection.dimension})")
    lengths = np.linalg.norm(probes, axis=1)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise InvalidInput("a probe is finite and not zero")
    return probes


@dataclass(frozen=True, slots=True, eq=False)
class CollectionView:
    """A collection with its templates, as of one moment."""

    collection: Collection
    #: When it was read, by the searcher's clock.
    read_at_s: float
    matrices: dict[TemplateKind, Matrix]

    @classmethod
    def of(cls, changes: Changes, now_s: float, before: CollectionView | None) -> CollectionView:
        old = {} if before is None or changes.reset else before.matrices
        matrices = {
            kind: old.get(kind, Matrix()).updated((b for b in changes.blocks if b.kind is kind), changes.dead)
            for kind in TemplateKind
        }
        return cls(changes.collection, now_s, matrices)

    def covers(self, since: Collection) -> bool:
        """Return whether it has every change up to a moment of the same collection."""
        mine = self.collection
        return mine.generation == since.generation and mine.seq >= since.seq


class _CachedCollection:
    """A collection in memory, which one thread at a time refreshes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._view: CollectionView | None = None
        self._begun = 0
        self._done = 0

    @property
    def nbytes(self) -> int:
        view = self._view
        return sum(matrix.nbytes for matrix in view.matrices.values()) if view else 0

    def view(
        self,
        since: Collection | None,
        read: Callable[[Collection | None], Changes],
        clock: Callable[[], float],
    ) -> CollectionView:
        """Return the collection with everything committed before ``since``, or before this call."""
        arrived = self._begun
        with self._lock:
            view = self._view
            # A refresh that began after this call may have ended while this call waited.
            if view is not None and (self._done > arrived or (since is not None and view.covers(since))):
                return view
            self._begun += 1
            now = clock()
            expired = view is not None and not 0 <= now - view.read_at_s < KEEP_S / 2
            changes = read(None if view is None or expired else view.collection)
            self._view = view = CollectionView.of(changes, now, view)
            self._done = self._begun
            return view
