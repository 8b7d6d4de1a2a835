"""The decision: may this tenant do this, here, for this purpose, at this moment? Pure, total, and replayable.

::

    time valid -> request well-formed -> flags readable -> tenant registered and active
               -> action, purpose and place registered          (the first check that fails is the denial)

    every flag in force that names the action, the sector and an overlapping place:
        its own exemption covers tenant and purpose   -> this flag steps aside, the others do not;
                                                          one that requires an authorisation does so with one that
                                                          the request uses, or in an emergency before it arrives
        effect halt, bound to an audit                 -> deny unless the latest audit of the deployed model is signed,
                                                          young enough and within the bounds
        effect halt                                    -> deny
        effect restrict                                -> permit, under the strictest of all restrictions

A halt that is not exempted denies whatever another flag exempts. Adding a flag can therefore only take away.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, Literal, NamedTuple

from msgspec import Struct, structs

from abeyance.moratorium.audits import AuditUse, shortfall
from abeyance.moratorium.authorization import REFUSALS, AuthorizationRefusal, AuthorizationUse
from abeyance.moratorium.authorized import authorized
from abeyance.moratorium.document import NEVER, Flag, FlagSet, instant_text, parse
from abeyance.moratorium.errors import Fault, FlagsError
from abeyance.moratorium.model import Effect, FlagPart, Part
from abeyance.moratorium.places import is_jurisdiction, within
from abeyance.moratorium.tenants import Status, Tenant
from abeyance.moratorium.vocabulary import ACTIONS, PURPOSE_FORM, is_purpose, is_tenant_id


class Clause(StrEnum):
    """The rule that a decision rests on."""

    PERMITTED = "permitted"
    #: Permitted because the exemption of every halt that binds covers tenant and purpose.
    EXEMPTED = "exempted"
    #: Permitted because the latest audit of the deployed model is within the bounds of every halt that would bind.
    AUDITED = "audited"
    #: Permitted because an exemption covers it, under the authorisation that it uses.
    AUTHORIZED = "authorized"
    #: Permitted in an emergency: what is made is deleted unless an authorisation arrives in time.
    AUTHORIZATION_DUE = "authorization_due"
    #: Permitted under ``min_similarity`` and ``human_review``.
    RESTRICTED = "restricted"
    HALTED = "halted"
    #: Halted past its end, by a flag that is held until somebody acts.
    HELD = "held"
    #: Halted; an exemption would cover it with an authorisation, and there is none that it can use.
    AUTHORIZATION_REQUIRED = "authorization_required"
    UNKNOWN_TENANT = "unknown_tenant"
    SUSPENDED_TENANT = "suspended_tenant"
    ACTION_NOT_REGISTERED = "action_not_registered"
    PURPOSE_NOT_REGISTERED = "purpose_not_registered"
    PLACE_NOT_REGISTERED = "place_not_registered"
    #: No decision could be made; ``fault`` says why.
    FAULT = "fault"


_PERMITTING: Final = (
    Clause.PERMITTED,
    Clause.EXEMPTED,
    Clause.AUDITED,
    Clause.AUTHORIZED,
    Clause.AUTHORIZATION_DUE,
    Clause.RESTRICTED,
)


class Request(Struct, frozen=True, kw_only=True):
    """A request as it arrives: untrusted. ``decide`` checks every field.

    Attributes
    ----------
    tenant : Tenant or None
        The registration of ``tenant_id``, or ``None`` when there is none.
    jurisdiction : str or None
        Where it would happen, if that is known. It must lie in the tenant's registered place, and never
        narrows it.
    collection : str
        The collection that it is about; "" for none.
    authorization : AuthorizationUse or None
        The authorisation that it uses already; ``None`` before anybody looked for one.
    audit : AuditUse or None
        The deployed model and its latest audit; ``None`` stands for no audit of an unknown model.
    """

    tenant: Tenant | None
    tenant_id: str
    action: str
    purpose: str
    jurisdiction: str | None = None
    collection: str = ""
    authorization: AuthorizationUse | None = None
    audit: AuditUse | None = None


class Registration(Struct, frozen=True, kw_only=True):
    """The tenant's registration when the decision was made: with the decision, enough to replay it."""

    sector: str
    jurisdiction: str
    actions: tuple[str, ...]
    purposes: tuple[str, ...]
    status: Status


