"""Freshness: the time until a cold searcher is ready, and until a warm one sees a change."""

from __future__ import annotations

import time
import uuid
import zlib
from typing import Any

import boto3
import msgspec
import numpy as np
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config
from tests.fakes import MemoryObjects, MemoryTable

from abeyance.aws.dynamodb import DynamoTable
from abeyance.aws.dynamodb import encode as encode_item
from abeyance.aws.table import PARTITION, SORT, Item, Put, Update
from abeyance.gallery.collections import SPAN
from abeyance.gallery.facade import TableGallery
from abeyance.gallery.items import FACE, VOID, Meta, log_key, segment_key
from abeyance.gallery.model import CollectionRef, TemplateKind
from abeyance.gallery.port import Block
from abeyance.gallery.search import Searcher
from abeyance.gallery.segments import SegmentHeader, encode
from benchmarks.comparison import BenchmarkPart, Figure, Progress, figure
from benchmarks.process import BenchmarkError

#: At least so many changes that no snapshot has yet; writers leave up to a segment.
BEHIND = 10_000
#: Changes between two looks of a searcher that is up to date; every tenth erases a face.
CHANGED = 1000
#: DynamoDB ends a page after so many.
_PAGE_BYTES = 2**20
STAFF = CollectionRef("acme", "staff")


def run(quick: bool, progress: Progress) -> BenchmarkPart:
    """Measure; see :mod:`benchmarks.parts`."""
    figures: list[Figure] = []
    for dimension in (128,) if quick else (128, 512):
        count = 100_000 if quick else 1_000_000
        faces, key = f"{count:,} faces x {dimension}".replace(",", " "), f"{count // 1000}k.{dimension}d"
        key = key.replace("1000k", "1m")
        # 512 numbers are measured to show the growth; the aims are for the default model.
        ready_s, refresh_ms = (5.0, 50.0) if dimension == 128 else (None, None)
        progress(faces)
        gallery = _Gallery(count, dimension)
        progress(f"{faces}: a cold searcher")
        cold = [gallery.cold() for _ in range(3)]
        note = f"{gallery.megabytes:.0f} MB of snapshot, {gallery.behind} changes behind it"
        what = f"Cold searcher ready on {faces}"
        figures.append(figure(f"freshness.cold.{key}", what, "s", cold, at_most=ready_s, note=note))
        progress(f"{faces}: a refresh")
        for name, note in (
            ("memory", "items as they are after parsing"),
            ("parsed", "DynamoDB's answer parsed by boto3"),
        ):
            figures.append(
                figure(
                    f"freshness.refresh.{name}.{key}",
                    f"Refresh after {CHANGED} changes among {faces}",
                    "ms",
                    gallery.refreshed(5 if quick else 15, parsed=name == "parsed"),
                    scale=1000,
                    at_most=refresh_ms,
                    note=note,
                )
            )
    return BenchmarkPart(name="freshness", figures=tuple(figures), notes=_NOTES)


