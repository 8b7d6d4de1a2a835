"""``abeyance ledger``: verify, read and export the record of every decision, and prove what is on it."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from abeyance.cli import _ledger as ledger
from abeyance.cli.output import Commands, Exit, Json, bar, errors, existing_file, fail, print_line, report

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    help="Verify, read and export the ledger of every decision, and prove what is on it.",
)

Log = Annotated[
    Path | None,
    typer.Argument(help="An export, a folder or a zip file; by default the ledger's bucket.", exists=True),
]
LogOption = Annotated[
    Path | None,
    typer.Option("--export", help="Read this export instead of the ledger's bucket.", exists=True),
]
Trust = Annotated[
    list[str] | None,
    typer.Option("--trust", help="Believe this public key of the log, or those in this file (one a line)."),
]
PolicyFile = Annotated[
    Path | None,
    existing_file(
        "--policy", help="Believe the keys and demand the witnesses of this file (C2SP tlog-policy)."
    ),
]


@app.command()
def verify(
    log: Log = None,
    policy: PolicyFile = None,
    trust: Trust = None,
    checkpoint: Annotated[
        list[Path] | None,
        existing_file(help="Require this checkpoint, or the one of this receipt, on the log."),
    ] = None,
    receipt: Annotated[Path | None, existing_file(help="Check this receipt instead of a log.")] = None,
    leaf: Annotated[Path | None, existing_file(help="Entry of a receipt that does not bring it.")] = None,
    sealed: Annotated[bool, typer.Option("--sealed", help="Leave the fields of entries unopened.")] = False,
    accept_conflict: Annotated[
        list[int] | None,
        typer.Option(min=0, help="Accept the conflict of this entry, which somebody looked into."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Verify every object, entry, tile, checkpoint and signature, and locate the damage.

    Exit with status 0 if the log is whole: all of it is signed by a believed key, and witnessed as the policy demands;
    with 4 if nothing contradicts but a part is not signed or not witnessed yet; with 1 if the log is broken.

    An export is verified offline: it needs no network, no account and no trust in its author. Without --policy and
    --trust, the ledger's bucket is verified with the key of the deployment itself.
    """
    rules = ledger.read_policy(policy, trust)
    if receipt is not None:
        from abeyance.ledger.receipts import check_receipt

        entry = leaf.read_bytes() if leaf else None
        result = check_receipt(receipt.read_text("utf-8", "replace"), rules or ledger.nobody(), leaf=entry)
        report(result, as_json=as_json, show=lambda: ledger.show_receipt(result))
        raise typer.Exit(Exit.OK if result.ok else Exit.NO)
    from abeyance.ledger.opened import open_log, with_opened
    from abeyance.ledger.verification import verify_log

    known = ledger.read_checkpoints(checkpoint)
    opened = ledger.open_log_objects(log)
    rules = rules or (ledger.nobody() if log else ledger.own_policy(opened))
    seconds, start = {}, time.perf_counter()
    with bar("verifying") as advance:
        found = verify_log(
            opened, rules, now=datetime.now(UTC), known=known, readers=ledger.readers(log), progress=advance
        )
    seconds["verifying"] = time.perf_counter() - start
    if not sealed:
        start = time.perf_counter()
        with bar("opening", found.size) as advance:
            fields = open_log(
                opened,
                found.size,
                accepted=accept_conflict or (),
                readers=ledger.readers(log),
                progress=advance,
            )
        found = with_opened(found, fields)
        seconds["opening"] = time.perf_counter() - start
    took = {name: round(number, 3) for name, number in seconds.items()}
    report(
        {**ledger.report_json(found), "seconds": took},
        as_json=as_json,
        show=lambda: ledger.show_report(found, took),
    )
    raise typer.Exit(int(found.verdict))


@app.command()
def show(
    log: Log = None,
    id_: Annotated[str | None, typer.Option("--id", help="With this id.")] = None,
    day: Annotated[str | None, typer.Option(help="Of this UTC day or hour, such as 2020-06-10.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Of this tenant.")] = None,
    action: Annotated[str | None, typer.Option(help="Of this action, such as search.")] = None,
    type_: Annotated[str | None, typer.Option("--type", help="Of this type, such as decision.")] = None,
    outcome: Annotated[str | None, typer.Option(help="With this outcome: permit or deny.")] = None,
    flag: Annotated[str | None, typer.Option(help="Decided with this flag.")] = None,
    last: Annotated[int, typer.Option(min=0, help="Show only the last N of them; 0 for all.")] = 50,
    as_json: Json = False,
) -> None:
    """Show entries, the newest last. They are not verified: run prove for a receipt, or verify."""
    from abeyance.ledger.query import Query

    query = Query(id=id_, day=day, tenant=tenant, action=action, type=type_, outcome=outcome, flag=flag)
    found = list(islice(ledger.lookup(log).entries(query), last or None))[::-1]
    report({"entries": found}, as_json=as_json, show=lambda: ledger.show_entries(found))


