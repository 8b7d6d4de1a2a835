"""The one question that every stage asks: may it go on? Brings flags, tenant and time to ``decide``;
total."""

from __future__ import annotations

from datetime import datetime, timedelta

from abeyance.moratorium.decide import Decision, Request, decide, denied
from abeyance.moratorium.errors import Fault, MoratoriumError
from abeyance.moratorium.source import BACKWARD_TOLERANCE, Clock, FlagSource, Snapshot, utc_now
from abeyance.moratorium.tenants import Tenant, TenantRegistry


class Guard:
    """Decides with the flags and registrations of this moment. No method raises: what goes wrong is a
    denial with a fault.

    Parameters
    ----------
    source : FlagSource
        Where flags come from.
    tenants : TenantRegistry
        Who is registered; asked for every decision, so that a suspension holds at once.
    clock : callable
        The wall clock; must return aware datetimes.
    max_age : float
        Seconds; a second look at what the source promises, so that a faulty source cannot pass old flags.

    Examples
    --------
    >>> guard = Guard(FileSource("flags.json"), DynamoTenants(client, "abeyance-tenants"))  # doctest: +SKIP
    >>> guard.decide("springfield-police", "search", "missing_children").permitted  # doctest: +SKIP
    False
    """

    def __init__(
        self, source: FlagSource, tenants: TenantRegistry, clock: Clock = utc_now, *, max_age: float = 300.0
    ) -> None:
        self._source = source
        self._tenants = tenants
        self._clock = clock
        self._max_age = timedelta(seconds=max_age)

    def decide(
        self, tenant_id: str, action: str, purpose: str, *, jurisdiction: str | None = None
    ) -> Decision:
        """Decide for a tenant, by id."""
        return self._decide(tenant_id, None, action, purpose, jurisdiction)

    def decide_for(
        self, principal: str, action: str, purpose: str, *, jurisdiction: str | None = None
    ) -> Decision:
        """Decide for whoever an IAM ARN or access key id belongs to; ``Decision.tenant`` says who that is."""
        return self._decide("", principal, action, purpose, jurisdiction)

    def _decide(
        self, tenant_id: str, principal: str | None, action: str, purpose: str, jurisdiction: str | None
    ) -> Decision:
        request = Request(
            tenant=None, tenant_id=tenant_id, action=action, purpose=purpose, jurisdiction=jurisdiction
        )
        stage = Fault.FLAGS_UNAVAILABLE
        as_of: datetime | None = None
        try:
            snapshot = self._source.current()
            stage = Fault.TENANTS_UNAVAILABLE
            tenant = (
                self._tenants.get(tenant_id) if principal is None else self._tenants.by_principal(principal)
            )
            stage = Fault.CLOCK_UNAVAILABLE
            as_of = self._clock()
            stage = Fault.INTERNAL
            fault = self._stale(snapshot, as_of)
            if fault is not None:
                return denied(fault, _words[fault], request, as_of)
            return decide(self._request(request, tenant, principal), snapshot.flags, as_of)
        except MoratoriumError as error:
            fault = error.fault if error.fault is not Fault.INTERNAL else stage
            return denied(fault, _words.get(fault, "The decision could not be made."), request, as_of)
        except Exception:  # noqa: BLE001  fail closed: whatever it was, nothing was decided
            return denied(stage, _words.get(stage, "The decision could not be made."), request, as_of)

    def _stale(self, snapshot: Snapshot, as_of: datetime) -> Fault | None:
        age = as_of - snapshot.fetched_at
        if age > self._max_age:
            return Fault.FLAGS_STALE
        if age < timedelta(seconds=-BACKWARD_TOLERANCE):
            return Fault.CLOCK_SKEW
        return None

    @staticmethod
    def _request(request: Request, tenant: Tenant | None, principal: str | None) -> Request:
        # An unknown principal has no tenant id; "unknown" is a well-formed one and keeps the denial an
        # ordinary one.
        if principal is not None:
            tenant_id = tenant.id if isinstance(tenant, Tenant) else "unknown"
        else:
            tenant_id = request.tenant_id
        return Request(
            tenant=tenant,
            tenant_id=tenant_id,
            action=request.action,
            purpose=request.purpose,
            jurisdiction=request.jurisdiction,
        )


#: What a denied caller is told; the fault itself is for the operator and the ledger.
_words = {
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
    Fault.PRINCIPAL_AMBIGUOUS: "The caller cannot be told apart from another tenant.",
}
