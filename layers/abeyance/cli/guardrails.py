"""``abeyance moratoria guardrails``: what no flags may break, whoever approves it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from abeyance.cli import _context as context
from abeyance.cli.output import Commands, Json, console, existing_file, report, table

app = typer.Typer(
    name="guardrails",
    cls=Commands,
    no_args_is_help=True,
    help="List the claims that no flags may break, and change them with three people.",
)


@app.command("list")
def list_guardrails(as_json: Json = False) -> None:
    """List the guardrails, and whether the flags in force hold them from now on."""
    from abeyance.moratorium.document import instant_text, parse
    from abeyance.moratorium.guardrails import check_all, parse_guardrails

    state = context.changes().state()
    found = state["guardrails"]
    checks = check_all(
        parse_guardrails(found["document"]), parse(state["flags"]["document"]), context.moment(None)
    )
    rows = [
        {
            "key": one.guardrail.key,
            "claim": str(one.guardrail.claim),
            "starts": instant_text(one.guardrail.claim.since) if one.guardrail.claim.since else "",
            "ends": instant_text(one.guardrail.claim.until) if one.guardrail.claim.until else "",
            "holds": one.proof.holds,
            "reason": one.guardrail.reason,
            "source": one.guardrail.source,
        }
        for one in checks
    ]

    def show() -> None:
        columns = ("key", "claim", "starts", "ends", "holds", "reason")
        lines = [
            [row[name] for name in columns[:4]] + ["yes" if row["holds"] else "no", row["reason"]]
            for row in rows
        ]
        console.print(table(f"Guardrails, generation {found['generation']}", columns, lines, key=True))
        if found["drift"]:
            console.print(
                "These are not the guardrails that three people agreed to (drift). Nothing can be loosened until three "
                "deploy them again: abeyance moratoria guardrails propose",
                markup=False,
            )

    report({**found, "guardrails": rows}, as_json=as_json, show=show)


@app.command()
def propose(
    document: Annotated[Path, typer.Argument(help="The guardrails, whole.", exists=True, dir_okay=False)],
    note: Annotated[str, typer.Option("--note", help="State the reason; it is kept on the ledger.")] = "",
    as_json: Json = False,
) -> None:
    """Propose guardrails in the place of those deployed. Two other people have to approve."""
    from abeyance.cli.moratoria import show_submitted
    from abeyance.moratorium.subjects import GuardrailsChange

    change = GuardrailsChange(context.read_document(document))
    show_submitted(context.changes().submit(change, note=note), as_json)


@app.command()
def approve(
    proposal: Annotated[str, typer.Argument(help="The proposal's id.")],
    digest: Annotated[str, typer.Option(help="SHA-256 of the change that you have read.")] = "",
    document: Annotated[
        Path | None, existing_file("--document", help="Or the guardrails themselves, as you have them.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Approve guardrails that others propose. The third person brings them into force."""
    from abeyance.cli import moratoria

    moratoria.approve(proposal, digest, document, as_json)
