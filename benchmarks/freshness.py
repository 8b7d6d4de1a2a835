"""How soon a searcher that knows nothing is ready, and how soon one that is ready sees what has changed."""

from __future__ import annotations

import base64
import tempfile
import time
import uuid
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import boto3
import msgspec
import numpy as np
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config

from abeyance.aws.dynamodb import DynamoTable
from abeyance.aws.memory import MemoryTable
from abeyance.aws.objects import ObjectMissing
from abeyance.aws.table import PARTITION, SORT, Item, Put, Update
from abeyance.gallery.collections import SPAN
from abeyance.gallery.facade import TableGallery
from abeyance.gallery.items import FACE, VOID, Meta, log_key, segment_key
from abeyance.gallery.model import CollectionRef, Kind
from abeyance.gallery.port import Block
from abeyance.gallery.search import Searcher
from abeyance.gallery.segments import SegmentHeader, encode
from benchmarks.comparison import Figure, Part, Spread, Tell
from benchmarks.errors import BenchError

#: At least so many changes that no snapshot has yet; writers leave up to a segment.
BEHIND = 10_000
#: Changes between two looks of a searcher that is up to date; every tenth erases a face.
CHANGED = 1000
#: Bytes after which DynamoDB ends a page.
_PAGE = 2**20
STAFF = CollectionRef("acme", "staff")


def run(quick: bool, tell: Tell) -> Part:
    """Measure; see :mod:`benchmarks.parts`."""
    figures: list[Figure] = []
    for dimension in (128,) if quick else (128, 512):
        count = 100_000 if quick else 1_000_000
        size, key = f"{count:,}".replace(",", " "), f"{'100k' if quick else '1m'}.{dimension}d"
        with tempfile.TemporaryDirectory(prefix="abeyance-freshness-") as folder:
            tell(f"{size} faces x {dimension}")
            gallery = _Gallery(Path(folder), count, dimension)
            # Those of 512 numbers are there to show how it grows; the aims are for the default model.
            aims = (5.0, 50.0) if dimension == 128 else (None, None)
            tell(f"{size} faces x {dimension}: a cold searcher")
            cold = [gallery.cold() for _ in range(3)]
            figures.append(
                Figure(
                    key=f"freshness.cold.{key}",
                    what=f"Cold searcher ready on {size} faces x {dimension}",
                    unit="s",
                    value=Spread.of(cold),
                    aim=aims[0],
                    note=f"{gallery.megabytes:.0f} MB of snapshot, {gallery.behind} changes behind it",
                )
            )
            tell(f"{size} faces x {dimension}: a refresh")
            for name, note in (
                ("memory", "items as they are after parsing"),
                ("parsed", "DynamoDB's answer parsed by boto3"),
            ):
                refreshed = gallery.refreshed(5 if quick else 15, parsed=name == "parsed")
                figures.append(
                    Figure(
                        key=f"freshness.refresh.{name}.{key}",
                        what=f"Refresh after {CHANGED} changes among {size} faces x {dimension}",
                        unit="ms",
                        value=Spread.of([1000 * seconds for seconds in refreshed]),
                        aim=aims[1],
                        note=note,
                    )
                )
    return Part(name="freshness", figures=tuple(figures), notes=_NOTES)


class _Gallery:
    """A collection of generated faces: a snapshot in files, the log behind it in a table in memory."""

    def __init__(self, folder: Path, count: int, dimension: int) -> None:
        self.table = MemoryTable()
        self._wire = _Wire(self.table)
        self._objects = _Files(folder)
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
        """Changes that the snapshot does not have."""
        meta = TableGallery(self.table, self._objects).storage.meta(STAFF)
        return meta.seq - meta.covered

    @property
    def megabytes(self) -> float:
        """Of the snapshot."""
        return self._objects.size / 1e6

    def cold(self) -> float:
        """Seconds until a searcher that knows nothing is ready."""
        searcher = Searcher(TableGallery(self.table, self._objects))
        start = time.perf_counter()
        searcher.refresh(STAFF)
        seconds = time.perf_counter() - start
        self._check(searcher)
        return seconds

    def refreshed(self, rounds: int, *, parsed: bool) -> list[float]:
        """Seconds of refreshes, each after so many changes."""
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
        """The latest face is found by its own template."""
        (best,) = searcher.search(STAFF, self._last[1].astype(np.float32)[None], limit=1)
        if [candidate.face_id for candidate in best] != [self._last[0]]:
            raise BenchError("a refreshed searcher does not find the latest face; that is a bug")

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
        block = Block(Kind.FACE, np.arange(first, last + 1), ids, self._templates(SPAN, meta.dimension))
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


class _Files:
    """:class:`~abeyance.aws.objects.Objects` in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.size = 0

    def put(self, key: str, body: bytes) -> None:
        (self._folder / key).write_bytes(body)
        self.size += len(body)

    def get(self, key: str) -> bytes:
        try:
            return (self._folder / key).read_bytes()
        except FileNotFoundError:
            raise ObjectMissing(key) from None

    def list(self, prefix: str) -> list[str]:
        return sorted(path.name for path in self._folder.glob(f"{prefix}*"))

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            (self._folder / key).unlink(missing_ok=True)


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
        return {"Item": _typed(item)} if item else {}

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
            found.append(_typed({name: item[name] for name in wanted or item if name in item}))
            size += sum(len(value) for value in item.values() if isinstance(value, str | bytes))
            if size > _PAGE:
                return {"Items": found, "LastEvaluatedKey": _typed({n: item[n] for n in (PARTITION, SORT)})}
        return {"Items": found}


def _typed(item: Item) -> dict[str, Any]:
    """An item as DynamoDB writes it in JSON."""

    def typed(value: Any) -> dict[str, str]:
        if isinstance(value, bytes):
            return {"B": base64.b64encode(value).decode()}
        return {"S": value} if isinstance(value, str) else {"N": str(value)}

    return {name: typed(value) for name, value in item.items()}


_NOTES = (
    "Segments lie in local files that the system has in its cache, in place of S3, and the table is in memory: the "
    "network and the services are not measured. A cold searcher sends one request for each 16 384 faces, 16 at a time.",
    "Parsed means: boto3 builds and signs the requests and parses DynamoDB's JSON; making up the answers is taken off.",
    f"Of {CHANGED} changes, every tenth erases a face.",
)
