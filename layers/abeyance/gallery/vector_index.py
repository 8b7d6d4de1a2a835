"""Search through DynamoDB's own vector index, for collections that do not fit in memory.

The index gives candidates, approximately and a little late; the table says, strongly consistent, which of them
still exist, and their stored templates are scored as an exact search scores them::

    SearchVectors --> keys of log items --> BatchGetItem --> templates --\\
                                                                         exact search --> candidates
    META, change log --> the latest changes, kept in memory -------------/

A result exists and has its exact cosine. :class:`IndexSearcher` and docs/adr/0004-vector-index.md say which results
it can miss, and an exact search cannot.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from abeyance.aws.table import PARTITION, SORT
from abeyance.gallery import exact
from abeyance.gallery.changelog import ATTRIBUTES, LogEntries
from abeyance.gallery.errors import IndexUnavailable
from abeyance.gallery.facade import Gallery
from abeyance.gallery.items import FACE, LOG_KIND, USER
from abeyance.gallery.matrix import Matrix
from abeyance.gallery.model import Candidate, Collection, CollectionRef, TemplateKind
from abeyance.gallery.port import Block, Changes
from abeyance.gallery.search import MAX_BYTES, Searcher, checked

#: Most results that DynamoDB returns for one probe, and so the number that is asked for.
TOP = 100
#: Latest changes of a collection that are searched in memory, so that the index may be that far behind.
RECENT = 4096
#: Up to this many templates, a collection is searched in memory.
EXACT_UP_TO = 1_000_000
#: Probes that the index is searched for at the same time.
PARALLEL = 8

_KINDS = {TemplateKind.FACE: FACE, TemplateKind.USER: USER}
#: Error codes of DynamoDB for an index that is not there, is being filled, or has vectors of another length.
_UNAVAILABLE = frozenset({"ResourceNotFoundException", "ValidationException"})


class Index(Protocol):
    """The port of an approximate index over the templates in log items."""

    @property
    def name(self) -> str:
        """Name of the index, which a collection's META has if the collection is in it."""
        ...

    def nearest(self, pk: str, kind: TemplateKind, probe: npt.NDArray[np.floating]) -> list[str]:
        """Return sort keys of log items of a partition, most similar first: approximately, and some of them gone.

        Parameters
        ----------
        pk
            The collection's partition.
        kind
            Templates of faces, or of users.
        probe
            (d,) of any length but zero.

        Raises
        ------
        IndexUnavailable
            The index cannot be searched.
        """
        ...


class DynamoIndex:
    """:class:`Index` over a boto3 DynamoDB client.

    See https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_SearchVectors.html. The partition is a
    condition of every request, because IAM cannot hold a role to one in this operation.
    """

    def __init__(self, client: Any, table: str, name: str, *, top: int = TOP) -> None:
        self._client = client
        self._table = table
        self._top = top
        self.name = name

    def nearest(self, pk: str, kind: TemplateKind, probe: npt.NDArray[np.floating]) -> list[str]:
        unit = np.asarray(probe, dtype=np.float64)
        unit = unit / np.linalg.norm(unit)
        try:
            answer = self._client.search_vectors(
                TableName=self._table,
                IndexName=self.name,
                SearchVector=[{"N": f"{x:.7g}"} for x in unit.tolist()],
                TopK=self._top,
                SearchConditionExpression="#pk = :pk AND #k = :k",
                ExpressionAttributeNames={"#pk": PARTITION, "#k": LOG_KIND, "#sk": SORT},
                ExpressionAttributeValues={":pk": {"S": pk}, ":k": {"S": _KINDS[kind]}},
                ProjectionExpression="#sk",
            )
        except self._client.exceptions.ClientError as error:
            if error.response["Error"]["Code"] in _UNAVAILABLE:
                raise IndexUnavailable(
                    "the vector index cannot be searched; wait until it is ACTIVE, or deploy without it"
                ) from error
            raise
        return [found["Item"][SORT]["S"] for found in answer.get("SearchResults", ())]