class Decision(Struct, frozen=True, kw_only=True):
    """The answer, and everything it rests on.

    Its msgspec JSON is ``decision`` in the body of a ledger entry.

    Attributes
    ----------
    outcome : str
        ``permit`` or ``deny``.
    clause : str
        A ``Clause``.
    reason : str
        For the caller, in words.
    fault : str
        "" or a ``Fault``.
    flags : tuple of FlagPart
        Every flag in force that bears on the request, by key.
    document_version, digest : str
        The source's name for the flags, and the SHA-256 of their meaning; "" when no flags could be had.
    brake : str
        The same digest of the brake that was applied beside them; "" where there is none.
    drift : str
        The digest of what was agreed and applied too, if the change service had not deployed these flags.
    sector, jurisdiction : str
        Of the tenant; "" when it is unknown.
    place : str
        The place that the request named, or "".
    as_of : str
        The moment decided for, UTC, RFC 3339; "" when it was not a moment.
    min_similarity : float or None
        Lowest similarity (0 to 100) that a result may have, if a restriction asks for one.
    human_review : int
        Independent reviewers that each match needs; 0 is none.
    authorization : AuthorizationUse or None
        The authorisation that was used, or why there is none; ``None`` where no exemption asks for one.
    audit : AuditUse or None
        The deployed model and its latest audit; ``None`` where no flag asks for one.
    """

    outcome: Literal["permit", "deny"]
    clause: Clause
    reason: str
    fault: str = ""
    flags: tuple[FlagPart, ...] = ()
    document_version: str = ""
    digest: str = ""
    brake: str = ""
    drift: str = ""
    tenant: str = ""
    action: str = ""
    purpose: str = ""
    sector: str = ""
    jurisdiction: str = ""
    place: str = ""
    as_of: str = ""
    registration: Registration | None = None
    min_similarity: float | None = None
    human_review: int = 0
    authorization: AuthorizationUse | None = None
    audit: AuditUse | None = None

    @property
    def permitted(self) -> bool:
        """Return True if the request may go on."""
        return self.outcome == "permit"


def decide(request: Request, flags: FlagSet | Any, as_of: datetime) -> Decision:
    """Decide one request.

    Pure: reads no clock, no environment and no network. Total: returns a Decision whatever comes in.

    Parameters
    ----------
    request : Request
        What is asked, and by whom.
    flags : FlagSet, or a document as bytes, str or dict
        The flags. A document is parsed first; pass a ``FlagSet`` to decide many requests.
    as_of : datetime
        The moment to decide for; aware. A naive one is denied, because it does not name a moment.

    Returns
    -------
    Decision
        ``permit`` if and only if every check passed; anything unexpected is ``deny`` with ``fault`` set.
    """
    try:
        return _decide(request, flags, as_of)
    except FlagsError as error:
        return denied(error.fault, str(error), request, as_of)
    except Exception:  # noqa: BLE001  a decision that cannot be made is a denial, whatever the cause
        return denied(Fault.INTERNAL, "The decision could not be made.", request, as_of)


def denied(fault: Fault, reason: str, request: Any, as_of: Any = None) -> Decision:
    """Return a denial for want of a decision. Takes anything, and repeats nothing that is not well-formed."""
    try:
        moment = instant_text(as_of) if isinstance(as_of, datetime) and as_of.tzinfo is not None else ""
    except Exception:  # noqa: BLE001
        moment = ""
    tenant_id, action, purpose = (
        getattr(request, name, None) if type(request) is Request else None
        for name in ("tenant_id", "action", "purpose")
    )
    return Decision(
        outcome="deny",
        clause=Clause.FAULT,
        fault=str(fault),
        reason=reason,
        tenant=str(tenant_id) if is_tenant_id(tenant_id) else "",
        action=str(action) if isinstance(action, str) and action in ACTIONS else "",
        purpose=str(purpose) if is_purpose(purpose) else "",
        as_of=moment,
    )


def rebuild(decision: Decision) -> Request:
    """Return the request that a decision answered, for replay; raises ``ValueError`` if it was malformed."""
    if not decision.tenant or not decision.action or not decision.purpose:
        raise ValueError("the decision does not carry a whole request")
    registered, use = decision.registration, decision.authorization
    return Request(
        tenant=None if registered is None else Tenant(id=decision.tenant, **structs.asdict(registered)),
        tenant_id=decision.tenant,
        action=decision.action,
        purpose=decision.purpose,
        jurisdiction=decision.place or None,
        collection=use.terms.collection if use is not None and use.terms is not None else "",
        authorization=use,
        audit=decision.audit,
    )


