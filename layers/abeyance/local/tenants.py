"""The tenants of the system on this machine: one of each kind that the moratorium names."""

from __future__ import annotations

from collections.abc import Iterable

from abeyance.deployment.parts import build_tenants
from abeyance.local.system import LocalSystem
from abeyance.moratorium.tenants import Tenant

ACTIONS = ("detect", "analyze", "compare", "index", "search")

#: The access key id of a client names its tenant, so each tenant's one principal is its own name.
TENANTS = (
    Tenant(
        id="acme",
        sector="commercial",
        jurisdiction="US-WA",
        actions=ACTIONS,
        purposes=("unspecified", "access_control"),
        principals=("acme",),
    ),
    Tenant(
        id="springfield-police",
        sector="law_enforcement",
        jurisdiction="US-IL",
        actions=ACTIONS,
        purposes=("unspecified", "criminal_investigation", "missing_children"),
        principals=("springfield-police",),
    ),
    Tenant(
        id="icmec",
        sector="law_enforcement_support",
        jurisdiction="US-VA",
        actions=ACTIONS,
        purposes=("missing_children", "human_trafficking"),
        principals=("icmec",),
    ),
)


def register(system: LocalSystem, tenants: Iterable[Tenant]) -> None:
    """Add tenants to the registry of a running system."""
    registry = build_tenants(system.settings.decisions, system.client)
    for tenant in tenants:
        registry.add(tenant)
