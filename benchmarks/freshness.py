"""Freshness: the time until a cold searcher is ready, and until a warm one sees a change."""

from __future__ import annotations

import time
import uuid
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import botocore.session
import msgspec
import numpy as np
from botocore.parsers import create_parser

from abeyance.aws.dynamodb import decode as decode_item
from abeyance.aws.dynamodb import encode as encode_item
from abeyance.aws.table import PARTITION, SORT, Item, Key, Put, Update
from abeyance.gallery.collections import SPAN
from abeyance.gallery.facade import Gallery
from abeyance.gallery.items import FACE, VOID, Meta, log_key, segment_key
from abeyance.gallery.model import CollectionRef, TemplateKind
from abeyance.gallery.port import Block
from abeyance.gallery.search import Searcher
from abeyance.gallery.segments import SegmentHeader, encode
from benchmarks.comparison import BenchmarkPart, Figure, Progress, figure
from benchmarks.process import BenchmarkError

if TYPE_CHECKING:
    from abeyance.aws.objects import Objects
    from abeyance.aws.table import Table

#: At least so many changes that no snapshot has yet; writers leave up to a segment.
BEHIND = 10_000
#: Changes between two looks of a searcher that is up to date; every tenth erases a face.
CHANGED = 1000
_REFRESHES = {
    "memory": "items as they are after parsing",
    "parsed": "DynamoDB's answer parsed by boto3",
}
STAFF = CollectionRef("acme", "staff")


def run(quick: bool, progress: Progress) -> BenchmarkPart:
    """Measure; see :mod:`benchmarks.suite`."""
    figures: list[Figure] = []
    for dimension in (128,) if quick else (128, 512):
        count = 100_000 if quick else 1_000_000
        faces = f"{count:,} faces x {dimension}".replace(",", " ")
        key = f"{'100k' if quick else '1m'}.{dimension}d"
        # 512 numbers are measured to show the growth; the aims are for the default model.
        ready_s, refresh_ms = (5.0, 50.0) if dimension == 128 else (None, None)
        progress(faces)
        gallery = _Gallery(count, dimension)
        progress(f"{faces}: a cold searcher")
        cold = [gallery.cold_s() for _ in range(3)]
        note = f"{gallery.megabytes:.0f} MB of snapshot, {gallery.behind} changes behind it"
        what = f"Cold searcher ready on {faces}"
        figures.append(figure(f"freshness.cold.{key}", what, "s", cold, at_most=ready_s, note=note))
        progress(f"{faces}: a refresh")
        what = f"Refresh after {CHANGED} changes among {faces}"
        for name, note in _REFRESHES.items():
            gallery.table.parses = name == "parsed"
            times = gallery.refreshes_s(5 if quick else 15)
            name = f"freshness.refresh.{name}.{key}"
            figures.append(figure(name, what, "ms", times, scale=1000, at_most=refresh_ms, note=note))
    return BenchmarkPart(name="freshness", figures=tuple(figures), notes=_NOTES)


class _Table:
    """One writer's items in a dict, without conditions; queries, if it ``parses``, pass through DynamoDB's JSON."""

    def __init__(self) -> None:
        self._items: dict[str, dict[str, Item]] = {}
        self._sorted: dict[str, list[str]] = {}
        self.parses = False
        #: Spent on making up answers.
        self.answering_s = 0.0
        model = botocore.session.get_session().get_service_model("dynamodb")
        self._shape = model.operation_model("Query").output_shape
        self._parser = create_parser("json")

    def get(self, key: Key) -> Item | None:
        return self._items.get(key[0], {}).get(key[1])

    def transact(self, operations: Sequence[Put | Update]) -> None:
        for operation in operations:
            if isinstance(operation, Update):
                self._items[operation.key[0]][operation.key[1]] |= operation.set
                continue
            pk, sk = operation.item[PARTITION], operation.item[SORT]
            if sk not in self._items.setdefault(pk, {}):
                insort(self._sorted.setdefault(pk, []), sk)
            self._items[pk][sk] = operation.item

    def query(self, pk: str, first: str, last: str, *, attributes: Sequence[str] = ()) -> Iterator[Item]:
        order = self._sorted[pk]
        items = (self._items[pk][sk] for sk in order[bisect_left(order, first) : bisect_right(order, last)])
        found = ({name: item[name] for name in attributes or item if name in item} for item in items)
        if not self.parses:
            return found
        start = time.perf_counter()
        body = msgspec.json.encode({"Items": [encode_item(item) for item in found]})
        self.answering_s += time.perf_counter() - start
        answer = self._parser.parse({"status_code": 200, "headers": {}, "body": body}, self._shape)
        return map(decode_item, answer["Items"])