class IndexSearcher(Searcher):
    """A :class:`~abeyance.gallery.search.Searcher` that uses the vector index for large collections.

    A collection of up to ``exact_up_to`` templates, and one that is not in the index because it was created before
    there was one, is searched exactly, in memory. For the others:

    - A template that is found exists at the time of the search, and its cosine is exact: erased ones are left out
      however far the index is behind.
    - The latest ``recent`` changes of the collection are always searched, exactly.
    - An older template may be missed: by the approximation, or because the index is further behind than that.
      There is no bound on either.
    - A probe gets at most 100 candidates older than the recent ones, whatever its limit. Erased templates that
      the index has not removed yet count among them.

    Safe for use from many threads.

    Parameters
    ----------
    gallery
        The gallery; of its collections, those whose META names the index are in it.
    index
        Over the gallery's table.
    exact_up_to
        Templates.
    recent
        Changes; each costs the memory of a template.
    max_bytes, clock
        As of :class:`~abeyance.gallery.search.Searcher`.
    """

    def __init__(
        self,
        gallery: Gallery,
        index: Index,
        *,
        exact_up_to: int = EXACT_UP_TO,
        recent: int = RECENT,
        max_bytes: int = MAX_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(gallery, max_bytes=max_bytes, clock=clock)
        self._gallery = gallery
        self._index = index
        self._exact_up_to = exact_up_to
        self._recent = Searcher(_RecentFeed(gallery, recent), max_bytes=max_bytes, clock=clock)

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
        """Return the best matches of each probe, as far as the index has them.

        As :meth:`Searcher.search`; and raises :class:`~abeyance.gallery.errors.IndexUnavailable`.
        """
        known = collection if isinstance(collection, Collection) else self._gallery.describe(collection)
        if not self._uses_index(known):
            return super().search(known, probes, limit=limit, min_cosine=min_cosine, kind=kind, model=model)
        probes = checked(probes, known, limit=limit, model=model)
        if not len(probes):
            return []
        # In this order: a candidate that was erased or replaced before it was read is a void by then, and the one in
        # its place is among the changes read after it. So these are read anew even where ``known`` is recent.
        older = Matrix().updated(self._candidates(known, probes, kind))
        view = self._recent.view(known.ref)
        if view.collection.generation != known.generation:
            # The collection was deleted, and created anew, meanwhile.
            return self.search(known.ref, probes, limit=limit, min_cosine=min_cosine, kind=kind, model=model)
        found, latest = (
            exact.search(matrix, kind, probes, limit, min_cosine) for matrix in (older, view.matrices[kind])
        )
        return [_best(*both, limit) for both in zip(found, latest, strict=True)]

    def refresh(self, ref: CollectionRef) -> Collection:
        """As :meth:`Searcher.refresh`; a collection in the index comes into memory with its first search only."""
        known = self._gallery.describe(ref)
        return known if self._uses_index(known) else self.view(known).collection

    @property
    def nbytes(self) -> int:
        return super().nbytes + self._recent.nbytes

    def _uses_index(self, collection: Collection) -> bool:
        count = collection.face_count + collection.user_count
        return collection.vector_index == self._index.name and count > self._exact_up_to

    def _candidates(
        self, collection: Collection, probes: npt.NDArray[np.float32], kind: TemplateKind
    ) -> list[Block]:
        """Return the templates that the index names for any of the probes, as the table has them now."""
        with ThreadPoolExecutor(min(PARALLEL, len(probes))) as pool:
            named = pool.map(lambda probe: self._index.nearest(collection.pk, kind, probe), probes)
            keys = {(collection.pk, sk) for sort_keys in named for sk in sort_keys}
        items = self._gallery.storage.table.get_many(keys, attributes=ATTRIBUTES)
        log = LogEntries(collection.dimension).add(items.values())
        return [block for block in log.blocks() if block.kind is kind]


class _RecentFeed:
    """A :class:`~abeyance.gallery.port.Feed` of the latest changes only; older templates are said to be gone."""

    def __init__(self, gallery: Gallery, count: int) -> None:
        self._gallery = gallery
        self._count = count

    def changes(self, ref: CollectionRef, after: Collection | None = None) -> Changes:
        meta = self._gallery.storage.meta(ref)
        first = max(0, meta.seq - self._count)
        same = after is not None and after.generation == meta.public_generation
        known = same and after is not None and first <= after.seq <= meta.seq
        begin = after.seq if after is not None and known else first
        log = self._gallery.changelog.read(meta, begin)
        left = range(max(0, begin - self._count) + 1, first + 1) if known else ()
        return Changes(not known, meta.public(), log.blocks(), [*log.dead, *left])


def _best(older: Sequence[Candidate], latest: Sequence[Candidate], limit: int) -> list[Candidate]:
    """Return the best of both; of a face or user in both, the latest."""
    found = {candidate.face_id: candidate for candidate in (*older, *latest)}
    return sorted(found.values(), key=lambda candidate: (-candidate.cosine, candidate.face_id))[:limit]