def _decide(request: Request, flags: Any, as_of: datetime) -> Decision:
    if not isinstance(as_of, datetime) or as_of.tzinfo is None:
        return denied(Fault.TIME_INVALID, "The moment to decide for must name its time zone.", request)
    try:
        moment = as_of.astimezone(UTC)
        as_of_text = instant_text(moment)
    except Exception:  # noqa: BLE001  a tzinfo may do anything
        return denied(Fault.TIME_INVALID, "The moment to decide for is not a moment.", request)
    if moment >= NEVER:
        return denied(Fault.TIME_INVALID, "The moment to decide for lies beyond the calendar.", request)
    if type(request) is not Request:
        return denied(Fault.INTERNAL, "This is not a request.", request, moment)
    if not _well_formed(request):
        reason = f"Name a tenant, an action and a purpose. {PURPOSE_FORM}"
        return denied(Fault.REQUEST_MALFORMED, reason, request, moment)
    if not _registered_so(request):
        return denied(Fault.TENANT_UNREADABLE, "The tenant's registration is another's.", request, moment)
    if type(flags) is not FlagSet:
        flags = parse(flags)

    tenant = request.tenant
    if tenant is None:
        weighed = _Weighed(Clause.UNKNOWN_TENANT, "This tenant is not registered.")
    elif (refusal := _unregistered(request, tenant)) is not None:
        weighed = _Weighed(*refusal)
    else:
        weighed = _weigh(request, tenant, flags, moment)
    return Decision(
        outcome="permit" if weighed.clause in _PERMITTING else "deny",
        clause=weighed.clause,
        reason=weighed.reason,
        flags=weighed.parts,
        document_version=flags.version,
        digest=flags.digest,
        brake=flags.brake,
        drift=flags.drift,
        tenant=request.tenant_id,
        action=request.action,
        purpose=request.purpose,
        sector=tenant.sector if tenant is not None else "",
        jurisdiction=tenant.jurisdiction if tenant is not None else "",
        place=request.jurisdiction or "",
        as_of=as_of_text,
        registration=None
        if tenant is None
        else Registration(
            sector=tenant.sector,
            jurisdiction=tenant.jurisdiction,
            actions=tenant.actions,
            purposes=tenant.purposes,
            status=tenant.status,
        ),
        min_similarity=weighed.min_similarity,
        human_review=weighed.human_review,
        authorization=weighed.authorization,
        audit=weighed.audit,
    )


def _well_formed(request: Request) -> bool:
    return (
        is_tenant_id(request.tenant_id)
        and isinstance(request.action, str)
        and request.action in ACTIONS
        and is_purpose(request.purpose)
        and (request.jurisdiction is None or is_jurisdiction(request.jurisdiction))
        and isinstance(request.collection, str)
        and (request.authorization is None or type(request.authorization) is AuthorizationUse)
        and (request.audit is None or type(request.audit) is AuditUse)
    )


def _registered_so(request: Request) -> bool:
    tenant = request.tenant
    return tenant is None or (type(tenant) is Tenant and tenant.id == request.tenant_id)


def _unregistered(request: Request, tenant: Tenant) -> tuple[Clause, str] | None:
    """Return the clause and the reason that deny a request beyond the tenant's registration."""
    if tenant.status != "active":
        return Clause.SUSPENDED_TENANT, "This tenant is suspended."
    if request.action not in tenant.actions:
        return Clause.ACTION_NOT_REGISTERED, f"This tenant is not registered for the action {request.action}."
    if request.purpose not in tenant.purposes:
        reason = f"This tenant is not registered for the purpose {request.purpose}."
        return Clause.PURPOSE_NOT_REGISTERED, reason
    if request.jurisdiction is not None and not within(request.jurisdiction, tenant.jurisdiction):
        return Clause.PLACE_NOT_REGISTERED, f"This tenant is registered in {tenant.jurisdiction} only."
    return None


