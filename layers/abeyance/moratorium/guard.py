"""The decision with the flags, the registration and the time of this moment, for every stage and the API."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Final

from msgspec import structs

from abeyance.aws.table import ReadAlong
from abeyance.aws.timestamps import utc_now
from abeyance.moratorium.audits import AuditUse
from abeyance.moratorium.authorization import Search
from abeyance.moratorium.authorization_store import AuthorizationTable
from abeyance.moratorium.authorized import due_before
from abeyance.moratorium.decide import Decision, Request, asking_flags, decide, denied
from abeyance.moratorium.errors import Fault, MoratoriumError
from abeyance.moratorium.source import (
    BACKWARD_TOLERANCE_S,
    MAX_AGE_S,
    SHORTEST_POLL_S,
    Clock,
    FlagSource,
    Snapshot,
)
from abeyance.moratorium.tenants import Tenant, TenantRegistry, TenantTable


class Guard:
    """Decisions with the flags and registrations of this moment. No method raises: an error is a denial with a fault.

    Parameters
    ----------
    source : FlagSource
        Where flags come from.
    tenants : TenantRegistry
        The registered tenants; read for every decision, so that a suspension holds at once.
    clock : callable
        The wall clock; must return aware datetimes.
    authorizations : AuthorizationTable or None
        Where a request uses an authorisation, if a flag asks for one; without it none is used.
    model : str
        Identity of the deployed embedding model, for flags that are bound to its audit; "" for an unknown one.
    max_age : float
        Seconds. Checks the age that the source promises again, so that a faulty source cannot pass old flags.

    Examples
    --------
    >>> guard = Guard(FileSource("flags.json"), TenantTable(DynamoTable(client, "abeyance-tenants")))  # doctest: +SKIP
    >>> guard.decide("springfield-police", "search", "missing_children").permitted  # doctest: +SKIP
    False
    """

    def __init__(
        self,
        source: FlagSource,
        tenants: TenantRegistry,
        clock: Clock = utc_now,
        *,
        authorizations: AuthorizationTable | None = None,
        model: str = "",
        max_age: float = MAX_AGE_S,
    ) -> None:
        self._source = source
        self._tenants = tenants
        self._clock = clock
        self._authorizations = authorizations
        self._model = model
        self._max_age = timedelta(seconds=max_age)

    def decide(
        self,
        tenant_id: str,
        action: str,
        purpose: str,
        search: Search | None = None,
        *,
        jurisdiction: str | None = None,
    ) -> Decision:
        """Decide for a tenant, by id.

        If a flag asks for an authorisation and nothing else denies, the request uses one, under the id of ``search``;
        without ``search`` it has none.
        """
        return self._decide(tenant_id, None, action, purpose, search, jurisdiction)

    def decide_for(
        self,
        principal: str,
        action: str,
        purpose: str,
        search: Search | None = None,
        *,
        jurisdiction: str | None = None,
    ) -> Decision:
        """Decide for the tenant of an IAM ARN or access key id; ``Decision.tenant`` names it."""
        return self._decide("", principal, action, purpose, search, jurisdiction)

    def for_batch(self) -> Guard:
        """Return a guard for the messages of one batch.

        It decides each message at its own moment and with the flags of that moment. A registration that it has read
        serves other messages for as long as flags do, :data:`SHORTEST_POLL_S`.
        """
        recent = _RecentRegistrations(self._tenants, self._clock)
        return Guard(
            self._source,
            recent,
            self._clock,
            authorizations=self._authorizations,
            model=self._model,
            max_age=self._max_age.total_seconds(),
        )

    def read_along(self, tenant_ids: Iterable[str]) -> list[ReadAlong]:
        """Return the read of registrations that another table's read can take along; none if there is nothing to save.

        Only a guard of :meth:`for_batch` uses what was read, and for no longer than it says. A registration that could
        not be read along is read when it is needed.
        """
        if not isinstance(self._tenants, _RecentRegistrations):
            return []
        try:
            return self._tenants.read_along(tenant_ids)
        except Exception:  # noqa: BLE001 - a clock that fails denies when it is needed, with its reason
            return []

    def _decide(
        self,
        tenant_id: str,
        principal: str | None,
        action: str,
        purpose: str,
        search: Search | None,
        jurisdiction: str | None,
    ) -> Decision:
        request = Request(
            tenant=None, tenant_id=tenant_id, action=action, purpose=purpose, jurisdiction=jurisdiction
        )
        stage = Fault.CLOCK_UNAVAILABLE
        as_of: datetime | None = None
        try:
            # Before the flags are read: a permit must not be dated later than a halt that it does not know.
            as_of = self._clock()
            stage = Fault.FLAGS_UNAVAILABLE
            snapshot = self._source.current()
            stage = Fault.TENANTS_UNAVAILABLE
            tenant = (
                self._tenants.get(tenant_id) if principal is None else self._tenants.by_principal(principal)
            )
            stage = Fault.CLOCK_UNAVAILABLE
            finished = self._clock()
            stage = Fault.INTERNAL
            stale = self._stale(snapshot, as_of, finished)
            if stale is not None:
                return denied(stale, _REASONS[stale], request, as_of)
            if principal is not None:
                # An unknown principal has no tenant id; with this well-formed one its denial is an ordinary one.
                tenant_id = tenant.id if isinstance(tenant, Tenant) else "unknown"
            audit = AuditUse(model=self._model, facts=snapshot.audits.get(self._model))
            request = structs.replace(request, tenant=tenant, tenant_id=tenant_id, audit=audit)
            decision = decide(request, snapshot.flags, as_of)
            asking = asking_flags(decision, snapshot.flags)
            if not asking or search is None or self._authorizations is None or tenant is None:
                return decision
            stage = Fault.AUTHORIZATIONS_UNAVAILABLE
            place = jurisdiction or tenant.jurisdiction
            due = due_before(asking, as_of)
            use = self._authorizations.claim(tenant_id, purpose, place, search, due, as_of)
            stage = Fault.INTERNAL
            request = structs.replace(request, collection=search.collection, authorization=use)
            return decide(request, snapshot.flags, as_of)
        except MoratoriumError as error:
            fault = error.fault if error.fault is not Fault.INTERNAL else stage
        except Exception:  # noqa: BLE001  fail closed, whatever the cause
            fault = stage
        return denied(fault, _REASONS.get(fault, "The decision could not be made."), request, as_of)

    def _stale(self, snapshot: Snapshot, as_of: datetime, finished: datetime) -> Fault | None:
        age = finished - snapshot.fetched_at
        if age > self._max_age:
            return Fault.FLAGS_STALE
        if min(age, finished - as_of) < timedelta(seconds=-BACKWARD_TOLERANCE_S):
            return Fault.CLOCK_SKEW
        return None


class _RecentRegistrations:
    """A registry whose answers by id, errors too, are used again for the poll interval of flags."""

    def __init__(self, tenants: TenantRegistry, clock: Clock) -> None:
        self._tenants = tenants
        self._clock = clock
        self._read: dict[str, tuple[datetime, Tenant | Exception | None]] = {}

    def get(self, tenant_id: str, /) -> Tenant | None:
        now = self._clock()
        known = self._read.get(tenant_id)
        if known is None or not timedelta(0) <= now - known[0] < timedelta(seconds=SHORTEST_POLL_S):
            try:
                found: Tenant | Exception | None = self._tenants.get(tenant_id)
            except Exception as error:  # noqa: BLE001 - a table that is down is not asked for every message
                found = error
            known = self._read[tenant_id] = (now, found)
        if isinstance(known[1], Exception):
            raise known[1]
        return known[1]

    def by_principal(self, principal: str, /) -> Tenant | None:
        return self._tenants.by_principal(principal)

    def read_along(self, tenant_ids: Iterable[str]) -> list[ReadAlong]:
        if not isinstance(self._tenants, TenantTable):
            return []
        # The moment before the read: what is written after it may not be in the answer.
        now = self._clock()

        def accept(found: Mapping[str, Tenant | Exception | None]) -> None:
            self._read |= {tenant_id: (now, one) for tenant_id, one in found.items()}

        return [self._tenants.read_along(tenant_ids, accept)]


#: The reason that a denied caller reads; the fault itself is for the operator and the ledger.
_REASONS: Final = {
    Fault.FLAGS_UNAVAILABLE: "The moratorium flags are out of reach; nothing is permitted without them.",
    Fault.FLAGS_EMPTY: "The moratorium flags are empty; nothing is permitted without them.",
    Fault.FLAGS_TOO_LARGE: "The moratorium flags cannot be read; nothing is permitted without them.",
    Fault.FLAGS_UNREADABLE: "The moratorium flags cannot be read; nothing is permitted without them.",
    Fault.FLAGS_SCHEMA_VERSION: "The moratorium flags are of an unknown version; nothing is permitted.",
    Fault.FLAGS_STALE: "The moratorium flags are too old to be relied on; nothing is permitted without them.",
    Fault.CLOCK_SKEW: "The clock is wrong; nothing can be decided for a moment that is not known.",
    Fault.CLOCK_UNAVAILABLE: "There is no clock; nothing can be decided for a moment that is not known.",
    Fault.TENANTS_UNAVAILABLE: "The tenant registry is out of reach; nothing is permitted without it.",
    Fault.TENANT_UNREADABLE: "The tenant's registration cannot be read.",
    Fault.AUTHORIZATIONS_UNAVAILABLE: "The authorisations are out of reach; nothing that needs one is permitted.",
    Fault.PRINCIPAL_AMBIGUOUS: "The caller cannot be told apart from another tenant.",
}
