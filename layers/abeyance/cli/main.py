"""The ``abeyance`` command. Each sub-command is a module here, which imports heavy libraries only when it runs."""

from __future__ import annotations

import typer

from abeyance.cli import (
    attributes,
    audit,
    authorizations,
    calibrate,
    certify,
    collections,
    cost,
    demo,
    erasures,
    evaluate,
    importing,
    jobs,
    ledger,
    models,
    moratoria,
    people,
    serve,
    tenants,
    users,
    witness,
)
from abeyance.cli.output import Commands

app = typer.Typer(
    name="abeyance",
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Face recognition that you deploy in your own AWS account, and that can be stopped.",
)

app.command("demo")(demo.demo)
app.command("serve")(serve.serve)
app.add_typer(models.app, name="models")
app.add_typer(tenants.app, name="tenants")
app.add_typer(moratoria.app, name="moratoria")
app.add_typer(authorizations.app, name="authorizations")
app.add_typer(people.app, name="people")
app.add_typer(collections.app, name="collections")
app.add_typer(importing.app, name="import")
app.add_typer(users.app, name="users")
app.add_typer(jobs.app, name="jobs")
app.add_typer(ledger.app, name="ledger")
app.add_typer(witness.app, name="witness")
app.add_typer(certify.app, name="certify")
app.add_typer(erasures.app, name="erasures")
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(calibrate.app, name="calibrate")
app.command("cost")(cost.cost)
app.add_typer(audit.app, name="audit")
app.add_typer(attributes.app, name="attributes")


def main() -> None:
    """Run the ``abeyance`` command."""
    app()
