"""The tenants of the system on this machine: one of each kind that the moratorium names."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from abeyance.deployment.parts import build_tenants
from abeyance.local.system import LocalSystem
from abeyance.moratorium.tenants import Tenant

#: The access key id of a client names its tenant, so each tenant's one principal is its own name.
TENANTS = msgspec.json.decode(Path(__file__).with_name("tenants.json").read_bytes(), type=tuple[Tenant, ...])


def register(system: LocalSystem, tenants: Iterable[Tenant]) -> None:
    """Add tenants to the registry of a running system."""
    registry = build_tenants(system.settings, system.client)
    for tenant in tenants:
        registry.add(tenant)
