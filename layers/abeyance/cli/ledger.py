"""``abeyance ledger``: verify, read, export and countersign the record of every decision."""

from __future__ import annotations

import os
import sys
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from abeyance.cli import _ledger as ledger
from abeyance.cli.output import Commands, Exit, Json, console, errors, existing_file, fail, report, table

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    help="Verify, read and export the ledger of every decision, and prove what is on it.",
)

Export = Annotated[
    Path | None,
    typer.Argument(help="An export; by default the ledger table itself.", exists=True, dir_okay=False),
]
ExportOption = Annotated[
    Path | None,
    existing_file("--export", help="Read this export instead of the ledger table."),
]
Trust = Annotated[
    list[str] | None,
    typer.Option(
        "--trust", help="Require a checkpoint signed by this public key, or by one in this file (one a line)."
    ),
]
Key = Annotated[
    Path,
    existing_file("--key", help="File with a private key from: abeyance ledger keygen"),
]


@app.command()
def verify(
    export: Export = None,
    proof: Annotated[Path | None, existing_file(help="Check this proof instead of a ledger.")] = None,
    checkpoint: Annotated[
        list[Path] | None,
        existing_file(help="Require this checkpoint from elsewhere."),
    ] = None,
    head: Annotated[str | None, typer.Option(help="Require this SEQ:HASH on the ledger.")] = None,
    trust: Trust = None,
    as_json: Json = False,
) -> None:
    """Verify every entry, link and checkpoint, and locate the damage. Exit with status 1 if there is any.

    An export is verified offline: it needs no network, no account and no trust in its author. The ledger table is
    verified against its own head and against every checkpoint in the ledger's bucket.
    """
    from abeyance.ledger.proofs import check_proof

    trusted, known = ledger.read_trusted(trust), ledger.read_checkpoints(checkpoint)
    noted = ledger.read_head(head)
    if proof is not None:
        result = check_proof(proof.read_bytes(), trusted=trusted, against=known[0] if known else None)
        report(result, as_json=as_json, show=lambda: ledger.show_verdict(result.ok, result.what))
        raise typer.Exit(Exit.OK if result.ok else Exit.NO)
    if export is not None:
        found = ledger.verify_file(export, checkpoints=known, head=noted, trusted=trusted)
    else:
        store, start = ledger.open_store()
        known += ledger.open_checkpointer().all(start.header.origin)
        end = store.head() or start
        found = ledger.verify_table(
            store, end, end.seq, checkpoints=known, head=noted or (end.seq, end.hash), trusted=trusted
        )
    report(found, as_json=as_json, show=lambda: ledger.show_report(found))
    raise typer.Exit(Exit.OK if found.ok else Exit.NO)


@app.command()
def show(
    export: Export = None,
    day: Annotated[str | None, typer.Option(help="Of this UTC day or hour, such as 2020-06-10.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Of this tenant.")] = None,
    type_: Annotated[str | None, typer.Option("--type", help="Of this type, such as decision.")] = None,
    outcome: Annotated[str | None, typer.Option(help="With this outcome: permit or deny.")] = None,
    flag: Annotated[str | None, typer.Option(help="Decided with this flag.")] = None,
    last: Annotated[int, typer.Option(min=0, help="Show only the last N of them; 0 for all.")] = 50,
    as_json: Json = False,
) -> None:
    """Show entries, the newest last. They are not verified: run verify for that."""
    from abeyance.ledger.chain import decode_entry
    from abeyance.ledger.export import ExportFile
    from abeyance.ledger.query import Query

    query = Query(day=day, tenant=tenant, type=type_, outcome=outcome, flag=flag)
    entries = ExportFile(export).entries() if export else map(decode_entry, ledger.open_table().lines())
    found = list(deque(filter(query.fits, entries), maxlen=last or None))
    report({"entries": found}, as_json=as_json, show=lambda: ledger.show_entries(found))


@app.command()
def export(
    out: Annotated[str, typer.Argument(help="File to write, or - for standard output.")] = "-",
) -> None:
    """Write the whole ledger with its checkpoints to one file, for verify and for moratoria simulate."""
    from abeyance.ledger.export import write_export

    store, head = ledger.open_store()
    with ledger.writing(out) as file, ledger.bar("exporting", head.seq) as advance:
        lines = ledger.counted(store.lines(0, head.seq), advance)
        checkpoints = ledger.open_checkpointer().all(head.header.origin)
        final = write_export(file, head.header, lines, checkpoints)
    if final is None:
        fail("the ledger is damaged, and the export shows it: run abeyance ledger verify on it", Exit.NO)
    errors.print(f"{final.size} entries, head {final.head}")


