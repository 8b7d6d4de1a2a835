"""``abeyance certify``: show to people outside that a halt held, and check what was shown."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from abeyance.cli import _certificates as certificates
from abeyance.cli import _ledger as ledger
from abeyance.cli.ledger import LogOption, PolicyFile, Trust
from abeyance.cli.output import Commands, Exit, Json, existing_file, fail, report

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    invoke_without_command=True,
    help="Certify that a flag held, for people outside, and verify certificates.",
)


@app.callback()
def certify(
    ctx: typer.Context,
    flag: Annotated[str, typer.Option(help="Key of the flag, such as police_halt.")] = "",
    from_: Annotated[
        str,
        typer.Option(
            "--from",
            help="First checkpoint: its file, its number of entries, or a date; 0 is the log's beginning.",
        ),
    ] = "0",
    to: Annotated[
        str, typer.Option("--to", help="Last checkpoint, in the same way; by default the latest.")
    ] = "latest",
    out: Annotated[Path, typer.Option(help="Folder for the certificate, its page and its bundle.")] = Path(),
    disclose: Annotated[
        list[str] | None,
        typer.Option(help="Disclose also: jurisdiction, place, purpose, sector, tenant, people. Repeat it."),
    ] = None,
    reconciled: Annotated[
        list[Path] | None,
        existing_file(
            "--reconciled",
            help="Take this result of abeyance ledger reconcile --json. Repeat it, until the period is covered.",
        ),
    ] = None,
    grace: Annotated[
        int,
        typer.Option(
            min=0, help="Leave the last N minutes out of that comparison: they may be on their way."
        ),
    ] = 15,
    log: LogOption = None,
    as_json: Json = False,
) -> None:
    """Write the certificate of a flag: signed JSON, a page with a picture, and a bundle that anybody can verify.

    Nobody's tenant, photo or person is in it, beyond what --disclose names. Without --reconciled, what happened is
    compared with the ledger now. Exit with status 1 if something speaks against the certificate.
    """
    if ctx.invoked_subcommand is not None:
        return
    if not flag:
        fail("name the flag with --flag", Exit.USAGE)
    made = certificates.make(
        flag, from_, to, disclose or [], reconciled or [], timedelta(minutes=grace), log, out
    )
    report(made, as_json=as_json, show=lambda: certificates.show_made(made))
    raise typer.Exit(Exit.NO if made.certificate["findings"] else Exit.OK)


@app.command()
def verify(
    bundle: Annotated[Path, typer.Argument(help="The bundle of a certificate.", exists=True, dir_okay=False)],
    policy: PolicyFile = None,
    trust: Trust = None,
    certificate: Annotated[
        Path | None, existing_file(help="Require that the bundle is the one of this certificate.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Verify a certificate offline, with its bundle and the keys that you believe, and say what is wrong and where.

    Exit with status 0 if the certificate says what the entries say and nothing speaks against the halt, and with 1
    otherwise. Take the keys from somewhere else than the certificate.
    """
    from abeyance.assurance.checking import check_bundle

    expected = None
    if certificate is not None:
        try:
            expected = msgspec.json.decode(certificate.read_bytes())["certificate"]
        except (msgspec.MsgspecError, KeyError, TypeError):
            fail(f"{certificate} is no certificate", Exit.USAGE)
    found = check_bundle(bundle, ledger.read_policy(policy, trust) or ledger.nobody(), expected)
    report(
        {**msgspec.structs.asdict(found), "findings": found.findings},
        as_json=as_json,
        show=lambda: certificates.show_checked(found),
    )
    raise typer.Exit(Exit.OK if found.ok and not found.findings else Exit.NO)


@app.command()
def page(
    folder: Annotated[
        Path, typer.Argument(help="Folder with the certificates; it is made if it is missing.")
    ],
    flags: Annotated[
        Path | None, existing_file(help="Show this flags document instead of what is in force.")
    ] = None,
    log: LogOption = None,
    as_json: Json = False,
) -> None:
    """Write the public page into a folder of certificates: what is in force, the latest checkpoint, the certificates.

    Put the folder on any web server as it is. The same is in status.json, for programs.
    """
    status = certificates.write_page(folder, flags, log)
    report(status, as_json=as_json, show=lambda: typer.echo(str(folder / "index.html")))


@app.command()
def key(as_json: Json = False) -> None:
    """Print the public key that signs this deployment's certificates, to hand out beside that of the ledger."""
    found = certificates.own_key(ledger.open_log_objects(None))
    report({"key": found}, as_json=as_json, show=lambda: typer.echo(found))
