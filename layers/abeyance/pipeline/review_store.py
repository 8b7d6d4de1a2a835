"""The reviews table: the queue, the reviews and their cases. :mod:`abeyance.pipeline.review` has the layout.

Every change of a case is conditional on the version that was read, so of two reviewers who take the last free place at
the same moment one gets it and the other gets a :class:`~abeyance.aws.table.Conflict`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from abeyance.aws.dynamodb import batches
from abeyance.aws.table import PRESENT, Conflict, Delete, Item, Key, Put, Table, Update
from abeyance.pipeline.review import OPEN, Waiting
from abeyance.pipeline.review_cases import Case

#: Partition of the closed reviews, by the time at which they were closed.
CLOSED = "closed"


class Review(msgspec.Struct, frozen=True, kw_only=True):
    """A search under review.

    Attributes
    ----------
    identity
        That of the upload.
    waiting
        The search, without its candidates.
    cases
        Number of its cases; -1 until they are written.
    outcome, finished
        The event that closed it and when (RFC 3339 UTC); empty while it is open.
    expires
        Epoch seconds at which its items expire; 0 for never.
    """

    identity: str
    waiting: Waiting
    cases: int = -1
    outcome: str = ""
    finished: str = ""
    expires: int = 0


class VersionedCase(msgspec.Struct, frozen=True):
    """A case and the version of its item when it was read."""

    case: Case
    version: int


class ReviewStore:
    """Reviews and their cases in the reviews table. Every read sees every write that has returned."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def all(self) -> Iterator[Review]:
        """Yield every review, open or closed."""
        for partition in (OPEN, CLOSED):
            for some in batches(self._table.query(partition), 100):
                yield from self._reviews(some)

    def open_reviews(self, limit: int = 100) -> list[Review]:
        """Return open reviews, the longest waiting first."""
        return self._reviews(self._table.query(OPEN, limit=limit))

    def closed_reviews(self, limit: int = 50) -> list[Review]:
        """Return closed reviews, newest first."""
        return self._reviews(self._table.query(CLOSED, limit=limit, descending=True))

    def get(self, identity: str) -> Review | None:
        """Return one review, open or closed."""
        item = self._table.get(_key(identity))
        return None if item is None else _review(item)

    def cases(self, identity: str) -> list[VersionedCase]:
        """Return all cases of a review, by number."""
        pk, _ = _key(identity)
        return [_versioned(item) for item in self._table.query(pk, "case#", "case#~")]

    def case(self, identity: str, number: int) -> VersionedCase | None:
        """Return one case."""
        item = self._table.get(_key(identity, number))
        return None if item is None else _versioned(item)

    def add_cases(self, review: Review, cases: Sequence[Case]) -> Review:
        """Write the cases of a review that has none, and return it. Idempotent: existing cases stay as they are."""
        for case in cases:
            pk, sk = _key(review.identity, case.number)
            item = {"pk": pk, "sk": sk, "body": _json(case), "version": 0, **_expiry(review)}
            try:
                self._table.transact([Put(item, absent=True)])
            except Conflict:
                continue
        update = Update(_key(review.identity), set={"cases": len(cases)}, expect={"pk": PRESENT})
        self._table.transact([update])
        return msgspec.structs.replace(review, cases=len(cases))

    def replace_case(self, identity: str, case: Case, version: int) -> None:
        """Replace the case that was read at ``version``. Raises ``Conflict``."""
        changed = {"body": _json(case), "version": version + 1}
        self._table.transact([Update(_key(identity, case.number), set=changed, expect={"version": version})])

    def close(self, review: Review) -> None:
        """Move a review with its outcome from the queue to the closed ones. Raises ``Conflict`` if it is closed."""
        closed = {"pk": CLOSED, "sk": f"{review.finished}#{review.identity}", **_expiry(review)}
        self._table.transact(
            [
                Update(
                    _key(review.identity),
                    set={"outcome": review.outcome, "finished": review.finished},
                    expect={"pk": PRESENT, "outcome": None},
                ),
                Delete((OPEN, f"{review.waiting.arrived}#{review.identity}")),
                Put(closed),
            ]
        )

    def _reviews(self, entries: Iterable[Item]) -> list[Review]:
        keys = [_key(entry["sk"].rpartition("#")[2]) for entry in entries]
        found = self._table.get_many(keys)
        return [_review(found[key]) for key in keys if key in found]


def _key(identity: str, number: int | None = None) -> Key:
    return f"review#{identity}", "review" if number is None else f"case#{number:05d}"


def _json(case: Case) -> str:
    return msgspec.json.encode(case).decode()


def _expiry(review: Review) -> Item:
    return {"expires": review.expires} if review.expires else {}


def _versioned(item: Item) -> VersionedCase:
    return VersionedCase(msgspec.json.decode(item["body"], type=Case), item["version"])


def _review(item: Item) -> Review:
    return Review(
        identity=item["pk"].removeprefix("review#"),
        waiting=msgspec.json.decode(item["body"], type=Waiting),
        cases=item.get("cases", -1),
        outcome=item.get("outcome", ""),
        finished=item.get("finished", ""),
        expires=item.get("expires", 0),
    )
