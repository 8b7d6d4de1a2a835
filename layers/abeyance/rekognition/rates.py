"""A limit on each tenant's requests, counted in DynamoDB, so that it holds for all environments of the function.

A counter for each tenant and window of ten seconds: one conditional write a request, and no state to keep right. A
tenant may spend a window's requests at once, and around the change of two windows twice as many.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from abeyance.aws.table import TTL, Below, Conflict, Table, Update
from abeyance.moratorium.tenants import TenantRegistry
from abeyance.rekognition.errors import ApiError

WINDOW_S: Final = 10
#: Counters are deleted by DynamoDB's TTL after this time.
_KEEP_S: Final = 3600
#: An environment asks again after this time for the tenant of a principal; only the counting relies on it.
_REMEMBER_S: Final = 60
#: Counts the requests of callers that are no tenant, together, so that their denials do not fill the ledger.
NO_TENANT: Final = "-"


class TenantRates:
    """The counters.

    Parameters
    ----------
    table
        The table of uploads, which has no sort key.
    a_second
        Requests of a tenant in a second, on average over a window.
    tenants
        Finds the tenant of a principal.
    clock
        Epoch seconds.
    """

    def __init__(
        self,
        table: Table,
        a_second: float,
        tenants: TenantRegistry,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._table = table
        self._limit = max(1, round(a_second * WINDOW_S))
        self._tenants = tenants
        self._clock = clock
        self._known: dict[str, tuple[float, str]] = {}

    def take(self, principal: str) -> None:
        """Count a request; raises ProvisionedThroughputExceededException, which SDKs retry, above the limit."""
        now = self._clock()
        count = Update(
            (f"rate#{self._tenant(principal, now)}#{int(now) // WINDOW_S}", ""),
            set={TTL: int(now) + _KEEP_S},
            add={"used": 1},
            expect=({"used": None}, {"used": Below(self._limit)}),
        )
        try:
            self._table.transact([count])
        except Conflict as error:
            if not any(error.failed):
                raise
            raise ApiError(
                "ProvisionedThroughputExceededException",
                f"The limit is {self._limit / WINDOW_S:g} requests a second for each tenant; slow down and retry.",
            ) from None

    def _tenant(self, principal: str, now: float) -> str:
        until, tenant_id = self._known.get(principal, (0.0, ""))
        if now >= until:
            try:
                tenant = self._tenants.by_principal(principal) if principal else None
                tenant_id = tenant.id if tenant else NO_TENANT
            except Exception:  # noqa: BLE001 - the decision that follows fails on it, and says so on the ledger
                tenant_id = NO_TENANT
            self._known[principal] = (now + _REMEMBER_S, tenant_id)
        return tenant_id
