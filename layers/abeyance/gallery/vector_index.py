"""Search through DynamoDB's own vector index, for collections past what fits in memory.

The index gives candidates, approximately and a little late; the table says, strongly consistent, which of them
still exist, and their stored templates are scored as an exact search scores them::

    SearchVectors --> keys of log items --> BatchGetItem --> templates --\\
                                                                         exact search --> candidates
    META, change log --> the latest changes, kept in memory -------------/

What it finds exists and has its exact cosine. What it can miss, and an exact search cannot, is in
:class:`IndexSearcher` and in docs/adr/0004-vector-index.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from abeyance.gallery import exact
from abeyance.gallery.changelog import ATTRIBUTES, Log
from abeyance.gallery.errors import IndexUnavailable
from abeyance.gallery.items import FACE, LOG_KIND, USER, Meta
from abeyance.gallery.matrix import Matrix
from abeyance.gallery.model import Candidate, CollectionRef, Kind
from abeyance.gallery.port import Block, Changes, Position
from abeyance.gallery.search import Searcher, checked
from abeyance.gallery.table import PARTITION, SORT
from abeyance.gallery.users import TableGallery

#: Most results that DynamoDB gives for one probe, and so most that this asks it for.
TOP = 100
#: Latest changes of a collection that are searched in memory, so that the index may be that far behind.
RECENT = 4096
#: Up to this many templates, a collection is searched in memory.
EXACT_UP_TO = 1_000_000
#: Probes that the index is asked about at the same time.
PARALLEL = 8

_KINDS = {Kind.FACE: FACE, Kind.USER: USER}
#: What DynamoDB says of an index that is not there, is being filled, or has vectors of another length.
_UNAVAILABLE = frozenset({"ResourceNotFoundException", "ValidationException"})


class Index(Protocol):
    """What an index over log items is asked."""

    @property
    def name(self) -> str:
        """Its name, which a collection's META has if the collection is in it."""
        ...

    def nearest(self, pk: str, kind: Kind, probe: npt.NDArray[np.floating]) -> list[str]:
        """Sort keys of log items of a partition, most similar first: approximately, and some of them gone.

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

    def nearest(self, pk: str, kind: Kind, probe: npt.NDArray[np.floating]) -> list[str]:
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
    """A :class:`~abeyance.gallery.search.Searcher` that asks the vector index about large collections.

    A collection of up to ``exact_up_to`` templates, and one that is not in the index because it was made before
    there was one, is searched exactly, in memory. For the others:

    - A template that is found exists at the time of the search, and its cosine is exact: erased ones are left out
      however far the index is behind.
    - The latest ``recent`` changes of the collection are always searched, exactly.
    - An older template may be missed: by the approximation, or because the index is further behind than that.
      There is no bound on either.
    - A probe gets at most 100 candidates older than the recent ones, whatever its limit. Erased templates that
      the index has not let go of yet count among them.

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
    rest
        ``max_bytes`` and ``clock``, as of the base class.
    """

    def __init__(
        self,
        gallery: TableGallery,
        index: Index,
        *,
        exact_up_to: int = EXACT_UP_TO,
        recent: int = RECENT,
        **rest: Any,
    ) -> None:
        super().__init__(gallery, **rest)
        self._gallery = gallery
        self._index = index
        self._exact_up_to = exact_up_to
        self._recent = Searcher(_Recent(gallery, recent), **rest)

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
        """The best matches of each probe, as far as the index knows them.

        As :meth:`Searcher.search`; and raises :class:`~abeyance.gallery.errors.IndexUnavailable`.
        """
        meta = self._gallery.meta(ref)
        if not self._uses_index(meta):
            return super().search(ref, probes, limit=limit, min_cosine=min_cosine, kind=kind, model=model)
        probes = checked(probes, meta.model, meta.dimension, limit=limit, model=model)
        if not len(probes):
            return []
        # In this order: what was erased or replaced before a candidate was read is known by its void, and what
        # came in its place is among the changes read after.
        older = Matrix().updated(self._candidates(meta, probes, kind), None)
        view = self._recent._fresh(ref)
        if view.position.generation != meta.generation:
            # The collection was deleted, and made anew, meanwhile.
            return self.search(ref, probes, limit=limit, min_cosine=min_cosine, kind=kind, model=model)
        found, latest = (
            exact.search(matrix, kind, probes, limit, min_cosine) for matrix in (older, view.matrices[kind])
        )
        return [_best(*both, limit) for both in zip(found, latest, strict=True)]

    def refresh(self, ref: CollectionRef) -> int:
        """As :meth:`Searcher.refresh`; of a collection in the index, only its recent changes come into memory."""
        meta = self._gallery.meta(ref)
        return self._recent.refresh(ref) if self._uses_index(meta) else super().refresh(ref)

    @property
    def nbytes(self) -> int:
        return super().nbytes + self._recent.nbytes

    def _uses_index(self, meta: Meta) -> bool:
        return meta.index == self._index.name and meta.faces + meta.users > self._exact_up_to

    def _candidates(self, meta: Meta, probes: npt.NDArray[np.float32], kind: Kind) -> list[Block]:
        """Templates that the index names for any of the probes, as the table has them now."""
        with ThreadPoolExecutor(min(PARALLEL, len(probes))) as pool:
            named = pool.map(lambda probe: self._index.nearest(meta.pk, kind, probe), probes)
            keys = {(meta.pk, sk) for keys in named for sk in keys}
        items = self._gallery.table.get_many(keys, attributes=ATTRIBUTES)
        return [block for block in Log(meta.dimension).take(items.values()).blocks() if block.kind is kind]


class _Recent:
    """A :class:`~abeyance.gallery.port.Feed` of the latest changes only: older ones are told as dead."""

    def __init__(self, gallery: TableGallery, most: int) -> None:
        self._gallery = gallery
        self._most = most

    def changes(self, ref: CollectionRef, after: Position | None = None) -> Changes:
        meta = self._gallery.meta(ref)
        first = max(0, meta.seq - self._most)
        known = after is not None and after.generation == meta.generation and first <= after.seq <= meta.seq
        begin = after.seq if after is not None and known else first
        log = self._gallery.read_log(meta, begin)
        left = range(max(0, begin - self._most) + 1, first + 1) if known else ()
        return Changes(
            not known,
            Position(meta.generation, meta.seq),
            meta.model,
            meta.dimension,
            log.blocks(),
            np.array([*log.dead, *left], dtype=np.int64),
        )


def _best(older: Sequence[Candidate], latest: Sequence[Candidate], limit: int) -> list[Candidate]:
    """The best of both; of a face or user in both, the latest."""
    found = {candidate.face_id: candidate for candidate in (*older, *latest)}
    return sorted(found.values(), key=lambda candidate: (-candidate.cosine, candidate.face_id))[:limit]


__all__ = ["DynamoIndex", "Index", "IndexSearcher"]
