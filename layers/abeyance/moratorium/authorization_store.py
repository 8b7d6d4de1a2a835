"""The store of authorisations, and the way from a request to what it uses.

The change service's table has the authorisations, which only that service writes:

=========================  ====================  ==================================================================
``pk``                     ``sk``                holds
=========================  ====================  ==================================================================
``authorization#<tenant>`` ``<number>``          ``body``, ``state``, ``registered``
=========================  ====================  ==================================================================

Whether one is revoked is read at every decision.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import msgspec

from abeyance.aws.dynamodb import back_off
from abeyance.aws.table import (
    PARTITION,
    SORT,
    Conflict,
    Item,
    Put,
    Table,
    Update,
)
from abeyance.aws.timestamps import rfc3339
from abeyance.moratorium.authorization import (
    LATE,
    Authorization,
    AuthorizationRefusal,
    AuthorizationUse,
    Search,
)
from abeyance.moratorium.authorization_uses import (
    LateSearch,
    RegisteredAuthorization,
    State,
    UsedAuthorization,
    UseTable,
)

_ORDERS: Final = "authorization#"
_ATTEMPTS: Final = 5
_TICK: Final = timedelta(microseconds=1)


class AuthorizationTable:
    """The authorisations, and the way to one for a request.

    Parameters
    ----------
    table
        The change service's.
    uses
        What each request uses.
    consumes
        False for a unit that only looks at what a request has used before.
    pause
        Waits before attempt n + 1.
    """

    def __init__(
        self,
        table: Table,
        uses: UseTable,
        *,
        consumes: bool = True,
        pause: Callable[[int], None] = back_off,
    ) -> None:
        self._table = table
        self.uses = uses
        self._consumes = consumes
        self._pause = pause

    def claim(
        self, tenant_id: str, purpose: str, place: str, search: Search, due: datetime | None, as_of: datetime
    ) -> AuthorizationUse:
        """Return what a request uses, which it takes now unless it has before; a refusal says why there is none.

        Parameters
        ----------
        due
            The moment before which a late authorisation would have to arrive; ``None`` where it may not be late.

        Raises whatever a table raises at the last attempt. Nobody knows then whether one was taken, and the next call
        finds out.
        """
        for attempt in range(_ATTEMPTS):
            try:
                found = self._known(tenant_id, search)
                if found is None and self._consumes:
                    refused = self._take(tenant_id, purpose, place, search, due, as_of)
                    found = refused or self._known(tenant_id, search)
                return found or _refused(search, AuthorizationRefusal.NONE_APPLIES)
            except Exception:  # another took it first, or nobody knows: the row of the request says
                if attempt == _ATTEMPTS - 1:
                    raise
                self._pause(attempt)
        raise AssertionError

    def registered(self, tenant_id: str, number: str) -> RegisteredAuthorization | None:
        """Return one authorisation, without the count of its uses; ``None`` if there is none."""
        item = self._table.get((f"{_ORDERS}{tenant_id}", number))
        return None if item is None else _order(item)

    def all(self) -> list[RegisteredAuthorization]:
        """Return every authorisation with its uses, by tenant and number: a scan of the table."""
        found = map(_order, self._table.scan({"kind": "authorization"}))
        return sorted(
            self.uses.counted(found), key=lambda one: (one.authorization.tenant, one.authorization.number)
        )

    @staticmethod
    def register(authorization: Authorization, registered: datetime) -> Put:
        """Return the operation that registers an authorisation; its number must be new for the tenant."""
        item = {
            PARTITION: f"{_ORDERS}{authorization.tenant}",
            SORT: authorization.number,
            "kind": "authorization",
            "state": "active",
            "registered": _text(registered),
            "body": msgspec.json.encode(authorization),
        }
        return Put(item, absent=True)

    @staticmethod
    def revoke(tenant_id: str, number: str) -> Update:
        """Return the operation that revokes an authorisation that is not revoked."""
        key = f"{_ORDERS}{tenant_id}", number
        return Update(key, set={"state": "revoked"}, expect={"state": "active"})

    def settle(self, late: LateSearch, now: datetime) -> State:
        """Give a late request the first authorisation registered in time that covers it; after its time, let it lapse.

        Returns the state that it has then; another call may have settled it.
        """
        row = self.uses.row(late.tenant, late.id)
        state: State = "used" if row is None else row["state"]
        if state == "used":
            self.uses.close(late)
        if state != "late":
            return state
        in_time = min(now, late.due_at - _TICK)
        try:
            for order in self._usable(late.tenant, late.purpose, late.place, late.collection, in_time):
                if order.registered < late.due:
                    self.uses.arrive(late, order.authorization, _used_by(late, order, now, late=True))
                    return "used"
            if now < late.due_at:
                return "late"
            self.uses.lapse(late)
        except Conflict:
            return "late"  # the next run sees what is so by then
        return "lapsed"

    def _known(self, tenant_id: str, search: Search) -> AuthorizationUse | None:
        """Return what the request has used before; ``None`` if it has not."""
        row = self.uses.row(tenant_id, search.id)
        if row is None:
            return None
        if row["state"] == "late":
            return AuthorizationUse(state="late", search=search.id, since=row["since"])
        if row["state"] != "used":
            return _refused(search, AuthorizationRefusal.OVERDUE)
        number = row["number"]
        order = self.registered(tenant_id, number)
        if order is None or order.revoked:
            return AuthorizationUse(
                state="refused", search=search.id, number=number, refused=AuthorizationRefusal.REVOKED
            )
        return AuthorizationUse(state="used", search=search.id, number=number, terms=order.authorization)

    def _take(
        self, tenant_id: str, purpose: str, place: str, search: Search, due: datetime | None, as_of: datetime
    ) -> AuthorizationUse | None:
        """Let the request use an authorisation, or wait for one; return a refusal if it can do neither."""
        late = LateSearch(
            id=search.id,
            tenant=tenant_id,
            purpose=purpose,
            place=place,
            collection=search.collection,
            since=_text(as_of),
            due="" if due is None else _text(due),
        )
        if search.named not in ("", LATE):
            named = self.registered(tenant_id, search.named)
            if named is None:
                return _refused(search, AuthorizationRefusal.UNKNOWN)
            usable = self.uses.counted([named])
            if why := _unusable(usable[0], tenant_id, purpose, place, search.collection, as_of):
                return _refused(search, why)
        else:
            usable = self._usable(tenant_id, purpose, place, search.collection, as_of)
        if len(usable) > 1 and search.named != LATE:
            return _refused(search, AuthorizationRefusal.SEVERAL_APPLY)
        if usable:
            self.uses.use(usable[0].authorization, _used_by(late, usable[0], as_of))
            return None
        if search.named != LATE:
            return _refused(search, AuthorizationRefusal.NONE_APPLIES)
        if due is None or not search.may_be_late:
            return _refused(search, AuthorizationRefusal.NO_LATE)
        self.uses.wait(late)
        return None

    def _usable(
        self, tenant_id: str, purpose: str, place: str, collection: str, as_of: datetime
    ) -> list[RegisteredAuthorization]:
        """Return the authorisations that a request could use at a moment, by when they were registered."""
        known = self.uses.counted(map(_order, self._table.query(f"{_ORDERS}{tenant_id}")))
        usable = [one for one in known if not _unusable(one, tenant_id, purpose, place, collection, as_of)]
        return sorted(usable, key=lambda one: (one.registered, one.authorization.number))


def _unusable(
    order: RegisteredAuthorization, tenant_id: str, purpose: str, place: str, collection: str, as_of: datetime
) -> AuthorizationRefusal | None:
    authorization = order.authorization
    if order.revoked:
        return AuthorizationRefusal.REVOKED
    if not authorization.covers(tenant_id, purpose, place, collection):
        return AuthorizationRefusal.OUT_OF_SCOPE
    if not authorization.valid(as_of):
        return AuthorizationRefusal.NOT_VALID
    return AuthorizationRefusal.USED_UP if order.used >= authorization.searches else None


def _used_by(
    request: LateSearch, order: RegisteredAuthorization, at: datetime, *, late: bool = False
) -> UsedAuthorization:
    return UsedAuthorization(
        search=request.id,
        tenant=request.tenant,
        number=order.authorization.number,
        purpose=request.purpose,
        at=_text(at),
        late=late,
    )


def _refused(search: Search, why: AuthorizationRefusal) -> AuthorizationUse:
    number = "" if search.named == LATE else search.named
    return AuthorizationUse(state="refused", search=search.id, number=number, refused=why)


def _order(item: Item) -> RegisteredAuthorization:
    return RegisteredAuthorization(
        authorization=msgspec.json.decode(item["body"], type=Authorization),
        registered=item["registered"],
        revoked=item["state"] != "active",
    )


def _text(moment: datetime) -> str:
    return rfc3339(moment, "microseconds")
