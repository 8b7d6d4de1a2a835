"""``abeyance ledger``: is what happened on the record, and is the record whole?"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from abeyance.cli.output import Exit, Json, console, errors, fail, progress, report, table

if TYPE_CHECKING:
    from abeyance.ledger.chain import Entry
    from abeyance.ledger.checkpoints import Checkpointer
    from abeyance.ledger.findings import Report
    from abeyance.ledger.note import Checkpoint
    from abeyance.ledger.signatures import SignerKey, VerifierKey
    from abeyance.ledger.store import LedgerStore

app = typer.Typer(
    no_args_is_help=True,
    help="The hash chain of every decision: verify it, read it, export it, prove that something is on it.",
)

Export = Annotated[
    Path | None,
    typer.Argument(help="An export. Without it, the ledger table itself.", exists=True, dir_okay=False),
]
ExportOption = Annotated[
    Path | None,
    typer.Option(
        "--export", help="Read this export instead of the ledger table.", exists=True, dir_okay=False
    ),
]
_EMPTY = "the ledger table is empty: nothing was ever recorded"

Trust = Annotated[
    list[str] | None,
    typer.Option(
        "--trust", help="A public key, or a file with one a line. A checkpoint has to be signed by one."
    ),
]
Key = Annotated[
    Path,
    typer.Option(
        "--key", help="File with a private key from: abeyance ledger keygen", exists=True, dir_okay=False
    ),
]


@app.command()
def verify(
    export: Export = None,
    proof: Annotated[
        Path | None, typer.Option(help="Check this proof instead of a ledger.", exists=True, dir_okay=False)
    ] = None,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(
            help="A checkpoint from elsewhere that the ledger has to fulfil.", exists=True, dir_okay=False
        ),
    ] = None,
    head: Annotated[str | None, typer.Option(help="A noted SEQ:HASH that has to be on the ledger.")] = None,
    trust: Trust = None,
    as_json: Json = False,
) -> None:
    """Verify every entry, link and checkpoint, and say where it breaks. Exit code 1 if it does.

    An export is verified offline: it needs no network, no account and no trust in who made it. The ledger table is
    verified against its own head and against every checkpoint in the ledger's bucket.
    """
    from abeyance.ledger.proofs import check_proof
    from abeyance.ledger.verify import verify_export, verify_lines

    with _answers():
        trusted, known, noted = _trusted(trust), _checkpoints(checkpoint), _head(head)
        if proof is not None:
            result = check_proof(proof.read_bytes(), trusted=trusted, against=known[0] if known else None)
            report(result, as_json=as_json, show=lambda: _say(result.ok, result.what))
            raise typer.Exit(Exit.OK if result.ok else Exit.NO)
        if export is not None:
            size = export.stat().st_size
            with export.open("rb", buffering=1 << 20) as file, _bar("verifying", size) as advance:
                found = verify_export(file, checkpoints=known, head=noted, trusted=trusted, progress=advance)
        else:
            store = _store()
            if (start := store.head()) is None:
                fail(_EMPTY)
            known += _checkpointer().all(start.header.origin)
            end = store.head() or start
            with _bar("verifying", end.seq) as advance:
                found = verify_lines(
                    end.header,
                    store.lines(0, end.seq),
                    checkpoints=known,
                    head=noted or (end.seq, end.hash),
                    trusted=trusted,
                    progress=advance,
                )
        report(found, as_json=as_json, show=lambda: _show_report(found))
        raise typer.Exit(Exit.OK if found.ok else Exit.NO)


@app.command()
def show(
    export: Export = None,
    day: Annotated[str | None, typer.Option(help="Of this UTC day or hour, such as 2020-06-10.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Of this tenant.")] = None,
    type_: Annotated[str | None, typer.Option("--type", help="Of this type, such as decision.")] = None,
    outcome: Annotated[str | None, typer.Option(help="Decided so: permit or deny.")] = None,
    flag: Annotated[str | None, typer.Option(help="Where this flag took part in the decision.")] = None,
    last: Annotated[int, typer.Option(min=0, help="Only the last so many that fit; 0 for all.")] = 50,
    as_json: Json = False,
) -> None:
    """Show entries, the newest last. What is shown is not verified: run verify for that."""
    from abeyance.ledger.chain import decode_entry
    from abeyance.ledger.export import ExportFile
    from abeyance.ledger.query import Query

    query = Query(day=day, tenant=tenant, type=type_, outcome=outcome, flag=flag)
    with _answers():
        every = ExportFile(export).entries() if export else map(decode_entry, _store().lines())
        kept = list(deque((entry for entry in every if query.fits(entry)), maxlen=last or None))
    report({"entries": kept}, as_json=as_json, show=lambda: _show_entries(kept))


@app.command()
def export(
    out: Annotated[str, typer.Argument(help="File to write, or - for standard output.")] = "-",
) -> None:
    """Write the whole ledger with its checkpoints as one file, for verify and for moratoria simulate."""
    from abeyance.ledger.export import write_export

    with _answers():
        store = _store()
        head = store.head()
        if head is None:
            fail(_EMPTY)
        with _writing(out) as file, _bar("exporting", head.seq) as advance:
            lines = _counted(store.lines(0, head.seq), advance)
            final = write_export(file, head.header, lines, _checkpointer().all(head.header.origin))
        if final is None:
            fail("the ledger is damaged; the export shows it: run abeyance ledger verify on it", Exit.NO)
        errors.print(f"{final.size} entries, head {final.head}")


@app.command()
def prove(
    entry: Annotated[str | None, typer.Argument(help="Sequence number or id of the entry.")] = None,
    since: Annotated[
        Path | None,
        typer.Option(help="Prove instead that the ledger begins with that of this checkpoint.", exists=True),
    ] = None,
    export: ExportOption = None,
) -> None:
    """Print a proof that one entry is on the ledger. Anybody can check it: abeyance ledger verify --proof FILE."""
    from abeyance.ledger.proofs import prove_consistency, prove_inclusion

    if (entry is None) == (since is None):
        fail("name an entry by its number or id, or give --since CHECKPOINT", Exit.USAGE)
    with _answers():
        checkpoint, lines, find = _provable(export)
        with _bar("proving", checkpoint.size) as advance:
            if since is not None:
                proof = prove_consistency(_counted(lines(), advance), _checkpoints([since])[0], checkpoint)
            else:
                line = find(str(entry))
                if line is None:
                    fail("there is no such entry on the ledger", Exit.NO)
                proof = prove_inclusion(_counted(lines(), advance), line, checkpoint)
    report(proof, as_json=True, show=lambda: None)


@app.command()
def checkpoint(
    key: Annotated[
        Path | None, typer.Option(help="Sign with this private key.", exists=True, dir_okay=False)
    ] = None,
    retain_days: Annotated[
        int | None, typer.Option(min=1, help="Lock the object for so many days (needs Object Lock).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Verify what came since the last checkpoint, and write a new one to the ledger's bucket."""
    with _answers():
        store = _store()
        head = store.head()
        if head is None:
            fail(_EMPTY)
        signer = _signer(key) if key else None
        retain = timedelta(days=retain_days) if retain_days else None
        with _bar("verifying", head.seq) as advance:
            made = _checkpointer(retain=retain, sign=signer.sign if signer else None).checkpoint(
                store, advance
            )
        if made is None:
            fail("the ledger vanished while it was read", Exit.NO)
        report(_checkpoint_json(made), as_json=as_json, show=lambda: _print(str(made)))


