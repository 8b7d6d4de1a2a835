"""The use of authorisations: what each request uses, or waits for.

A table of its own, which the stages write:

=========================  ====================  ==================================================================
``<tenant>``               ``count#<number>``    ``used``: how many requests have used it
``<tenant>``               ``search#<id>``       what one request uses: ``state`` used, late or lapsed; ``number``
``#late``                  ``<due>#<id>``        a request whose authorisation has still to arrive
``#new``                   ``<id>``              a use that has no entry on the ledger yet
=========================  ====================  ==================================================================

A request uses an authorisation in one transaction under its own id: its row must be absent, and the count below the
number of searches. So two requests never share the last one, and a request that is delivered again, or whose process
died, finds what it has used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct, structs

from abeyance.aws.table import PARTITION, SORT, Below, Delete, Item, Key, Operation, Put, Table, Update
from abeyance.aws.timestamps import parse_moment
from abeyance.moratorium.authorization import Authorization

#: Type of the entry of a use.
USED: Final = "authorization.used"
_USE: Final = "search#"
_COUNT: Final = "count#"
_WAITING: Final = "#late"
_NEW: Final = "#new"

State = Literal["used", "late", "lapsed"]


class RegisteredAuthorization(Struct, frozen=True, kw_only=True):
    """An order in the table: when it was registered (UTC), whether it was revoked, and how many have used it."""

    authorization: Authorization
    registered: str
    revoked: bool = False
    used: int = 0


class LateSearch(Struct, frozen=True, kw_only=True):
    """A request whose authorisation has to arrive before ``due``; ``place`` is where its tenant acts."""

    id: str
    tenant: str
    purpose: str
    place: str
    collection: str
    since: str
    due: str

    @property
    def due_at(self) -> datetime:
        """The moment before which it has to arrive."""
        return parse_moment(self.due)

    @property
    def key(self) -> Key:
        """The key of its item in the list of those that wait."""
        return _WAITING, f"{self.due}#{self.id}"


class UsedAuthorization(Struct, frozen=True, kw_only=True):
    """One use of an authorisation, by a request's own id; ``late`` if it came after its request."""

    search: str
    tenant: str
    number: str
    purpose: str
    at: str
    late: bool = False

    @property
    def entry(self) -> str:
        """The id of its entry on the ledger."""
        return f"authorized:{self.search}"

    def body(self) -> dict[str, Any]:
        """Return the body of its entry."""
        return {
            "authorization": self.number,
            "search": self.search,
            "tenant": self.tenant,
            "purpose": self.purpose,
            "late": self.late,
        }


class UseTable:
    """The use of authorisations; see the module."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def row(self, tenant_id: str, search_id: str) -> Item | None:
        """Return the row of a request; ``None`` if it has used nothing and waits for nothing."""
        return self._table.get(_use_key(tenant_id, search_id))

    def counted(self, orders: Iterable[RegisteredAuthorization]) -> list[RegisteredAuthorization]:
        """Return authorisations with the number of their uses."""
        keys = {_count_key(one.authorization): one for one in orders}
        counts = self._table.get_many(keys) if keys else {}
        return [
            structs.replace(one, used=int(counts.get(key, {}).get("used", 0))) for key, one in keys.items()
        ]

    def use(self, authorization: Authorization, used: UsedAuthorization) -> None:
        """Let a request use an authorisation. Raises ``Conflict`` if it has used one, or none is left."""
        row = {**_row(used), "state": "used", "number": used.number, "at": used.at}
        self._table.transact([Put(row, absent=True), *_consumption(authorization, used)])

    def wait(self, late: LateSearch) -> None:
        """Let a request wait for its authorisation. Raises ``Conflict`` if it has used one, or waits."""
        row = {**_row(late), "state": "late", "number": "", "since": late.since}
        waiting = {PARTITION: late.key[0], SORT: late.key[1], "body": msgspec.json.encode(late)}
        self._table.transact([Put(row, absent=True), Put(waiting)])

    def arrive(self, late: LateSearch, authorization: Authorization, used: UsedAuthorization) -> None:
        """Let a request that waits use an authorisation. Raises ``Conflict`` if it does not wait, or none is left."""
        came = {"state": "used", "number": used.number, "at": used.at}
        moved = Update(_use_key(late.tenant, late.id), set=came, expect={"state": "late"})
        self._table.transact([moved, *_consumption(authorization, used), Delete(late.key)])

    def lapse(self, late: LateSearch) -> None:
        """Let a request that waits lapse. Raises ``Conflict`` if it does not wait."""
        key = _use_key(late.tenant, late.id)
        self._table.transact([Update(key, set={"state": "lapsed"}, expect={"state": "late"})])

    def late(self) -> list[LateSearch]:
        """Return the requests that wait, or lapsed a moment ago, by when their authorisation is due."""
        return [msgspec.json.decode(item["body"], type=LateSearch) for item in self._table.query(_WAITING)]

    def close(self, late: LateSearch) -> None:
        """Take a request off the list of those that wait."""
        self._table.delete_many([late.key])

    def new(self) -> list[UsedAuthorization]:
        """Return the uses that have no entry on the ledger yet."""
        return [msgspec.json.decode(item["body"], type=UsedAuthorization) for item in self._table.query(_NEW)]

    def recorded(self, used: UsedAuthorization) -> None:
        """Remember that a use has its entry."""
        self._table.delete_many([(_NEW, used.search)])

    def all(self) -> Iterator[UsedAuthorization]:
        """Yield every use: a scan of the table, in no order."""
        for row in self._table.scan({"state": "used"}):
            yield UsedAuthorization(
                search=row["search"],
                tenant=row[PARTITION],
                number=row["number"],
                purpose=row["purpose"],
                at=row["at"],
                late="since" in row,
            )


def _consumption(authorization: Authorization, used: UsedAuthorization) -> list[Operation]:
    """Return the operations that use an authorisation once more, beside that on the row of the request."""
    left = ({"used": None}, {"used": Below(authorization.searches)})
    new = {PARTITION: _NEW, SORT: used.search, "body": msgspec.json.encode(used)}
    return [Update(_count_key(authorization), add={"used": 1}, expect=left), Put(new)]


def _row(request: UsedAuthorization | LateSearch) -> Item:
    search = request.id if isinstance(request, LateSearch) else request.search
    key = _use_key(request.tenant, search)
    return {PARTITION: key[0], SORT: key[1], "search": search, "purpose": request.purpose}


def _use_key(tenant_id: str, search_id: str) -> Key:
    return tenant_id, f"{_USE}{search_id}"


def _count_key(authorization: Authorization) -> Key:
    return authorization.tenant, f"{_COUNT}{authorization.number}"
