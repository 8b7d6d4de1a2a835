"""``abeyance tenants``: register, list, suspend and resume tenants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from abeyance.cli import _context as context
from abeyance.cli import keys
from abeyance.cli.output import Commands, Exit, Json, cells, console, fail, report, table

if TYPE_CHECKING:
    from abeyance.moratorium.tenants import Status, Tenant

app = typer.Typer(
    name="tenants", cls=Commands, no_args_is_help=True, help="Register, list and suspend tenants."
)

app.add_typer(keys.app)

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
    bucket: Annotated[
        list[str] | None,
        typer.Option(help="A place in S3 whose photos it may name: BUCKET or BUCKET/PREFIX; repeat it."),
    ] = None,
    upload: Annotated[
        list[str] | None,
        typer.Option(
            help="A rule for uploads to such a place: PLACE=ACTION:COLLECTION[:PURPOSE], with the action index, "
            "search or analyze; repeat it."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Propose to register a tenant. Another person approves it with ``abeyance moratoria approve``."""
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
            buckets=tuple(dict.fromkeys(bucket or ())),
            uploads=tuple(dict.fromkeys(upload or ())),
        )
    except ValueError as error:
        fail(str(error), Exit.USAGE)
    if any(one.id == new.id for one in context.changes().tenants()):
        raise TenantExists("a tenant of this id is already registered")
    submit(new, as_json)
    if not as_json and not is_known_place(place):
        console.print(
            f"{place} is not a listed place; if it is spelled wrong, no moratorium for it will bind."
        )


@app.command()
def change(
    tenant: TenantId,
    sector: Annotated[str, typer.Option(help="Its sector from now on.")] = "",
    place: Annotated[str, typer.Option(help="Where it works from now on.")] = "",
    action: Annotated[list[str] | None, typer.Option(help="All that it may ask for from now on.")] = None,
    purpose: Annotated[list[str] | None, typer.Option(help="All its purposes from now on.")] = None,
    principal: Annotated[list[str] | None, typer.Option(help="All its principals from now on.")] = None,
    bucket: Annotated[
        list[str] | None, typer.Option(help="All its places in S3 from now on: BUCKET or BUCKET/PREFIX.")
    ] = None,
    upload: Annotated[
        list[str] | None,
        typer.Option(
            help="All its rules for uploads from now on: PLACE=ACTION:COLLECTION[:PURPOSE]; none to end them."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Change a registration; what permits more takes a second person."""
    import msgspec

    from abeyance.moratorium.tenants import canonical_principal

    fields: dict[str, object] = {"sector": sector, "jurisdiction": place}
    try:
        fields["actions"] = tuple(dict.fromkeys(action or ()))
        fields["purposes"] = tuple(dict.fromkeys(purpose or ()))
        fields["principals"] = tuple(dict.fromkeys(map(canonical_principal, principal or ())))
        fields["buckets"] = tuple(dict.fromkeys(bucket or ()))
        fields["uploads"] = tuple(dict.fromkeys(upload or ()))
        given = {name: value for name, value in fields.items() if value}
        if given.get("uploads") == ("none",):
            given["uploads"] = ()
        submit(msgspec.structs.replace(known(tenant), **given), as_json)
    except ValueError as error:
        fail(str(error), Exit.USAGE)


@app.command("list")
def list_tenants(as_json: Json = False) -> None:
    """List every tenant."""
    found = context.changes().tenants()
    report(found, as_json=as_json, show=lambda: _show(found))


@app.command("bucket-policy")
def bucket_policy(
    tenant: TenantId,
    bucket: Annotated[str, typer.Argument(help="A bucket of its registration.")],
    reader: Annotated[
        list[str],
        typer.Option(
            help="ARN of a role that reads photos: the stack's outputs ApiRole, and for uploads DetectRole, "
            "FramesRole and ConsoleRole; repeat it."
        ),
    ],
    gate: Annotated[
        str,
        typer.Option(help="ARN of the role that reads tags of uploads: the stack's output GateRole."),
    ] = "",
) -> None:
    """Print the policy that the owner of a registered bucket sets, so that the deployment may read there."""
    from abeyance.moratorium import buckets

    places = [place for place in known(tenant).buckets if place.partition("/")[0] == bucket]
    if not places:
        fail(f"{bucket} is not registered for {tenant}; register it with: abeyance tenants change --bucket")
    partition = reader[0].split(":")[1] if reader[0].count(":") > 1 else "aws"
    try:
        typer.echo(buckets.bucket_policy(places, reader, gate, partition))
    except ValueError as error:
        fail(str(error), Exit.USAGE)


@app.command()
def suspend(tenant: TenantId, as_json: Json = False) -> None:
    """Suspend a tenant: from the next decision on, everything that it asks for is denied."""
    _set_status(tenant, "suspended", as_json)


@app.command()
def resume(tenant: TenantId, as_json: Json = False) -> None:
    """Propose to end a suspension."""
    _set_status(tenant, "active", as_json)


def _set_status(tenant: str, status: Status, as_json: bool) -> None:
    import msgspec

    submit(msgspec.structs.replace(known(tenant), status=status), as_json)


def known(tenant: str) -> Tenant:
    """Return a registration; raises ``TenantUnknown``."""
    from abeyance.moratorium.errors import TenantUnknown

    for found in context.changes().tenants():
        if found.id == tenant:
            return found
    raise TenantUnknown("no tenant of this id is registered")


def submit(tenant: Tenant, as_json: bool) -> None:
    """Make or propose a registration, and show what became of it."""
    from abeyance.cli.moratoria import show_submitted
    from abeyance.moratorium.subjects import TenantChange

    show_submitted(context.changes().submit(TenantChange(tenant)), as_json)


def _show(found: Sequence[Tenant]) -> None:
    columns = ("id", "sector", "place", "status", "actions", "purposes", "principals", "buckets", "uploads")
    names = (
        "id",
        "sector",
        "jurisdiction",
        "status",
        "actions",
        "purposes",
        "principals",
        "buckets",
        "uploads",
    )
    console.print(table("Tenants", columns, cells(found, names), key=True))