@app.command()
def countersign(
    key: Key,
    size: Annotated[
        int | None, typer.Option(min=0, help="Size of the checkpoint; by default the last.")
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(
            help="Verify this export, and print the countersigned checkpoint; nothing is stored.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Verify the ledger up to a checkpoint and sign that you did. With this, nobody can rewrite it unseen."""
    from abeyance.ledger.verify import verify_export, verify_lines

    with _answers():
        signer = _signer(key)
        if export is not None:
            if size is not None:
                fail(
                    "--size is for the ledger table; of an export, the last checkpoint is signed", Exit.USAGE
                )
            with (
                export.open("rb", buffering=1 << 20) as file,
                _bar("verifying", export.stat().st_size) as advance,
            ):
                found = verify_export(file, progress=advance)
            made = _provable(export)[0]
        else:
            store, checkpointer = _store(), _checkpointer()
            head = store.head()
            if head is None:
                fail(_EMPTY)
            known = checkpointer.latest(head.header.origin, head.seq) if size is None else None
            if size is None and known is None:
                fail(
                    "there is no checkpoint yet; write one with: abeyance ledger checkpoint", Exit.UNAVAILABLE
                )
            made = known or checkpointer.get(head.header.origin, size or 0)
            # All of them, so that what was countersigned before is still part of what is countersigned now.
            before = [one for one in checkpointer.all(head.header.origin) if one.size <= made.size]
            with _bar("verifying", made.size) as advance:
                lines = store.lines(0, made.size)
                found = verify_lines(head.header, lines, checkpoints=before, progress=advance)
        if not found.ok:
            _show_report(found)
            fail("nothing was signed", Exit.NO)
        now = datetime.now(UTC)
        signature = signer.countersign(made, now)
        if export is None:
            checkpointer.countersign(made, signature, now)
        signed = made.signed(signature)
        report(_checkpoint_json(signed), as_json=as_json, show=lambda: _print(str(signed)))


@app.command()
def keygen(
    name: Annotated[str, typer.Argument(help="Who signs, such as example.com/ledger.")],
    out: Annotated[Path, typer.Option(help="File for the private key; must not exist.")] = Path("ledger.key"),
    as_json: Json = False,
) -> None:
    """Make a private key for signing, and print the public keys to hand out."""
    from abeyance.ledger.signatures import COSIGN, SIGN, generate

    with _answers():
        signer = generate(name, os.urandom(32))
        descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(signer.secret + "\n")
        public = {"signing": str(signer.verifier(SIGN)), "countersigning": str(signer.verifier(COSIGN))}
    rows = list(public.items())
    shown = {"private_key_file": str(out), **public}
    report(
        shown,
        as_json=as_json,
        show=lambda: console.print(table(f"{name}: public keys", ["for", "key"], rows)),
    )


@contextlib.contextmanager
def _answers() -> Iterator[None]:
    """Turn errors into one line that says what to do, and an exit code."""
    from botocore.exceptions import BotoCoreError, ClientError
    from msgspec import MsgspecError

    from abeyance.ledger.errors import LedgerCorrupt, LedgerError, LedgerUnavailable
    from abeyance.ledger.findings import BadLine

    try:
        yield
    except BadLine as error:
        fail(f"{_plain(error)}; to learn where, run: abeyance ledger verify", Exit.NO)
    except LedgerCorrupt as error:
        fail(_plain(error), Exit.NO)
    except MsgspecError:
        fail("an entry is damaged; to learn where, run: abeyance ledger verify", Exit.NO)
    except LedgerUnavailable as error:
        fail(f"{_plain(error)} (is AWS_ENDPOINT_URL set, and the ledger deployed?)")
    except LedgerError as error:
        fail(_plain(error), Exit.USAGE)
    except (BotoCoreError, ClientError) as error:
        fail(f"AWS did not do it: {_plain(error)}")
    except OSError as error:
        fail(f"{error.strerror}: {_plain(error.filename)}")


def _plain(value: object) -> str:
    from rich.markup import escape

    return escape(str(value))


@contextlib.contextmanager
def _bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    with progress() as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)


def _counted(lines: Iterator[bytes], advance: Callable[[int], None]) -> Iterator[bytes]:
    for number, line in enumerate(lines, 1):
        if not number & 0x3FF:
            advance(number)
        yield line


@contextlib.contextmanager
def _writing(out: str) -> Iterator[IO[bytes]]:
    """Standard output, or a file that appears under its name only when it is complete."""
    if out == "-":
        yield sys.stdout.buffer
        return
    partial = Path(f"{out}.part")
    with partial.open("wb", buffering=1 << 20) as file:
        yield file
    partial.replace(out)


def _store() -> LedgerStore:
    from abeyance.deployment.build import build_ledger_store
    from abeyance.deployment.settings import DeploymentSettings

    return build_ledger_store(DeploymentSettings.from_environment().ledger)


def _checkpointer(**options: Any) -> Checkpointer:
    from abeyance.deployment.build import build_checkpointer
    from abeyance.deployment.settings import DeploymentSettings

    return build_checkpointer(DeploymentSettings.from_environment().ledger, **options)


def _signer(path: Path) -> SignerKey:
    from abeyance.ledger.signatures import parse_signer

    return parse_signer(path.read_text())


def _trusted(given: list[str] | None) -> list[VerifierKey]:
    from abeyance.ledger.signatures import parse_verifier

    keys: list[VerifierKey] = []
    for text in given or ():
        lines = Path(text).read_text().split("\n") if Path(text).is_file() else [text]
        keys += [parse_verifier(line) for line in lines if line.strip()]
    return keys


def _checkpoints(paths: list[Path] | None) -> list[Checkpoint]:
    from abeyance.ledger.note import parse_checkpoint

    return [parse_checkpoint(path.read_text()) for path in paths or ()]


def _head(text: str | None) -> tuple[int, str] | None:
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]+):([0-9a-f]{64})", text)
    if match is None:
        fail("--head is SEQ:HASH, such as 12:9f86… with 64 hexadecimal digits in lower case", Exit.USAGE)
    return int(match[1]), match[2]


