"""Access: a caller's tenant and permission. Every decision is queued for the ledger before it is acted on."""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from abeyance.aws.timestamps import utc_now
from abeyance.ledger.admissible import named
from abeyance.ledger.entry import Record
from abeyance.ledger.queue import RecordQueue
from abeyance.moratorium.authorization import Search
from abeyance.moratorium.decide import Clause, Decision
from abeyance.moratorium.errors import Fault, MoratoriumError
from abeyance.moratorium.guard import Guard
from abeyance.moratorium.tenants import TenantRegistry
from abeyance.rekognition.call import ApiRequest, Grant
from abeyance.rekognition.errors import ApiError, denied, unserved
from abeyance.rekognition.rates import TenantRates

#: The refusal where a decision cannot be put on the ledger.
NO_LEDGER: Final = "The decision could not be put on the ledger; nothing is permitted without it."
#: Types of the entries of a decision, and of a call that manages a tenant's own collections.
DECIDED: Final = "decision"
MANAGED: Final = "management"
#: Actions whose answer is a match, for which flags may demand human review.
MATCHING: Final = frozenset({"compare", "search", "template_search", "template_export"})

#: Faults that pass by themselves. Each is a denial on the ledger; the caller's SDK asks again, as of a busy service.
PASSING_FAULTS: Final = frozenset({Fault.TENANTS_UNAVAILABLE, Fault.AUTHORIZATIONS_UNAVAILABLE})

_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")


