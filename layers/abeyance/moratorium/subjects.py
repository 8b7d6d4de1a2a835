"""The subjects of change, each with its state, its judgement and its effect: documents, tenants, links of people.

``judge`` returns whether a change loosens, and against which state. ``apply`` makes it exactly on that state, or not at
all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Protocol, Union

import msgspec
from msgspec import Struct

from abeyance.aws.table import Conflict, Operation, Require, Table
from abeyance.moratorium.authorization import Authorization
from abeyance.moratorium.authorization_store import AuthorizationTable
from abeyance.moratorium.changes import (
    LOOSENING_PEOPLE,
    ChangeKind,
    classify_links,
    classify_registration,
)
from abeyance.moratorium.document import instant
from abeyance.moratorium.errors import MoratoriumError
from abeyance.moratorium.principals import Links, Principals
from abeyance.moratorium.tenants import Tenant, TenantTable


class ChangeRefused(MoratoriumError):
    """A step that the rules do not allow; the message says what would be allowed."""


class StateChanged(ChangeRefused):
    """Somebody else changed the same thing meanwhile: look at it, then ask again."""

    def __init__(self) -> None:
        super().__init__(
            "something else is in force than what this was made against; look at it and propose again"
        )


class DocumentChange(Struct, frozen=True, forbid_unknown_fields=True):
    """The common part of changes of documents: the whole hosted document that is to be in force."""

    document: dict[str, Any]


class FlagsChange(DocumentChange, frozen=True, tag="flags", tag_field="subject"):
    """A new flags document."""


class BrakeChange(DocumentChange, frozen=True, tag="brake", tag_field="subject"):
    """A new document of the brake: halts that hold beside the flags, at once."""


class GuardrailsChange(DocumentChange, frozen=True, tag="guardrails", tag_field="subject"):
    """A new document of guardrails: claims that no flags may break."""


class TenantChange(Struct, frozen=True, forbid_unknown_fields=True, tag="tenant", tag_field="subject"):
    """A new or changed registration, whole: sector, place, actions, purposes, principals, status."""

    tenant: Tenant


class LinkChange(Struct, frozen=True, forbid_unknown_fields=True, tag="link", tag_field="subject"):
    """A principal becomes a person's. It can then agree in that person's name."""

    principal: str
    person: str


class UnlinkChange(Struct, frozen=True, forbid_unknown_fields=True, tag="unlink", tag_field="subject"):
    """A principal is nobody's any more."""

    principal: str


class AuthorizationChange(
    Struct, frozen=True, forbid_unknown_fields=True, tag="authorization", tag_field="subject"
):
    """A new authorisation. It never changes."""

    authorization: Authorization


class RevocationChange(
    Struct, frozen=True, forbid_unknown_fields=True, tag="revocation", tag_field="subject"
):
    """An authorisation is revoked: from now on nothing uses it, also what has used it and waits for a stage."""

    tenant: str
    number: str


class AuditChange(Struct, frozen=True, forbid_unknown_fields=True, tag="audit", tag_field="subject"):
    """The latest audit of a model: a signed note."""

    note: str


Change = Union[  # noqa: UP007 - msgspec reads it
    FlagsChange,
    BrakeChange,
    GuardrailsChange,
    TenantChange,
    LinkChange,
    UnlinkChange,
    AuthorizationChange,
    RevocationChange,
    AuditChange,
]


class ChangeJudgement(Struct, frozen=True, kw_only=True):
    """The effect of a change on the state that it was judged against.

    ``people`` is the number of distinct people who have to agree. ``base`` names that state, and no later one.
    ``refusal`` is why it cannot be proposed or approved now; "" if it can. ``holds_if`` are conditions on the change
    service's table, for the transaction of the change: without them the judgement is another.
    """

    kind: ChangeKind
    people: int
    base: str
    refusal: str = ""
    holds_if: tuple[Require, ...] = ()


class ChangeSubject(Protocol):
    """The port of one kind of thing."""

    def judge(self, change: Any, /) -> ChangeJudgement:
        """Compare a change with the state now. Raises :class:`ChangeRefused` for one that is not valid."""
        ...

    def apply(
        self, change: Any, judgement: ChangeJudgement, proposal: str, note: str, also: Sequence[Operation], /
    ) -> dict[str, Any]:
        """Make a change on exactly the state of the judgement, and return what is now.

        ``also`` are operations on the change service's table that belong to the change. Raises
        :class:`StateChanged`, or :class:`EffectFailed` for what is made and not yet in effect.
        """
        ...

    def is_made(self, change: Any, base: str, /) -> bool:
        """Return whether an attempt that was cut off had made the change on that state, and only its end is missing."""
        ...


class EffectFailed(MoratoriumError):
    """A change that is recorded and not in effect yet: try again, nothing has to be approved anew."""