def _provable(
    export: Path | None,
) -> tuple[Checkpoint, Callable[[], Iterator[bytes]], Callable[[str], bytes | None]]:
    """What proofs are made from: a checkpoint, the entries that it covers, and how to find one of them."""
    if export is not None:
        from abeyance.ledger.export import ExportFile

        source = ExportFile(export)
        final = source.checkpoint()
        if final is None:
            fail("the export has no checkpoint; run: abeyance ledger verify", Exit.NO)
        return final, source.lines, source.find
    store = _store()
    head = store.head()
    if head is None:
        fail(_EMPTY)
    last = _checkpointer().latest(head.header.origin, head.seq)
    if last is None:
        fail("there is no checkpoint yet; write one with: abeyance ledger checkpoint")

    def find(name: str) -> bytes | None:
        entry = store.get(int(name)) if name.isdecimal() else store.find(name)
        return entry.canonical if entry else None

    return last, lambda: store.lines(0, last.size), find


def _show_entries(entries: list[Entry]) -> None:
    from abeyance.ledger.query import decision

    rows = []
    for entry in entries:
        said = {**entry.body, **decision(entry)}
        told = [str(said.get(name) or "") for name in ("tenant", "action", "outcome", "reason")]
        rows.append([_plain(cell) for cell in (entry.seq, entry.time[:19] + "Z", entry.type, *told)])
    columns = ["seq", "time", "type", "tenant", "action", "outcome", "reason"]
    console.print(table(f"{len(rows)} entries", columns, rows))


