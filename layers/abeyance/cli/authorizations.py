"""``abeyance authorizations``: register, list and revoke the orders by which exempted searches are made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from abeyance.cli import _context as context
from abeyance.cli.output import Commands, Exit, Json, cells, console, fail, report, table

if TYPE_CHECKING:
    from abeyance.moratorium.authorization_uses import RegisteredAuthorization

app = typer.Typer(
    name="authorizations",
    cls=Commands,
    no_args_is_help=True,
    help="Register, list and revoke the authorisations that exempted searches use.",
)

TenantId = Annotated[str, typer.Argument(help="The tenant's id.")]
Number = Annotated[str, typer.Argument(help="The issuer's number, such as 26-CR-1234.")]


@app.command()
def register(
    tenant: TenantId,
    number: Number,
    issuer: Annotated[str, typer.Option(help="The court or authority.")],
    purpose: Annotated[list[str], typer.Option(help="What for; repeat it for each purpose.")],
    place: Annotated[str, typer.Option(help="Where: US, US-CA, US-CA-SAN_FRANCISCO.")],
    starts: Annotated[
        str, typer.Option(help="From when it is valid, UTC (2027-01-01, 2027-01-01T12:00:00Z).")
    ],
    ends: Annotated[str, typer.Option(help="Until when, not included.")],
    searches: Annotated[int, typer.Option(help="How many requests may use it.", min=1)],
    collection: Annotated[str, typer.Option(help="The one collection; without it any.")] = "",
    note: Annotated[str, typer.Option("--note", help="State the reason; it is kept on the ledger.")] = "",
    as_json: Json = False,
) -> None:
    """Propose an authorisation. Another person approves it with ``abeyance moratoria approve``."""
    from abeyance.cli.moratoria import show_submitted
    from abeyance.moratorium.authorization import Authorization
    from abeyance.moratorium.document import instant_text
    from abeyance.moratorium.subjects import AuthorizationChange

    try:
        made = Authorization(
            tenant=tenant,
            number=number,
            issuer=issuer,
            purposes=tuple(dict.fromkeys(purpose)),
            place=place,
            collection=collection,
            starts=instant_text(context.moment(starts)),
            ends=instant_text(context.moment(ends)),
            searches=searches,
        )
    except ValueError as error:
        fail(str(error), Exit.USAGE)
    show_submitted(context.changes().submit(AuthorizationChange(made), note=note), as_json)


@app.command("list")
def list_authorizations(
    tenant: Annotated[str, typer.Option(help="Only those of this tenant.")] = "", as_json: Json = False
) -> None:
    """List every authorisation, and how many requests have used it."""
    found = [one for one in context.changes().authorizations() if tenant in ("", one.authorization.tenant)]
    rows = list(map(_row, found))
    columns = ("tenant", "number", "issuer", "state", "used", "purposes", "place", "collection", "ends")
    report(
        rows,
        as_json=as_json,
        show=lambda: console.print(table("Authorisations", columns, cells(rows, columns), key=True)),
    )


@app.command()
def show(tenant: TenantId, number: Number, as_json: Json = False) -> None:
    """Show one authorisation whole."""
    found = next(
        (
            one
            for one in context.changes().authorizations()
            if (one.authorization.tenant, one.authorization.number) == (tenant, number)
        ),
        None,
    )
    if found is None:
        fail(f"{tenant} has no authorisation {number}", Exit.NO)
    row = _row(found)
    report(row, as_json=as_json, show=lambda: console.print_json(data=row))


@app.command()
def revoke(tenant: TenantId, number: Number, as_json: Json = False) -> None:
    """Revoke an authorisation: from the next decision on, nothing uses it. One person is enough."""
    from abeyance.cli.moratoria import show_submitted
    from abeyance.moratorium.subjects import RevocationChange

    show_submitted(context.changes().submit(RevocationChange(tenant, number)), as_json)


def _row(found: RegisteredAuthorization) -> dict[str, Any]:
    import msgspec

    terms = msgspec.to_builtins(found.authorization)
    state = "revoked" if found.revoked else "active"
    used = f"{found.used} of {found.authorization.searches}"
    return {**terms, "state": state, "registered": found.registered, "used": used}