class TenantSubject:
    """Registrations.

    Parameters
    ----------
    table
        The change service's, for the operations that belong to a change.
    check
        Raises :class:`ChangeRefused` while nobody may be given more, because a guardrail is broken.
    """

    def __init__(self, tenants: TenantTable, table: Table, check: Callable[[], object]) -> None:
        self._tenants = tenants
        self._table = table
        self._check = check

    def judge(self, change: TenantChange, /) -> ChangeJudgement:
        old, revision = self._tenants.read(change.tenant.id)
        found = classify_registration(old, change.tenant)
        if found.kind is ChangeKind.LOOSENING:
            self._check()
        return ChangeJudgement(kind=found.kind, people=found.people, base=f"{change.tenant.id}:{revision}")

    def apply(
        self,
        change: TenantChange,
        judgement: ChangeJudgement,
        proposal: str,
        note: str,
        also: Sequence[Operation],
        /,
    ) -> dict[str, Any]:
        revision = int(judgement.base.rpartition(":")[2])
        # The tables share no transaction. An approval is on the ledger already; without one, the entry goes first.
        if not proposal:
            transact(self._table, also)
        if not self._tenants.put(change.tenant, revision):
            raise StateChanged
        if proposal:
            transact(self._table, also)
        return {"tenant": msgspec.to_builtins(change.tenant)}

    def is_made(self, change: TenantChange, base: str, /) -> bool:
        return self._tenants.read(change.tenant.id) == (change.tenant, int(base.rpartition(":")[2]) + 1)


class LinkSubject:
    """The links of principals to people: linking loosens, unlinking tightens.

    Parameters
    ----------
    most_people
        Returns the number of people that the change with the most of them takes now, and the conditions under which
        that is so. Linking takes as many: otherwise two could link the third.
    """

    def __init__(
        self,
        principals: Principals,
        table: Table,
        most_people: Callable[[], tuple[int, tuple[Require, ...]]],
    ) -> None:
        self._principals = principals
        self._table = table
        self._most_people = most_people

    def judge(self, change: LinkChange | UnlinkChange, /) -> ChangeJudgement:
        links = self._principals.read()
        made = self._made(links, change)
        found = classify_links(links.people, made.people)
        most, holds_if = self._most_people()
        # The last people go only by agreement: with fewer, nothing can ever be loosened again.
        if found.kind is ChangeKind.LOOSENING or len(set(made.people.values())) < most:
            return ChangeJudgement(
                kind=ChangeKind.LOOSENING, people=most, base=str(links.version), holds_if=holds_if
            )
        return ChangeJudgement(kind=found.kind, people=found.people, base=str(links.version))

    def apply(
        self,
        change: LinkChange | UnlinkChange,
        judgement: ChangeJudgement,
        proposal: str,
        note: str,
        also: Sequence[Operation],
        /,
    ) -> dict[str, Any]:
        links = self._principals.read()
        if str(links.version) != judgement.base:
            raise StateChanged
        made = self._made(links, change)
        transact(self._table, [self._principals.replaced(made), *also])
        return {"people": dict(made.people)}

    def is_made(self, change: LinkChange | UnlinkChange, base: str, /) -> bool:
        return False  # one transaction has the change and its end

    def _made(self, links: Links, change: LinkChange | UnlinkChange) -> Links:
        if isinstance(change, UnlinkChange):
            if not links.person(change.principal):
                raise ChangeRefused("nobody has this principal")
            return links.unlinked(change.principal)
        if own := links.person(change.principal):
            raise ChangeRefused(f"the principal is {own}'s; unlink it first")
        try:
            return links.linked(change.principal, change.person)
        except ValueError as error:
            raise ChangeRefused(str(error)) from None


class AuthorizationSubject:
    """Authorisations: registering one loosens, revoking it tightens.

    Parameters
    ----------
    tenants
        The registry: an authorisation is for a tenant that there is.
    check
        Raises :class:`ChangeRefused` while nobody may be given more, because a guardrail is broken.
    clock
        Now, aware.
    """

    def __init__(
        self,
        authorizations: AuthorizationTable,
        tenants: TenantTable,
        table: Table,
        check: Callable[[], object],
        clock: Callable[[], datetime],
    ) -> None:
        self._authorizations = authorizations
        self._tenants = tenants
        self._table = table
        self._check = check
        self._clock = clock

    def judge(self, change: AuthorizationChange | RevocationChange, /) -> ChangeJudgement:
        if isinstance(change, RevocationChange):
            found = self._authorizations.registered(change.tenant, change.number)
            if found is None or found.revoked:
                raise ChangeRefused("no authorisation of this number is in force for this tenant")
            return ChangeJudgement(
                kind=ChangeKind.TIGHTENING, people=1, base=f"{change.tenant}:{change.number}"
            )
        new = change.authorization
        if self._authorizations.registered(new.tenant, new.number) is not None:
            raise ChangeRefused("an authorisation of this number is registered; it never changes, revoke it")
        if self._tenants.get(new.tenant) is None:
            raise ChangeRefused("no tenant of this id is registered")
        if instant(new.ends) <= self._clock():
            raise ChangeRefused("this authorisation has ended")
        self._check()
        return ChangeJudgement(
            kind=ChangeKind.LOOSENING, people=LOOSENING_PEOPLE, base=f"{new.tenant}:{new.number}:none"
        )

    def apply(
        self,
        change: AuthorizationChange | RevocationChange,
        judgement: ChangeJudgement,
        proposal: str,
        note: str,
        also: Sequence[Operation],
        /,
    ) -> dict[str, Any]:
        made: Operation
        if isinstance(change, RevocationChange):
            made = self._authorizations.revoke(change.tenant, change.number)
        else:
            made = self._authorizations.register(change.authorization, self._clock())
        transact(self._table, [made, *also])
        return {}

    def is_made(self, change: AuthorizationChange | RevocationChange, base: str, /) -> bool:
        return False  # one transaction has the change and its end


def transact(table: Table, operations: Sequence[Operation]) -> None:
    """Do all or nothing; raises :class:`StateChanged` if a condition does not hold."""
    try:
        table.transact(operations)
    except Conflict as conflict:
        if any(conflict.failed):
            raise StateChanged from None
        raise