class _Objects(dict[str, bytes]):
    """A bucket of segments."""

    put = dict.__setitem__


class _Gallery:
    """A collection of generated faces: a snapshot, and the log behind it. Everything is in memory."""

    def __init__(self, count: int, dimension: int) -> None:
        self.table = _Table()
        self._objects = _Objects()
        self._gallery = Gallery(cast("Table", self.table), cast("Objects", self._objects), auto_compact=False)
        self._random = np.random.default_rng(dimension)
        self._gallery.create_collection(STAFF, model="bench@000000000000", dimension=dimension)
        meta = self._meta
        covered = (count - BEHIND) // SPAN * SPAN
        for number in range(covered // SPAN):
            self._put_segment(meta, number)
        self.table.transact([Update(meta.key, set={"seq": covered, "covered": covered})])
        self._append(count - covered, erase=False)

    @property
    def _meta(self) -> Meta:
        return self._gallery.storage.meta(STAFF)

    @property
    def behind(self) -> int:
        """Changes since the snapshot."""
        return self._meta.seq - self._meta.covered

    @property
    def megabytes(self) -> float:
        """Size of the snapshot."""
        return sum(map(len, self._objects.values())) / 1e6

    def cold_s(self) -> float:
        """Return the seconds until a new searcher is ready."""
        searcher = Searcher(self._gallery)
        seconds = self._refresh_s(searcher)
        self._check(searcher)
        return seconds

    def refreshes_s(self, rounds: int) -> list[float]:
        """Return the seconds of refreshes, each after :data:`CHANGED` changes; the first two are left out."""
        searcher = Searcher(self._gallery)
        self._refresh_s(searcher)
        found = []
        for _ in range(rounds + 1):
            self._append(CHANGED, erase=True)
            found.append(self._refresh_s(searcher))
        self._check(searcher)
        return found[1:]

    def _refresh_s(self, searcher: Searcher) -> float:
        start, answering = time.perf_counter(), self.table.answering_s
        searcher.refresh(STAFF)
        return time.perf_counter() - start - (self.table.answering_s - answering)

    def _check(self, searcher: Searcher) -> None:
        """Raise an error if the latest face is not found by its own template."""
        (best,) = searcher.search(STAFF, self._last[1].astype(np.float32)[None], limit=1)
        if [candidate.face_id for candidate in best] != [self._last[0]]:
            raise BenchmarkError("a refreshed searcher does not find the latest face; that is a bug")

    def _put_segment(self, meta: Meta, number: int) -> None:
        first, last = number * SPAN + 1, (number + 1) * SPAN
        kept = {name: getattr(meta, name) for name in ("generation", "model", "dimension")}
        header = SegmentHeader(number=number, first=first, last=last, **kept)
        ids = self._random.integers(0, 256, (SPAN, 16), dtype=np.uint8)
        templates = self._templates(SPAN, meta.dimension)
        block = Block(TemplateKind.FACE, np.arange(first, last + 1), ids, templates)
        self._objects.put(f"{number}.seg", encode(header, (block,)))
        pk, sk = segment_key(meta.pk, number)
        self.table.transact([Put({PARTITION: pk, SORT: sk, "object": f"{number}.seg"})])

    def _append(self, count: int, *, erase: bool) -> None:
        """Write changes behind the snapshot, as the gallery writes them."""
        meta = self._meta
        templates = self._templates(count, meta.dimension)
        for number, template in enumerate(templates):
            pk, sk = log_key(meta.pk, meta.seq + 1 + number)
            if erase and number % 10 == 0:
                change: Item = {"k": VOID, "of": int(self._random.integers(1, meta.covered))}
            else:
                self._last = str(uuid.UUID(bytes=self._random.bytes(16))), template
                change = {"k": FACE, "id": self._last[0], "v": template.tobytes()}
            self.table.transact([Put({PARTITION: pk, SORT: sk, **change})])
        self.table.transact([Update(meta.key, set={"seq": meta.seq + count})])

    def _templates(self, count: int, dimension: int) -> Any:
        vectors = self._random.integers(0, 256, (count, dimension), dtype=np.uint8) - np.float32(127.5)
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype("<f2")


_NOTES = (
    "Segments and table are in this process' memory, in place of S3 and DynamoDB: the network and the services are not "
    "measured. A cold searcher sends one request for each 16 384 faces, 16 at a time.",
    "Parsed means: the changes come as DynamoDB's JSON, which boto3 parses; making up the answers is taken off.",
    f"Of {CHANGED} changes, every tenth erases a face.",
)
