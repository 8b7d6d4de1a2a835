"""``abeyance people``: who is whom among those who change what is in force."""

from __future__ import annotations

from typing import Annotated

import typer

from abeyance.cli import _context as context
from abeyance.cli.output import Commands, Json, console, report, table

app = typer.Typer(
    name="people",
    cls=Commands,
    no_args_is_help=True,
    help="List people and their principals; link and unlink them.",
)

Principal = Annotated[
    str, typer.Argument(help="An IAM user, a session of a role that names people, or <subject>@<issuer>.")
]


@app.command("list")
def list_people(as_json: Json = False) -> None:
    """List who is whom."""
    found = context.changes().people()
    rows = sorted((person, principal) for principal, person in found.items())
    report(
        found,
        as_json=as_json,
        show=lambda: console.print(table("People", ("person", "principal"), rows, key=True)),
    )


@app.command()
def link(
    principal: Principal,
    person: Annotated[str, typer.Argument(help="The person's name here, such as alice.")],
    as_json: Json = False,
) -> None:
    """Propose that a principal is a person's, so that it can agree to changes."""
    from abeyance.cli.moratoria import show_submitted
    from abeyance.moratorium.subjects import LinkChange

    show_submitted(context.changes().submit(LinkChange(principal, person)), as_json)


@app.command()
def unlink(principal: Principal, as_json: Json = False) -> None:
    """Take a principal from its person, at once."""
    from abeyance.cli.moratoria import show_submitted
    from abeyance.moratorium.subjects import UnlinkChange

    show_submitted(context.changes().submit(UnlinkChange(principal)), as_json)