class _Weighed(NamedTuple):
    """The outcome of the flags for a registered request."""

    clause: Clause
    reason: str
    parts: tuple[FlagPart, ...] = ()
    min_similarity: float | None = None
    human_review: int = 0
    authorization: AuthorizationUse | None = None
    audit: AuditUse | None = None


def _weigh(request: Request, tenant: Tenant, flags: FlagSet, moment: datetime) -> _Weighed:
    parts: list[FlagPart] = []
    halt: FlagPart | None = None
    asking: list[Flag] = []
    similarities: list[float] = []
    human_review = 0
    restricted = False
    audit, why_not = None, ""
    for flag in flags.binding(request.action, tenant.sector, tenant.jurisdiction):
        if not flag.starts <= moment < flag.until:
            continue
        lacking_audit = ""
        if flag.audit is not None:
            audit = request.audit or AuditUse(model="")
            lacking_audit = shortfall(flag.audit, audit, moment)
            if not lacking_audit:
                parts.append(flag.audited)
                continue
        if request.purpose in flag.exempt_purposes and flag.exempts(tenant.id, request.purpose, moment):
            if flag.authorization_required:
                asking.append(flag)
            parts.append(flag.exempting)
            continue
        part = flag.binding
        if flag.effect is Effect.RESTRICT:
            restricted = True
            human_review = max(human_review, flag.human_review)
            if flag.min_similarity is not None:
                similarities.append(flag.min_similarity)
        else:
            if flag.ends is not None and flag.ends <= moment:
                part = flag.holding
            if halt is None:
                halt, why_not = part, lacking_audit
        parts.append(part)

    use, stands = None, True
    if asking:
        use, stands = authorized(request, tenant, asking, moment)
        if not stands:
            lacking = {flag.key: flag.needing for flag in asking}
            parts = [lacking.get(part.key, part) for part in parts]
    found = tuple(parts)
    if halt is not None:
        clause = Clause.HELD if halt.clause == Part.HOLDS else Clause.HALTED
        reason = f"{halt.reason} {why_not}".rstrip()
        return _Weighed(clause, reason, found, authorization=use, audit=audit)
    if not stands:
        why = REFUSALS.get(AuthorizationRefusal(use.refused), "") if use is not None and use.refused else ""
        reason = f"{asking[0].reason} This needs an authorisation. {why}".rstrip()
        return _Weighed(Clause.AUTHORIZATION_REQUIRED, reason, found, authorization=use, audit=audit)
    if restricted:
        min_similarity = max(similarities, default=None)
        reason = "Permitted under restrictions: " + " and ".join(_terms(min_similarity, human_review)) + "."
        return _Weighed(Clause.RESTRICTED, reason, found, min_similarity, human_review, use, audit)
    if use is not None and use.state == "late":
        reason = f"Permitted in an emergency: an authorisation has to arrive before {use.due}."
        return _Weighed(Clause.AUTHORIZATION_DUE, reason, found, authorization=use, audit=audit)
    if use is not None:
        reason = f"Permitted under the authorisation {use.number}."
        return _Weighed(Clause.AUTHORIZED, reason, found, authorization=use, audit=audit)
    if any(part.clause == Part.EXEMPTS for part in parts):
        reason = "Permitted: exempt from the moratorium for this purpose."
        return _Weighed(Clause.EXEMPTED, reason, found, audit=audit)
    if parts:
        reason = "Permitted: the latest audit of the deployed model is within the bounds."
        return _Weighed(Clause.AUDITED, reason, found, audit=audit)
    return _Weighed(Clause.PERMITTED, "Permitted: registered, and no moratorium binds.")


def asking_flags(decision: Decision, flags: FlagSet) -> list[Flag]:
    """Return the flags that deny a request for want of an authorisation alone; none if another denies it too."""
    if decision.clause is not Clause.AUTHORIZATION_REQUIRED:
        return []
    keys = {part.key for part in decision.flags if part.clause == Part.NEEDS_AUTHORIZATION}
    return [flag for flag in flags.flags if flag.key in keys]


def _terms(min_similarity: float | None, human_review: int) -> list[str]:
    terms = []
    if min_similarity is not None:
        terms.append(f"similarity of at least {min_similarity:g}")
    if human_review == 1:
        terms.append("review by a person")
    elif human_review:
        terms.append(f"review by {human_review} people, each on their own")
    return terms
