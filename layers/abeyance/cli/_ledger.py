"""The parts of ``abeyance ledger``: opening a ledger, reading keys and notes, and showing what was found."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from abeyance.cli import _context as context
from abeyance.cli.output import Exit, console, fail, progress, table

if TYPE_CHECKING:
    from abeyance.ledger.chain import Entry, Head
    from abeyance.ledger.checkpoints import Checkpointer
    from abeyance.ledger.findings import VerificationReport
    from abeyance.ledger.note import Checkpoint
    from abeyance.ledger.signatures import SignerKey, VerifierKey
    from abeyance.ledger.store import LedgerStore


def open_store() -> tuple[LedgerStore, Head]:
    """Return the ledger table and its head; ends the command if nothing was ever recorded."""
    store = open_table()
    head = store.head()
    if head is None:
        fail("the ledger table is empty: nothing was ever recorded")
    return store, head


def open_table() -> LedgerStore:
    """Return the ledger table, empty or not."""
    from abeyance.deployment.parts import build_ledger_store

    return build_ledger_store(context.settings())


def open_checkpointer(*, key: Path | None = None, retain_days: int | None = None) -> Checkpointer:
    """Return the checkpoints in the ledger's bucket; ``key`` signs new ones, which are locked for ``retain_days``."""
    from abeyance.deployment.parts import build_checkpointer

    return build_checkpointer(
        context.settings(),
        retain=timedelta(days=retain_days) if retain_days else None,
        sign=read_signer(key).sign if key else None,
    )


def read_signer(path: Path) -> SignerKey:
    """Return the private key in a file."""
    from abeyance.ledger.signatures import parse_signer

    return parse_signer(path.read_text())


def read_trusted(given: list[str] | None) -> list[VerifierKey]:
    """Return public keys from texts, or from files with one a line."""
    from abeyance.ledger.signatures import parse_verifier

    keys: list[VerifierKey] = []
    for text in given or ():
        lines = Path(text).read_text().split("\n") if Path(text).is_file() else [text]
        keys += [parse_verifier(line) for line in lines if line.strip()]
    return keys


def read_checkpoints(paths: list[Path] | None) -> list[Checkpoint]:
    """Return the checkpoints in files."""
    from abeyance.ledger.note import parse_checkpoint

    return [parse_checkpoint(path.read_text()) for path in paths or ()]


def read_head(text: str | None) -> tuple[int, str] | None:
    """Return the sequence number and the hash of ``SEQ:HASH``."""
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]+):([0-9a-f]{64})", text)
    if match is None:
        fail(
            "write --head as SEQ:HASH, such as 12:9f86… with 64 hexadecimal digits in lower case", Exit.USAGE
        )
    return int(match[1]), match[2]


def verify_file(export: Path, **options: Any) -> VerificationReport:
    """Verify an export with a progress bar; see :func:`abeyance.ledger.verify.verify_export`."""
    from abeyance.ledger.verify import verify_export

    with export.open("rb", buffering=1 << 20) as file, bar("verifying", export.stat().st_size) as advance:
        return verify_export(file, progress=advance, **options)


def verify_table(store: LedgerStore, chain: Head, through: int, **options: Any) -> VerificationReport:
    """Verify the table up to entry ``through`` with a progress bar; see ``verify_lines``."""
    from abeyance.ledger.verify import verify_lines

    with bar("verifying", through) as advance:
        return verify_lines(chain.header, store.lines(0, through), progress=advance, **options)


def find_provable(
    export: Path | None,
) -> tuple[Checkpoint, Callable[[], Iterator[bytes]], Callable[[str], bytes | None]]:
    """Return the basis of proofs: a checkpoint, the entries that it covers, and a way to find one of them."""
    if export is not None:
        from abeyance.ledger.export import ExportFile

        source = ExportFile(export)
        final = source.checkpoint()
        if final is None:
            fail("the export has no checkpoint; run: abeyance ledger verify", Exit.NO)
        return final, source.lines, source.find
    store, head = open_store()
    last = latest_checkpoint(open_checkpointer(), head)

    def find(name: str) -> bytes | None:
        entry = store.get(int(name)) if name.isdecimal() else store.find(name)
        return entry.canonical if entry else None

    return last, lambda: store.lines(0, last.size), find


def latest_checkpoint(checkpointer: Checkpointer, head: Head) -> Checkpoint:
    """Return the largest checkpoint in the bucket; ends the command if there is none."""
    last = checkpointer.latest(head.header.origin, head.seq)
    if last is None:
        fail("there is no checkpoint yet; write one with: abeyance ledger checkpoint")
    return last


@contextlib.contextmanager
def bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar, and yield the function that moves it."""
    with progress() as shown:
        task = shown.add_task(what, total=total)
        yield lambda done: shown.update(task, completed=done)


def counted(lines: Iterable[bytes], advance: Callable[[int], None]) -> Iterator[bytes]:
    """Yield lines and move a progress bar every 1024 of them."""
    for number, line in enumerate(lines, 1):
        if not number & 0x3FF:
            advance(number)
        yield line


@contextlib.contextmanager
def writing(out: str) -> Iterator[IO[bytes]]:
    """Yield standard output, or a file that appears under its name only when it is complete."""
    if out == "-":
        yield sys.stdout.buffer
        return
    partial = Path(f"{out}.part")
    with partial.open("wb", buffering=1 << 20) as file:
        yield file
    partial.replace(out)


def show_entries(entries: list[Entry]) -> None:
    """Print entries as a table."""
    from abeyance.ledger.query import decision

    rows = []
    for entry in entries:
        body = {**entry.body, **decision(entry)}
        cells = [str(body.get(name) or "") for name in ("tenant", "action", "outcome", "reason")]
        rows.append([entry.seq, entry.time[:19] + "Z", entry.type, *cells])
    columns = ["seq", "time", "type", "tenant", "action", "outcome", "reason"]
    console.print(table(f"{len(rows)} entries", columns, rows))


def show_report(found: VerificationReport) -> None:
    """Print the result of a verification, and its findings."""
    show_verdict(found.ok, "the chain holds" if found.ok else f"the chain is broken: {found.found} findings")
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
        rows.append(("to be read", f"{found.conflicts} conflicts, {found.refused} refused records"))
    console.print(table("ledger", ["", ""], rows))
    if found.findings:
        cells = [(one.line, one.offset, one.seq, one.kind.value, one.what) for one in found.findings]
        blank = [["" if cell is None else cell for cell in row] for row in cells]
        console.print(table("findings", ["line", "byte", "seq", "kind", "what"], blank))


def show_verdict(ok: bool, what: str) -> None:
    """Print yes or NO, and what it is about."""
    console.print(f"[{'green' if ok else 'bold red'}]{'yes' if ok else 'NO'}[/]: ", end="")
    console.print(what, highlight=False, markup=False)


def checkpoint_json(made: Checkpoint) -> dict[str, Any]:
    """Return a checkpoint for ``--json``."""
    from abeyance.encoding import encode_base64

    return {
        "origin": made.origin,
        "size": made.size,
        "root": encode_base64(made.root),
        "head": made.head,
        "signed_by": [signature.name for signature in made.signatures],
        "note": str(made),
    }