def _show_report(found: Report) -> None:
    _say(found.ok, "the chain holds" if found.ok else f"the chain is broken: {found.found} findings")
    rows: list[tuple[str, object]] = [
        ("chain", found.chain),
        ("entries", found.entries),
        ("head", found.head),
        ("Merkle root", found.root or "none: see the findings"),
        ("checkpoints that agree", f"{found.checkpoints}, the last of {found.checkpointed} entries"),
    ]
    if found.signed:
        rows.append(("signed by a trusted key", f"up to entry {found.signed}"))
    if found.conflicts or found.refused:
        rows.append(("deserve a look", f"{found.conflicts} conflicts, {found.refused} refused records"))
    console.print(table("ledger", ["", ""], rows))
    if found.findings:
        columns = ["line", "byte", "seq", "kind", "what"]
        cells = [
            [
                "" if cell is None else cell
                for cell in (one.line, one.offset, one.seq, one.kind.value, _plain(one.what))
            ]
            for one in found.findings
        ]
        console.print(table("findings", columns, cells))


def _say(ok: bool, what: str) -> None:
    console.print(
        f"[{'green' if ok else 'bold red'}]{'yes' if ok else 'NO'}[/]: {_plain(what)}", highlight=False
    )


def _print(text: str) -> None:
    sys.stdout.write(text)


def _checkpoint_json(made: Checkpoint) -> dict[str, Any]:
    from abeyance.encoding import encode_base64

    return {
        "origin": made.origin,
        "size": made.size,
        "root": encode_base64(made.root),
        "head": made.head,
        "signed_by": [signature.name for signature in made.signatures],
        "note": str(made),
    }
