"""Building blocks of the moratorium's tests: tenants, flag values, moments."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from abeyance.moratorium.decide import Decision, Request, decide
from abeyance.moratorium.document import FlagSet
from abeyance.moratorium.schema import definition
from abeyance.moratorium.tenants import Tenant
from abeyance.moratorium.vocabulary import ACTIONS

PURPOSES = ("missing_children", "human_trafficking", "investigation", "access_control", "device_unlock")


def moment(text: str) -> datetime:
    """An aware moment of ``2020-06-10`` or ``2020-06-10T12:00:00``."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def tenant(
    tenant_id: str = "springfield-police",
    sector: str = "law_enforcement",
    jurisdiction: str = "US-IL",
    **others: Any,
) -> Tenant:
    fields: dict[str, Any] = {"actions": tuple(sorted(ACTIONS)), "purposes": PURPOSES} | others
    return Tenant(id=tenant_id, sector=sector, jurisdiction=jurisdiction, **fields)


def value(**attributes: Any) -> dict[str, Any]:
    """The value of an enabled flag that halts everyone since 2020; ``None`` takes an attribute out."""
    merged = {
        "enabled": True,
        "effect": "halt",
        "actions": ["all"],
        "sectors": ["all"],
        "jurisdictions": ["all"],
        "starts": "2020-01-01T00:00:00Z",
        "on_expiry": "lift",
        "reason": "Halted.",
        "source": "A law",
    } | attributes
    return {name: attribute for name, attribute in merged.items() if attribute is not None}


def hosted(**values: dict[str, Any]) -> dict[str, Any]:
    """A hosted document of flag values."""
    return {
        "version": "1",
        "flags": {key: definition(key, f"Flag {key}") for key in values},
        "values": values,
    }


def ask(
    flags: FlagSet | Any,
    who: Tenant | None,
    when: str | datetime,
    *,
    action: str = "search",
    purpose: str = "investigation",
    jurisdiction: str | None = None,
) -> Decision:
    """Decide one request."""
    request = Request(
        tenant=who,
        tenant_id=who.id if who is not None else "nobody",
        action=action,
        purpose=purpose,
        jurisdiction=jurisdiction,
    )
    return decide(request, flags, moment(when) if isinstance(when, str) else when)
