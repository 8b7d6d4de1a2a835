"""``abeyance tenants``: who is registered, for what, and who is suspended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from abeyance.cli import _moratorium as world
from abeyance.cli.output import Exit, Json, console, fail, report

if TYPE_CHECKING:
    from abeyance.moratorium.tenants import Status, Tenant

app = typer.Typer(name="tenants", no_args_is_help=True, help="Who may use the system, and for what.")


@app.command()
def add(
    tenant: Annotated[str, typer.Argument(help="Its id: a-z, 0-9 and -.")],
    sector: Annotated[str, typer.Option(help="What it is, such as commercial or law_enforcement.")],
    place: Annotated[str, typer.Option(help="Where it works: US, US-CA, US-CA-SAN_FRANCISCO.")],
    action: Annotated[
        list[str], typer.Option(help="What it may ask for; once for each, or all (templates apart).")
    ],
    purpose: Annotated[list[str], typer.Option(help="What for; once for each.")],
    principal: Annotated[
        list[str] | None,
        typer.Option(help="An IAM ARN or access key id that acts for it; else its id, as an access key id."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Register a tenant."""
    from abeyance.moratorium.errors import TenantExists
    from abeyance.moratorium.tenants import Tenant, canonical_principal
    from abeyance.moratorium.vocabulary import is_known_place

    try:
        new = Tenant(
            id=tenant,
            sector=sector,
            jurisdiction=place,
            actions=_USUAL if "all" in action else tuple(dict.fromkeys(action)),
            purposes=tuple(dict.fromkeys(purpose)),
            principals=tuple(dict.fromkeys(canonical_principal(name) for name in principal or [tenant])),
        )
        registry = world.tenants()
        if registry.get(new.id) is not None:
            raise TenantExists("a tenant of this id is already registered")
        _record("Tenant Registered", new)
        registry.add(new)
    except ValueError as error:
        fail(str(error), Exit.USAGE)
    except TenantExists as error:
        fail(str(error), Exit.NO)

    def show() -> None:
        _show([new])
        if not is_known_place(place):
            console.print(
                f"{place} is not a listed place; if it is spelled wrong, no moratorium for it will bind."
            )

    report(new, as_json=as_json, show=show)


@app.command("list")
def list_tenants(as_json: Json = False) -> None:
    """List every tenant."""
    found = list(world.tenants().all())
    report(found, as_json=as_json, show=lambda: _show(found))


@app.command()
def suspend(
    tenant: Annotated[str, typer.Argument(help="Its id.")],
    as_json: Json = False,
) -> None:
    """Suspend a tenant: from the next decision on, everything it asks is denied."""
    _set(tenant, "suspended", as_json)


@app.command()
def resume(
    tenant: Annotated[str, typer.Argument(help="Its id.")],
    as_json: Json = False,
) -> None:
    """End a suspension."""
    _set(tenant, "active", as_json)


def _set(tenant: str, status: Status, as_json: bool) -> None:
    from abeyance.moratorium.errors import TenantUnknown

    registry = world.tenants()
    known = registry.get(tenant)
    if known is None:
        fail("no tenant of this id is registered", Exit.NO)
    _record("Tenant Suspended" if status == "suspended" else "Tenant Resumed", known)
    try:
        changed = registry.set_status(tenant, status)
    except TenantUnknown as error:
        fail(str(error), Exit.NO)
    report(changed, as_json=as_json, show=lambda: _show([changed]))


#: What ``all`` stands for. Templates that leave or enter the system have to be asked for by name.
_USUAL = ("analyze", "compare", "detect", "index", "search")


def _record(kind: str, tenant: Tenant) -> None:
    """Put a change of the registry on the ledger before it is made; without a ledger nothing is changed."""
    import msgspec

    from abeyance.ledger.errors import LedgerUnavailable

    try:
        world.recorder()(kind, {"tenant": msgspec.to_builtins(tenant), "by": world.principal()})
    except LedgerUnavailable as error:
        fail(f"nothing was changed, because it cannot be recorded: {error}")


def _show(found: Sequence[Tenant]) -> None:
    columns = ("id", "sector", "place", "status", "actions", "purposes", "principals")
    rows = [
        (
            tenant.id,
            tenant.sector,
            tenant.jurisdiction,
            tenant.status,
            ", ".join(tenant.actions),
            ", ".join(tenant.purposes),
            ", ".join(tenant.principals),
        )
        for tenant in found
    ]
    console.print(world.listing("Tenants", columns, rows))