@app.command()
def prove(
    entry: Annotated[str | None, typer.Argument(help="Sequence number or id of the entry.")] = None,
    since: Annotated[
        Path | None,
        existing_file(help="Prove instead that the ledger begins with that of this checkpoint."),
    ] = None,
    export: ExportOption = None,
) -> None:
    """Print a proof that one entry is on the ledger. Anybody can check it: abeyance ledger verify --proof FILE."""
    from abeyance.ledger.proofs import prove_consistency, prove_inclusion

    if (entry is None) == (since is None):
        fail("name an entry by its number or id, or give --since CHECKPOINT", Exit.USAGE)
    checkpoint, lines, find = ledger.find_provable(export)
    with ledger.bar("proving", checkpoint.size) as advance:
        if since is not None:
            older = ledger.read_checkpoints([since])[0]
            proof = prove_consistency(ledger.counted(lines(), advance), older, checkpoint)
        else:
            line = find(str(entry))
            if line is None:
                fail("there is no such entry on the ledger", Exit.NO)
            proof = prove_inclusion(ledger.counted(lines(), advance), line, checkpoint)
    report(proof, as_json=True, show=lambda: None)


@app.command()
def checkpoint(
    key: Annotated[Path | None, existing_file(help="Sign with this private key.")] = None,
    retain_days: Annotated[
        int | None, typer.Option(min=1, help="Lock the object for N days (needs Object Lock).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Verify what came since the last checkpoint, and write a new one to the ledger's bucket."""
    store, head = ledger.open_store()
    with ledger.bar("verifying", head.seq) as advance:
        made = ledger.open_checkpointer(key=key, retain_days=retain_days).checkpoint(store, advance)
    if made is None:
        fail("the ledger vanished while it was read", Exit.NO)
    report(ledger.checkpoint_json(made), as_json=as_json, show=lambda: _print(str(made)))


@app.command()
def countersign(
    key: Key,
    size: Annotated[
        int | None, typer.Option(min=0, help="Size of the checkpoint; by default the last.")
    ] = None,
    export: Annotated[
        Path | None,
        existing_file(help="Verify this export, and print the countersigned checkpoint; nothing is stored."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Verify the ledger up to a checkpoint and sign it: afterwards nobody can rewrite it unseen."""
    signer, checkpointer = ledger.read_signer(key), None
    if export is not None:
        if size is not None:
            fail("leave out --size with --export: the export's last checkpoint is signed", Exit.USAGE)
        found = ledger.verify_file(export)
        made = ledger.find_provable(export)[0]
    else:
        store, head = ledger.open_store()
        checkpointer, origin = ledger.open_checkpointer(), head.header.origin
        made = (
            ledger.latest_checkpoint(checkpointer, head) if size is None else checkpointer.get(origin, size)
        )
        # All of them, so that what was countersigned before is still part of what is countersigned now.
        before = [one for one in checkpointer.all(origin) if one.size <= made.size]
        found = ledger.verify_table(store, head, made.size, checkpoints=before)
    if not found.ok:
        ledger.show_report(found)
        fail("nothing was signed", Exit.NO)
    now = datetime.now(UTC)
    signature = signer.countersign(made, now)
    if checkpointer is not None:
        checkpointer.countersign(made, signature, now)
    signed = made.signed(signature)
    report(ledger.checkpoint_json(signed), as_json=as_json, show=lambda: _print(str(signed)))


@app.command()
def keygen(
    name: Annotated[str, typer.Argument(help="The signer's name, such as example.com/ledger.")],
    out: Annotated[Path, typer.Option(help="File for the private key; must not exist.")] = Path("ledger.key"),
    as_json: Json = False,
) -> None:
    """Make a private key for signing, and print the public keys to hand out."""
    from abeyance.ledger.signatures import COSIGN, SIGN, generate

    signer = generate(name, os.urandom(32))
    descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(signer.secret + "\n")
    public = {"signing": str(signer.verifier(SIGN)), "countersigning": str(signer.verifier(COSIGN))}
    report(
        {"private_key_file": str(out), **public},
        as_json=as_json,
        show=lambda: console.print(table(f"{name}: public keys", ["for", "key"], public.items())),
    )


def _print(text: str) -> None:
    sys.stdout.write(text)
