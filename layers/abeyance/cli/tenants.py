"""``abeyance tenants``: register, list, suspend and resume tenants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from abeyance.cli import _context as context
from abeyance.cli.output import Commands, Exit, Json, cells, console, fail, report, table

if TYPE_CHECKING:
    from abeyance.moratorium.tenants import Status, Tenant

app = typer.Typer(
    name="tenants", cls=Commands, no_args_is_help=True, help="Register, list and suspend tenants."
)

TenantId = Annotated[str, typer.Argument(help="The tenant's id: a-z, 0-9 and -.")]


@app.command()
def add(
    tenant: TenantId,
    sector: Annotated[str, typer.Option(help="Its sector, such as commercial or law_enforcement.")],
    place: Annotated[str, typer.Option(help="Where it works: US, US-CA, US-CA-SAN_FRANCISCO.")],
    action: Annotated[
        list[str], typer.Option(help="What it may ask for; repeat it, or give all (without templates).")
    ],
    purpose: Annotated[list[str], typer.Option(help="What for; repeat it for each purpose.")],
    principal: Annotated[
        list[str] | None,
        typer.Option(
            help="An IAM ARN or access key id that acts for it; by default its id, as an access key id."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Register a tenant."""
    from abeyance.moratorium.errors import TenantExists
    from abeyance.moratorium.places import is_known_place
    from abeyance.moratorium.tenants import Tenant, canonical_principal
    from abeyance.moratorium.vocabulary import PHOTO_ACTIONS

    try:
        new = Tenant(
            id=tenant,
            sector=sector,
            jurisdiction=place,
            # Templates that leave or enter the system have to be asked for by name.
            actions=PHOTO_ACTIONS if "all" in action else tuple(dict.fromkeys(action)),
            purposes=tuple(dict.fromkeys(purpose)),
            principals=tuple(dict.fromkeys(canonical_principal(name) for name in principal or [tenant])),
        )
    except ValueError as error:
        fail(str(error), Exit.USAGE)
    registry = context.tenants()
    if registry.get(new.id) is not None:
        raise TenantExists("a tenant of this id is already registered")
    _record("Tenant Registered", new)
    registry.add(new)

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
    found = list(context.tenants().all())
    report(found, as_json=as_json, show=lambda: _show(found))


@app.command()
def suspend(tenant: TenantId, as_json: Json = False) -> None:
    """Suspend a tenant: from the next decision on, everything that it asks for is denied."""
    _set_status(tenant, "suspended", as_json)


@app.command()
def resume(tenant: TenantId, as_json: Json = False) -> None:
    """End a suspension."""
    _set_status(tenant, "active", as_json)


def _set_status(tenant: str, status: Status, as_json: bool) -> None:
    from abeyance.moratorium.errors import TenantUnknown

    registry = context.tenants()
    known = registry.get(tenant)
    if known is None:
        raise TenantUnknown("no tenant of this id is registered")
    _record("Tenant Suspended" if status == "suspended" else "Tenant Resumed", known)
    changed = registry.set_status(tenant, status)
    report(changed, as_json=as_json, show=lambda: _show([changed]))


def _record(kind: str, tenant: Tenant) -> None:
    """Put a change of the registry on the ledger before it is made; without a ledger nothing changes."""
    import msgspec

    from abeyance.ledger.errors import LedgerUnavailable

    try:
        context.recorder()(kind, {"tenant": msgspec.to_builtins(tenant), "by": context.principal()})
    except LedgerUnavailable as error:
        fail(f"nothing was changed, because it cannot be recorded: {error}")


def _show(found: Sequence[Tenant]) -> None:
    columns = ("id", "sector", "place", "status", "actions", "purposes", "principals")
    names = ("id", "sector", "jurisdiction", "status", "actions", "purposes", "principals")
    console.print(table("Tenants", columns, cells(found, names), key=True))
