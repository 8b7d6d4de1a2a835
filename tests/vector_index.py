"""A stand-in for DynamoDB's vector index: approximate, and behind the table, if a test asks for it.

:class:`Approximate` ranks; :func:`answer_search_vectors` puts it behind a boto3 client, where botocore validates the
request and parses the answer by the service's own model. The rules and their wording are those of
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/VectorSearchWorkingWith.html.
"""

from __future__ import annotations

import io
import json
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from tests.fakes import MemoryTable

from abeyance.aws.table import Table
from abeyance.gallery.model import TemplateKind

#: Of an item: partition, sort key, the attribute ``k``, the vector.
Entry = tuple[str, str, str, list[float]]


@dataclass
class Approximate:
    """:class:`~abeyance.gallery.vector_index.Index` over entries that it reads when it catches up.

    Attributes
    ----------
    read
        Gives every item with a vector.
    catches_up
        ``now``: before every search, ``after``: after it, so that each sees the table as of the search before;
        ``never``: only when told to.
    levels
        Vectors are ranked after rounding to so many steps on either side of 0; 0 for none.
    lose
        Share of the entries that a search does not come across; which ones depends on the probe.
    top
        Most results of :meth:`nearest`.
    """

    read: Callable[[], Iterable[Entry]]
    catches_up: Literal["now", "after", "never"] = "now"
    levels: int = 0
    lose: float = 0.0
    top: int = 100
    name: str = "templates-test"
    searches: int = 0
    _known: dict[tuple[str, str], tuple[list[str], npt.NDArray[np.float32]]] = field(default_factory=dict)

    def catch_up(self) -> None:
        """Read the table as it is."""
        rows: dict[tuple[str, str], list[tuple[str, list[float]]]] = defaultdict(list)
        for pk, sk, k, vector in self.read():
            rows[pk, k].append((sk, vector))
        self._known = {
            of: ([sk for sk, _ in found], self._rounded(np.array([v for _, v in found], dtype=np.float32)))
            for of, found in rows.items()
        }

    def nearest(self, pk: str, kind: TemplateKind, probe: npt.NDArray[np.floating]) -> list[str]:
        return [sk for sk, _ in self.ranked(pk, kind[0], probe, self.top)]

    def ranked(self, pk: str, k: str, probe: npt.NDArray[np.floating], top: int) -> list[tuple[str, float]]:
        """Return sort keys and cosine distances, nearest first."""
        self.searches += 1
        if self.catches_up == "now":
            self.catch_up()
        names, vectors = self._known.get((pk, k), ([], np.empty((0, len(probe)), dtype=np.float32)))
        distances = 1 - vectors @ probe / (np.linalg.norm(vectors, axis=1) * np.linalg.norm(probe) + 1e-12)
        if self.lose:
            seed = zlib.crc32(np.asarray(probe, dtype=np.float32).tobytes())
            distances = distances + 9 * (np.random.default_rng(seed).random(len(names)) < self.lose)
        order = [n for n in np.argsort(distances, kind="stable")[:top] if distances[n] <= 2.001]
        if self.catches_up == "after":
            self.catch_up()
        return [(names[n], float(distances[n])) for n in order]

    def _rounded(self, vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        if not self.levels:
            return vectors
        step = np.abs(vectors).max(axis=1, keepdims=True) / self.levels
        return np.asarray(np.rint(vectors / step) * step, dtype=np.float32)


def over_memory(table: Table, **rest: Any) -> Approximate:
    """Return an index over a table in memory."""
    assert isinstance(table, MemoryTable)

    def read() -> Iterator[Entry]:
        for pk, items in list(table._partitions.items()):
            for sk, item in list(items.items()):
                for name in item:
                    if name.startswith("vector"):
                        yield pk, sk, item["k"], item[name]

    return Approximate(read, **rest)


def over_dynamodb(client: Any, table: str, dimension: int, **rest: Any) -> Approximate:
    """Return an index over a table; items without a valid vector or partition key are silently not in it."""

    def read() -> Iterator[Entry]:
        pages = client.get_paginator("scan").paginate(TableName=table)
        for item in (item for page in pages for item in page["Items"]):
            vector = item.get(f"vector{dimension}", {}).get("L", ())
            if len(vector) == dimension:
                yield item["pk"]["S"], item["sk"]["S"], item["k"]["S"], [float(x["N"]) for x in vector]

    return Approximate(read, **rest)


def answer_search_vectors(client: Any, table: str, dimension: int, index: Approximate) -> None:
    """Make a boto3 DynamoDB client answer SearchVectors from an index, and refuse the writes that AWS refuses."""

    def search(request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        body = json.loads(request.body)
        problem = _problem(body, dimension)
        if body["TableName"] != table:
            return _answer(request, 400, {"__type": "ResourceNotFoundException", "message": "not found"})
        if body["IndexName"] != index.name:
            problem = f"The table does not have the specified index: {body['IndexName']}"
        if problem:
            return _answer(request, 400, {"__type": "ValidationException", "message": problem})
        values = body["ExpressionAttributeValues"]
        probe = np.array([float(x["N"]) for x in body["SearchVector"]], dtype=np.float32)
        found = index.ranked(values[":pk"]["S"], values[":k"]["S"], probe, body["TopK"])
        results = [{"Item": {"sk": {"S": sk}}, "Score": score} for sk, score in found]
        return _answer(request, 200, {"SearchResults": results})

    def write(request: AWSPreparedRequest, **_: Any) -> AWSResponse | None:
        body = json.loads(request.body)
        puts = [part["Put"]["Item"] for part in body.get("TransactItems", ()) if "Put" in part]
        for item in [*puts, body.get("Item", {})]:
            vector = item.get(f"vector{dimension}")
            if vector is not None and not (
                len(vector["L"]) == dimension and all("N" in x for x in vector["L"])
            ):
                return _answer(
                    request, 400, {"__type": "ValidationException", "message": "One or more parameter values"}
                )
        return None

    events = client.meta.events
    events.register_first("before-send.dynamodb.SearchVectors", search)
    for operation in ("TransactWriteItems", "PutItem"):
        events.register_first(f"before-send.dynamodb.{operation}", write)


def _problem(body: dict[str, Any], dimension: int) -> str:
    if not 1 <= body["TopK"] <= 100:
        return f"Provided TopK value '{body['TopK']}' is out of valid range"
    if len(body["SearchVector"]) != dimension or any(set(x) != {"N"} for x in body["SearchVector"]):
        return "Input search vector does not match the vector index"
    names = body.get("ExpressionAttributeNames", {})
    terms = [term.split(" = ") for term in body.get("SearchConditionExpression", "").split(" AND ")]
    conditions = {names.get(name, name): value for name, value in (term for term in terms if len(term) == 2)}
    if "pk" not in conditions:
        return "SearchConditionExpression must be provided when SearchSchema has a HASH key"
    if set(conditions) - {"pk", "k"} or len(conditions) < len(terms):
        return "SearchConditionExpression must not contain any attributes that is not in SearchSchema"
    return ""


class _Raw(io.BytesIO):
    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        yield self.read()


def _answer(request: AWSPreparedRequest, status: int, body: dict[str, Any]) -> AWSResponse:
    headers = {"content-type": "application/x-amz-json-1.0"}
    return AWSResponse(request.url, status, headers, _Raw(json.dumps(body).encode()))