@app.command()
def export(
    out: Annotated[
        str, typer.Argument(help="Folder to write, or FILE.zip, or - for a zip file on standard output.")
    ],
    withhold: Annotated[
        bool,
        typer.Option("--withhold", help="Leave the openings out: nobody sees a value, and all is verified."),
    ] = False,
) -> None:
    """Write the log of the latest checkpoint, for verify, for a web server, and for moratoria simulate.

    A folder that holds an earlier export is brought up to date; what is there already is not written again.
    """
    from abeyance.ledger.exporting import export_log
    from abeyance.ledger.receipts import read_checkpoint

    objects = ledger.open_log_objects(None)
    note = read_checkpoint(objects)
    with ledger.writing(out) as put, bar("exporting", note.size) as advance:
        export_log(objects, note, put, openings=not withhold, readers=ledger.readers(None), progress=advance)
    errors.print(f"{note.size} entries of {note.origin}", highlight=False)


@app.command()
def prove(
    entry: Annotated[str, typer.Argument(help="Index of the entry, or its id.")],
    log: LogOption = None,
    field: Annotated[
        list[str] | None,
        typer.Option(help="Disclose only this field, such as type or body.outcome; by default every field."),
    ] = None,
    withhold: Annotated[bool, typer.Option("--withhold", help="Disclose no field.")] = False,
) -> None:
    """Print a receipt (C2SP tlog-proof): anybody can check it with abeyance ledger verify --receipt FILE."""
    from abeyance.ledger.receipts import make_receipt, read_checkpoint

    if withhold and field:
        fail("give --field or --withhold, not both", Exit.USAGE)
    objects = ledger.open_log_objects(log)
    note = read_checkpoint(objects)
    index = int(entry) if entry.isascii() and entry.isdecimal() else ledger.find_index(log, note.size, entry)
    sys.stdout.write(str(make_receipt(objects, note, index, [] if withhold else field)))


@app.command()
def index(
    rebuild: Annotated[
        bool,
        typer.Option("--rebuild", help="Compare every file of it with the log, and write anew what differs."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Write the index by which show and prove find entries, as far as it is due. Exit with status 1 if it was damaged.

    The index follows from the log and proves nothing. In AWS a function does this every few minutes.
    """
    from abeyance.cli import _context as context
    from abeyance.deployment.build import build_indexer

    indexer = build_indexer(context.settings())
    state = indexer.rebuild() if rebuild else indexer.index()
    report(state, as_json=as_json, show=lambda: ledger.show_index(state))
    raise typer.Exit(Exit.NO if state.repaired or state.foreign else Exit.OK)


@app.command()
def checkpoint(
    log: LogOption = None,
    size: Annotated[int | None, typer.Option(min=0, help="Number of entries; by default the latest.")] = None,
) -> None:
    """Print a checkpoint with its signatures. Keep it: verify --checkpoint then requires it on the log."""
    from abeyance.ledger.receipts import read_checkpoint

    sys.stdout.write(str(read_checkpoint(ledger.open_log_objects(log), size)))


@app.command()
def reconcile(
    since: Annotated[
        str | None, typer.Option(help="Compare from this date or time on, UTC; by default the last two days.")
    ] = None,
    cloudtrail: Annotated[
        list[Path] | None,
        existing_file(help="Compare the uploads in this file of CloudTrail's data events, too."),
    ] = None,
    templates: Annotated[
        int | None,
        typer.Option(min=0, help="Templates that the embedder made since then: chips_total of its metrics."),
    ] = None,
    grace: Annotated[
        int, typer.Option(min=0, help="Leave out the last N minutes: they may still be on their way.")
    ] = 15,
    as_json: Json = False,
) -> None:
    """Compare what happened with the ledger, both ways, and name what is missing. Exit with status 1 if anything is.

    Compared are the records of stages, results, faces in galleries and finished reviews.
    """
    from abeyance.cli import _context as context

    start = context.moment(since) if since else datetime.now(UTC) - timedelta(days=2)
    found = ledger.reconciliation(start, cloudtrail or [], templates, timedelta(minutes=grace))
    report(
        {**msgspec.structs.asdict(found), "ok": found.ok},
        as_json=as_json,
        show=lambda: ledger.show_reconciliation(found),
    )
    raise typer.Exit(Exit.OK if found.ok else Exit.NO)


@app.command()
def key(as_json: Json = False) -> None:
    """Print the public key of this deployment's log, to hand out: others give it to verify --trust."""
    found = ledger.own_key(ledger.open_log_objects(None))
    report({"key": found}, as_json=as_json, show=lambda: print_line(found))