class Access:
    """Access control: principals to tenants, requests to decisions, decisions to the ledger.

    Parameters
    ----------
    guard
        Decides requests.
    tenants
        Finds the tenant of a principal.
    queue
        Takes every decision.
    pseudonym
        Replaces an unregistered principal on the ledger; equal for equal principals.
    clock
        Aware wall clock.
    rates
        Limits each tenant's requests; None for no limit.
    """

    def __init__(
        self,
        guard: Guard,
        tenants: TenantRegistry,
        queue: RecordQueue,
        pseudonym: Callable[[str], str],
        clock: Callable[[], datetime] = utc_now,
        rates: TenantRates | None = None,
    ) -> None:
        self._guard = guard
        self._tenants = tenants
        self._queue = queue
        self._pseudonym = pseudonym
        self._rates = rates
        self._clock = clock

    def admit(self, request: ApiRequest) -> None:
        """Count the request before anything is decided; raises ``ApiError`` above its tenant's limit."""
        if self._rates:
            self._rates.take(request.principal)

    def registered(self, request: ApiRequest, operation: str) -> str:
        """Return the caller's tenant.

        Raises
        ------
        ApiError
            AccessDeniedException unless the tenant is registered and active, ThrottlingException if that cannot be
            found out now. The denial is on the ledger.
        """
        try:
            tenant = self._tenants.by_principal(request.principal) if request.principal else None
        except Exception as error:  # noqa: BLE001 - fail closed: the caller was not recognised
            fault = error.fault if isinstance(error, MoratoriumError) else Fault.TENANTS_UNAVAILABLE
            decision = _refusal(Clause.FAULT, "The caller's registration cannot be read.", fault=fault)
        else:
            if tenant is not None and tenant.status == "active":
                return tenant.id
            if tenant is None:
                decision = _refusal(Clause.UNKNOWN_TENANT, "This tenant is not registered.")
            else:
                decision = _refusal(Clause.SUSPENDED_TENANT, "This tenant is suspended.", tenant=tenant.id)
        self._put_on_ledger(request, operation, "manage", decision, {})
        raise _refused(decision)

    def manage(self, request: ApiRequest, operation: str, collection: str, other: str = "") -> Grant:
        """Return the grant of an operation that needs no decision: managing and erasing one's own collections.

        The call is on the ledger before it is answered: who listed faces, and who deleted them. ``other`` is another
        collection that the call names.

        Raises
        ------
        ApiError
            As :meth:`registered`; also ThrottlingException if the call cannot be queued for the ledger.
        """
        tenant = self.registered(request, operation)
        self._send(request, "manage", MANAGED, {"tenant": tenant}, operation, _named(collection, other))
        return Grant(tenant)

    def permit(
        self,
        request: ApiRequest,
        operation: str,
        actions: Sequence[str],
        collection: str,
        other: str = "",
        *,
        waits: bool = False,
    ) -> Grant:
        """Return the grant to do ``actions`` on pixels or templates; ``waits`` if the answer can wait for reviewers.

        Collections are named as in :meth:`manage`.

        Raises
        ------
        ApiError
            AccessDeniedException, with the flag's reason, if an action is not permitted or if a match would need human
            review; ThrottlingException if the tenant cannot be read now, or a decision cannot be queued for the ledger.
        """
        # What was answered cannot be taken back, so no authorisation may follow later.
        search = Search(id=f"api:{_request_id(request)}", collection=collection, named=request.authorization)
        decisions = [
            self._guard.decide_for(request.principal, action, request.purpose, search) for action in actions
        ]
        refusals = []
        for action, decision in zip(actions, decisions, strict=True):
            needs_review = (
                decision.permitted and decision.human_review > 0 and action in MATCHING and not waits
            )
            more: dict[str, Any] = _named(collection, other)
            if needs_review:
                more["refused"] = "human_review"
                refusals.append(denied(_review_needed(decision.human_review)))
            elif not decision.permitted:
                refusals.append(_refused(decision))
            self._put_on_ledger(request, operation, action, decision, more)
        if refusals:
            raise refusals[0]
        return Grant(decisions[0].tenant, tuple(decisions), search.id)

    def _put_on_ledger(
        self, request: ApiRequest, operation: str, action: str, decision: Decision, more: Mapping[str, Any]
    ) -> None:
        body: dict[str, Any] = {"decision": msgspec.to_builtins(decision)}
        if decision.clause is Clause.UNKNOWN_TENANT and request.principal:
            try:
                body["principal"] = self._pseudonym(request.principal)
            except Exception:  # noqa: BLE001 - fail closed: the entry could not say who it was
                raise unserved(NO_LEDGER) from None
        self._send(request, action, DECIDED, body, operation, more)

    def _send(
        self,
        request: ApiRequest,
        action: str,
        kind: str,
        body: Mapping[str, Any],
        operation: str,
        more: Mapping[str, Any],
    ) -> None:
        request_id = _request_id(request)
        try:
            record = Record(
                id=f"api:{request_id}:{action}",
                type=kind,
                time=self._clock().astimezone(UTC).isoformat(timespec="microseconds"),
                body={**body, "operation": operation, "request": request_id, **more},
            )
            self._queue.put(record)
        except Exception:  # noqa: BLE001 - fail closed: it may not be on the ledger
            raise unserved(NO_LEDGER) from None


def _request_id(request: ApiRequest) -> str:
    """Return the request's id, or a digest of one that the ledger does not take."""
    if _REQUEST_ID.fullmatch(request.id):
        return request.id
    return (
        hashlib.sha256(request.id.encode(errors="replace")).hexdigest()[:32]
        if request.id
        else str(uuid.uuid4())
    )


def _refusal(clause: Clause, reason: str, *, fault: str = "", tenant: str = "") -> Decision:
    return Decision(outcome="deny", clause=clause, reason=reason, fault=str(fault), tenant=tenant)


def _refused(decision: Decision) -> ApiError:
    return (unserved if decision.fault in PASSING_FAULTS else denied)(decision.reason)


def _named(collection: str, other: str) -> dict[str, Any]:
    return {**named(collection), **{f"other_{key}": value for key, value in named(other).items()}}


def _review_needed(reviewers: int) -> str:
    return (
        f"Every match needs {reviewers} independent reviewer{'s' if reviewers > 1 else ''} here, and this answer "
        "cannot wait for them. Upload the photo to be searched for instead: its matches are shown after review."
    )
