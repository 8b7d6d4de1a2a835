"""The queue of reviews in DynamoDB; the layout of the table is in :mod:`abeyance.pipeline.review`.

Every change of a case is conditional on the version that was read, so of two reviewers who take the last free place at
one moment, one gets it and the other is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import msgspec

from abeyance.console.cases import Case
from abeyance.pipeline.review import OPEN, Waiting


class Conflict(Exception):
    """Somebody else changed it meanwhile; read it again."""


class Review(msgspec.Struct, frozen=True, kw_only=True):
    """A search under review. ``cases`` is -1 until its candidates were laid out; ``outcome`` is "" while it is open."""

    identity: str
    waiting: Waiting
    cases: int = -1
    outcome: str = ""
    finished: str = ""


class Stored(msgspec.Struct, frozen=True):
    """A case as it was read."""

    case: Case
    version: int


class Reviews(Protocol):
    """Where reviews are kept. Reads see every write that has returned."""

    def queue(self, limit: int = 100) -> list[str]:
        """Identities of open reviews, the longest waiting first."""
        ...

    def get(self, identity: str) -> Review | None: ...

    def cases(self, identity: str) -> list[Stored]:
        """All cases of a review, by number."""
        ...

    def case(self, identity: str, number: int) -> Stored | None: ...

    def lay_out(self, review: Review, cases: Sequence[Case]) -> None:
        """Store the cases of a review that has none yet. Doing it twice is harmless: what is there stays."""
        ...

    def put_case(self, identity: str, case: Case, version: int) -> None:
        """Replace a case. Raises :class:`Conflict`."""
        ...

    def close(self, review: Review) -> None:
        """Take a review out of the queue, with its outcome. Raises :class:`Conflict` if it is closed already."""
        ...

    def closed(self, limit: int = 50) -> list[Review]:
        """Closed reviews, newest first."""
        ...


class DynamoReviews:
    """:class:`Reviews` on a DynamoDB table; ``client`` is a low-level boto3 client."""

    def __init__(self, client: Any, table: str) -> None:
        self._client = client
        self._table = table

    def queue(self, limit: int = 100) -> list[str]:
        items = self._client.query(
            TableName=self._table,
            KeyConditionExpression="pk = :open",
            ExpressionAttributeValues={":open": {"S": OPEN}},
            ConsistentRead=True,
            Limit=limit,
        )["Items"]
        return [item["sk"]["S"].rpartition("#")[2] for item in items]

    def get(self, identity: str) -> Review | None:
        item = self._client.get_item(TableName=self._table, Key=_key(identity), ConsistentRead=True).get(
            "Item"
        )
        return None if item is None else _review(identity, item)

    def cases(self, identity: str) -> list[Stored]:
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            KeyConditionExpression="pk = :pk AND begins_with(sk, :case)",
            ExpressionAttributeValues={":pk": _key(identity)["pk"], ":case": {"S": "case#"}},
            ConsistentRead=True,
        )
        return [_stored(item) for page in pages for item in page["Items"]]

    def case(self, identity: str, number: int) -> Stored | None:
        item = self._client.get_item(
            TableName=self._table, Key=_key(identity, number), ConsistentRead=True
        ).get("Item")
        return None if item is None else _stored(item)

    def lay_out(self, review: Review, cases: Sequence[Case]) -> None:
        expires = self._raw(review.identity).get("expires")
        for case in cases:
            item = {
                **_key(review.identity, case.number),
                "body": _body(case),
                "version": {"N": "0"},
                **({"expires": expires} if expires else {}),
            }
            try:
                self._client.put_item(
                    TableName=self._table, Item=item, ConditionExpression="attribute_not_exists(pk)"
                )
            except self._client.exceptions.ConditionalCheckFailedException:
                continue
        self._update(
            _key(review.identity), "SET cases = :n", "attribute_exists(pk)", {":n": {"N": str(len(cases))}}
        )

    def put_case(self, identity: str, case: Case, version: int) -> None:
        self._update(
            _key(identity, case.number),
            "SET body = :body, version = :next",
            "version = :version",
            {":body": _body(case), ":next": {"N": str(version + 1)}, ":version": {"N": str(version)}},
        )

    def close(self, review: Review) -> None:
        entry = {"pk": {"S": OPEN}, "sk": {"S": f"{review.waiting.arrived}#{review.identity}"}}
        done = {"pk": {"S": "closed"}, "sk": {"S": f"{review.finished}#{review.identity}"}}
        expires = self._raw(review.identity).get("expires")
        update = {
            "TableName": self._table,
            "Key": _key(review.identity),
            "UpdateExpression": "SET outcome = :outcome, finished = :finished",
            "ConditionExpression": "attribute_exists(pk) AND attribute_not_exists(outcome)",
            "ExpressionAttributeValues": {
                ":outcome": {"S": review.outcome},
                ":finished": {"S": review.finished},
            },
        }
        put = {"TableName": self._table, "Item": {**done, **({"expires": expires} if expires else {})}}
        try:
            self._client.transact_write_items(
                TransactItems=[
                    {"Update": update},
                    {"Delete": {"TableName": self._table, "Key": entry}},
                    {"Put": put},
                ]
            )
        except self._client.exceptions.TransactionCanceledException:
            raise Conflict from None

    def closed(self, limit: int = 50) -> list[Review]:
        items = self._client.query(
            TableName=self._table,
            KeyConditionExpression="pk = :closed",
            ExpressionAttributeValues={":closed": {"S": "closed"}},
            ScanIndexForward=False,
            Limit=limit,
        )["Items"]
        return list(self._known(item["sk"]["S"].rpartition("#")[2] for item in items))

    def _known(self, identities: Iterator[str]) -> Iterator[Review]:
        for identity in identities:
            review = self.get(identity)
            if review is not None:
                yield review

    def _raw(self, identity: str) -> dict[str, Any]:
        item: dict[str, Any] = self._client.get_item(
            TableName=self._table, Key=_key(identity), ConsistentRead=True
        ).get("Item", {})
        return item

    def _update(self, key: dict[str, Any], expression: str, condition: str, values: dict[str, Any]) -> None:
        try:
            self._client.update_item(
                TableName=self._table,
                Key=key,
                UpdateExpression=expression,
                ConditionExpression=condition,
                ExpressionAttributeValues=values,
            )
        except self._client.exceptions.ConditionalCheckFailedException:
            raise Conflict from None


def _key(identity: str, number: int | None = None) -> dict[str, Any]:
    name = "review" if number is None else f"case#{number:05d}"
    return {"pk": {"S": f"review#{identity}"}, "sk": {"S": name}}


def _body(case: Case) -> dict[str, str]:
    return {"S": msgspec.json.encode(case).decode()}


def _stored(item: dict[str, Any]) -> Stored:
    return Stored(msgspec.json.decode(item["body"]["S"], type=Case), int(item["version"]["N"]))


def _review(identity: str, item: dict[str, Any]) -> Review:
    return Review(
        identity=identity,
        waiting=msgspec.json.decode(item["body"]["S"], type=Waiting),
        cases=int(item["cases"]["N"]) if "cases" in item else -1,
        outcome=item.get("outcome", {}).get("S", ""),
        finished=item.get("finished", {}).get("S", ""),
    )