class _Gallery:
    """A collection of generated faces: a snapshot, and the log behind it. Everything is in memory."""

    def __init__(self, count: int, dimension: int) -> None:
        self.table = MemoryTable()
        self._wire = _Wire(self.table)
        self._objects = MemoryObjects()
        self._random = np.random.default_rng(dimension)
        gallery = TableGallery(self.table, self._objects, auto_compact=False)
        gallery.create_collection(STAFF, model="bench@000000000000", dimension=dimension)
        meta = gallery.storage.meta(STAFF)
        covered = (count - BEHIND) // SPAN * SPAN
        for number in range(covered // SPAN):
            self._put_segment(meta, number)
        self.table.transact([Update(meta.key, set={"seq": covered, "covered": covered})])
        self._append(count - covered, erase=False)

    @property
    def behind(self) -> int:
        """Changes since the snapshot."""
        meta = TableGallery(self.table, self._objects).storage.meta(STAFF)
        return meta.seq - meta.covered

    @property
    def megabytes(self) -> float:
        """Size of the snapshot."""
        return sum(len(self._objects.get(key)) for key in self._objects.list("")) / 1e6

    def cold(self) -> float:
        """Return the seconds until a new searcher is ready."""
        searcher = Searcher(TableGallery(self.table, self._objects))
        start = time.perf_counter()
        searcher.refresh(STAFF)
        seconds = time.perf_counter() - start
        self._check(searcher)
        return seconds

    def refreshed(self, rounds: int, *, parsed: bool) -> list[float]:
        """Return the seconds of refreshes, each after :data:`CHANGED` changes."""
        table = DynamoTable(self._wire.client, "gallery") if parsed else self.table
        searcher = Searcher(TableGallery(table, self._objects, auto_compact=False))
        searcher.refresh(STAFF)
        found = []
        for number in range(-1, rounds):
            self._append(CHANGED, erase=True)
            start, answering = time.perf_counter(), self._wire.seconds
            searcher.refresh(STAFF)
            if number >= 0:
                found.append(time.perf_counter() - start - (self._wire.seconds - answering))
        self._check(searcher)
        return found

    def _check(self, searcher: Searcher) -> None:
        """Raise an error if the latest face is not found by its own template."""
        (best,) = searcher.search(STAFF, self._last[1].astype(np.float32)[None], limit=1)
        if [candidate.face_id for candidate in best] != [self._last[0]]:
            raise BenchmarkError("a refreshed searcher does not find the latest face; that is a bug")

    def _put_segment(self, meta: Meta, number: int) -> None:
        first, last = number * SPAN + 1, (number + 1) * SPAN
        header = SegmentHeader(
            generation=meta.generation,
            number=number,
            first=first,
            last=last,
            model=meta.model,
            dimension=meta.dimension,
        )
        ids = self._random.integers(0, 256, (SPAN, 16), dtype=np.uint8)
        block = Block(
            TemplateKind.FACE, np.arange(first, last + 1), ids, self._templates(SPAN, meta.dimension)
        )
        self._objects.put(f"{number}.seg", encode(header, (block,)))
        pk, sk = segment_key(meta.pk, number)
        self.table.transact([Put({PARTITION: pk, SORT: sk, "object": f"{number}.seg"})])

    def _append(self, count: int, *, erase: bool) -> None:
        """Write changes behind the snapshot, as the gallery writes them."""
        meta = TableGallery(self.table, self._objects).storage.meta(STAFF)
        templates = self._templates(count, meta.dimension)
        for number, template in enumerate(templates):
            pk, sk = log_key(meta.pk, meta.seq + 1 + number)
            item: Item = {PARTITION: pk, SORT: sk}
            if erase and number % 10 == 0:
                item |= {"k": VOID, "of": int(self._random.integers(1, meta.covered))}
            else:
                self._last = str(uuid.UUID(bytes=self._random.bytes(16))), template
                item |= {"k": FACE, "id": self._last[0], "v": template.tobytes()}
            self.table.transact([Put(item)])
        self.table.transact([Update(meta.key, set={"seq": meta.seq + count})])

    def _templates(self, count: int, dimension: int) -> Any:
        vectors = self._random.integers(0, 256, (count, dimension), dtype=np.uint8) - np.float32(127.5)
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype("<f2")


class _Wire:
    """A DynamoDB client whose requests are answered in this process, from a table in memory.

    Everything but the network is real: the request is built and signed, and the answer parsed.
    """

    def __init__(self, table: MemoryTable) -> None:
        self._table = table
        #: Spent on making up answers.
        self.seconds = 0.0
        self.client = boto3.client(
            "dynamodb",
            region_name="eu-west-1",
            aws_access_key_id="nobody",
            aws_secret_access_key="nothing",  # noqa: S106
            config=Config(retries={"max_attempts": 0}),
        )
        self.client.meta.events.register("before-send.dynamodb", self._answer)

    def _answer(self, request: AWSPreparedRequest, **rest: Any) -> AWSResponse:
        start = time.perf_counter()
        operation = request.headers["X-Amz-Target"]
        operation = (operation.decode() if isinstance(operation, bytes) else operation).split(".")[1]
        asked = msgspec.json.decode(request.body)
        answer = msgspec.json.encode(getattr(self, f"_{operation}")(asked))
        headers = {"Content-Type": "application/x-amz-json-1.0", "x-amz-crc32": str(zlib.crc32(answer))}
        response = AWSResponse(request.url, 200, headers, None)
        response._content = answer
        self.seconds += time.perf_counter() - start
        return response

    def _GetItem(self, asked: Any) -> Any:  # noqa: N802
        item = self._table.get((asked["Key"][PARTITION]["S"], asked["Key"][SORT]["S"]))
        return {"Item": encode_item(item)} if item else {}

    def _Query(self, asked: Any) -> Any:  # noqa: N802
        pk, first, last = (value["S"] for value in asked["ExpressionAttributeValues"].values())
        names = asked["ExpressionAttributeNames"]
        wanted = (
            [names[n] for n in asked["ProjectionExpression"].split(", ")]
            if "ProjectionExpression" in asked
            else []
        )
        after = asked["ExclusiveStartKey"][SORT]["S"] if "ExclusiveStartKey" in asked else ""
        found, size = [], 0
        for item in self._table.query(pk, max(first, after), last):
            if item[SORT] == after:
                continue
            found.append(encode_item({name: item[name] for name in wanted or item if name in item}))
            size += sum(len(value) for value in item.values() if isinstance(value, str | bytes))
            if size > _PAGE_BYTES:
                return {
                    "Items": found,
                    "LastEvaluatedKey": encode_item({n: item[n] for n in (PARTITION, SORT)}),
                }
        return {"Items": found}


_NOTES = (
    "Segments and table are in this process' memory, in place of S3 and DynamoDB: the network and the services are not "
    "measured. A cold searcher sends one request for each 16 384 faces, 16 at a time.",
    "Parsed means: boto3 builds and signs the requests and parses DynamoDB's JSON; making up the answers is taken off.",
    f"Of {CHANGED} changes, every tenth erases a face.",
)
