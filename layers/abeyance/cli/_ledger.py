"""The parts of ``abeyance ledger``: opening a log, reading keys and notes, and showing what was found."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abeyance.cli import _context as context
from abeyance.cli.output import Exit, console, fail, print_line, report, table

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from abeyance.assurance.reconcile import Reconciliation
    from abeyance.ledger.checkpoint import LogCheckpoint
    from abeyance.ledger.defects import LedgerReport
    from abeyance.ledger.indexer import IndexState
    from abeyance.ledger.lookup import Lookup
    from abeyance.ledger.objects import LogObjects
    from abeyance.ledger.policy import Policy
    from abeyance.ledger.reading import LoggedEntry
    from abeyance.ledger.receipts import ReceiptReport


def open_log_objects(path: Path | None) -> LogObjects:
    """Return the log in a folder, in a zip file, or with ``None`` in the ledger's bucket."""
    if path is None:
        from abeyance.deployment.parts import build_log_objects

        return build_log_objects(context.settings())
    if path.is_dir():
        from abeyance.ledger.objects import DirectoryObjects

        return DirectoryObjects(path)
    from abeyance.ledger.exporting import ZipObjects

    return ZipObjects(path)


def readers(path: Path | None) -> int:
    """Return how many reads may be under way at once: one from a disk, some over a network."""
    return 1 if path else context.settings().ledger_parallel


def log_size(path: Path | None) -> int:
    """Return the number of entries to read: those of an export's checkpoint, or all that the tiles hold."""
    if path is None:
        from abeyance.deployment.parts import build_heads

        return build_heads(context.settings()).integrated()
    from abeyance.ledger.receipts import read_checkpoint

    return read_checkpoint(open_log_objects(path)).size


def read_policy(path: Path | None, trust: list[str] | None) -> Policy | None:
    """Return the policy of a file, with the keys of ``--trust`` besides; ``None`` if neither is given."""
    from abeyance.ledger.policy import parse_policy, trust_keys
    from abeyance.ledger.signatures import SIGN, parse_verifier

    keys = []
    for text in trust or ():
        lines = Path(text).read_text().split("\n") if Path(text).is_file() else [text]
        keys += [parse_verifier(line) for line in lines if line.strip()]
    for key in keys:
        if key.algorithm != SIGN:
            fail(
                f"{key.name} is a key of a witness; demand it in a file and give that with --policy",
                Exit.USAGE,
            )
    if path is None:
        return trust_keys(keys) if keys else None
    import msgspec

    policy = parse_policy(path.read_text("utf-8", "surrogateescape"))
    return msgspec.structs.replace(policy, logs=tuple(dict.fromkeys((*policy.logs, *keys))))


def nobody() -> Policy:
    """Return the policy that believes no key."""
    from abeyance.ledger.policy import Policy

    return Policy()


def own_policy(objects: LogObjects) -> Policy:
    """Return the policy of this deployment: its own key, and the witnesses that it asks."""
    from abeyance.deployment.parts import build_policy

    return build_policy(context.settings())(_origin(objects))


def own_key(objects: LogObjects) -> str:
    """Return the public key of this deployment's log as text."""
    from abeyance.deployment.parts import build_signer

    return str(build_signer(context.settings()).verifier(_origin(objects)))


def read_checkpoints(paths: list[Path] | None) -> list[LogCheckpoint]:
    """Return the checkpoints in files: notes, or receipts, which end with one."""
    from abeyance.ledger.checkpoint import parse_note
    from abeyance.ledger.receipts import MAGIC, parse_receipt

    texts = [path.read_text("utf-8", "replace") for path in paths or ()]
    return [parse_receipt(text).checkpoint if text.startswith(MAGIC) else parse_note(text) for text in texts]


def lookup(path: Path | None, size: int | None = None) -> Lookup:
    """Return the lookup in a log; of an export, or up to a size, if one is given."""
    from abeyance.ledger.lookup import Lookup

    return Lookup(open_log_objects(path), log_size(path) if size is None else size, readers(path))


def find_index(path: Path | None, size: int, name: str) -> int:
    """Return the index of the entry with this id; ends the command if there is none."""
    found = lookup(path, size).find(name)
    if found is None:
        fail(f"there is no entry {name} among the {size} of the latest checkpoint", Exit.NO)
    return found


def show_index(state: IndexState) -> None:
    """Print the extent of the lookup index, and what was wrong with it."""
    rows: list[tuple[str, object]] = [
        ("in the index", f"{state.indexed} of {state.size} entries; the others are read from the log"),
        ("segments", state.segments),
        *(("written anew", key) for key in state.repaired),
        *(("no part of it", key) for key in state.foreign),
    ]
    console.print(table("lookup index", ["", ""], rows))


@contextlib.contextmanager
def writing(out: str) -> Iterator[Callable[[str, bytes], object]]:
    """Yield the function that writes an object to a folder, a zip file, or with ``-`` to standard output.

    A zip file appears under its name only when it is complete.
    """
    from abeyance.ledger.checkpoint import LATEST
    from abeyance.ledger.exporting import ZipWriter
    from abeyance.ledger.objects import DirectoryObjects

    if out == "-":
        writer = ZipWriter(sys.stdout.buffer)
        yield writer.put
        writer.close()
    elif out.endswith(".zip"):
        partial = Path(f"{out}.part")
        with partial.open("wb") as file:
            writer = ZipWriter(file)
            yield writer.put
            writer.close()
        partial.replace(out)
    else:
        folder = DirectoryObjects(Path(out))
        yield lambda key, data: folder.replace(key, data) if key == LATEST else folder.put_new(key, data)


def show_entries(entries: list[LoggedEntry]) -> None:
    """Print entries as a table."""
    from abeyance.ledger.query import decision

    rows = []
    for entry in entries:
        body = {**entry.body, **decision(entry)}
        cells = [str(body.get(name) or "") for name in ("tenant", "action", "outcome", "reason")]
        rows.append([entry.index, entry.time[:19] + "Z", entry.type, *cells])
    columns = ["index", "time", "type", "tenant", "action", "outcome", "reason"]
    console.print(table(f"{len(rows)} entries", columns, rows))


def show_report(found: LedgerReport, seconds: dict[str, float]) -> None:
    """Print the result of a verification, and its defects."""
    from abeyance.ledger.defects import LogVerdict

    word, style = {
        LogVerdict.WHOLE: ("yes", "green"),
        LogVerdict.BROKEN: ("NO", "bold red"),
        LogVerdict.UNSIGNED: ("not yet", "bold yellow"),
    }[found.verdict]
    console.print(f"[{style}]{word}[/]: ", end="")
    console.print(found.why, highlight=False, markup=False)
    opened = "withheld or not asked for" if found.opened is None else f"of {found.opened} entries"
    rows: list[tuple[str, object]] = [
        ("log", f"{found.origin}, since {found.created}"),
        ("entries", found.size),
        ("Merkle root", found.root),
        ("signed", f"{found.signed} entries, {found.checkpoints} checkpoints agree"),
        ("witnessed", f"{found.witnessed} entries{_at(found.witnessed_at)}"),
        ("fields opened", opened),
        ("took", ", ".join(f"{what} {number:.1f} s" for what, number in seconds.items())),
    ]
    if found.conflicts or found.refused or found.repeated:
        counts = f"{found.conflicts} conflicts, {found.refused} refused records, {found.repeated} repetitions"
        rows.append(("to be read", counts))
    rows += [("notice", notice) for notice in found.notices]
    console.print(table("ledger", ["", ""], rows))
    if found.defects:
        cells = [(one.index, one.kind.value, one.what, one.key) for one in found.defects]
        blank = [["" if cell is None else cell for cell in row] for row in cells]
        console.print(table(f"{found.found} defects", ["index", "kind", "what", "object"], blank))


def show_receipt(found: ReceiptReport) -> None:
    """Print the result of checking a receipt, and the fields that it discloses."""
    console.print(f"[{'green' if found.ok else 'bold red'}]{'yes' if found.ok else 'NO'}[/]: ", end="")
    console.print(found.what, highlight=False, markup=False)
    if found.ok:
        rows = [*found.fields.items(), *((name, "(withheld)") for name in found.withheld)]
        console.print(table(f"entry {found.index}", ["field", "value"], rows))
        if found.witnessed_by:
            console.print(f"witnessed by {', '.join(found.witnessed_by)}", highlight=False, markup=False)


def reconciliation(
    since: datetime, cloudtrail: list[Path], templates: int | None, grace: timedelta
) -> Reconciliation:
    """Return the comparison of what happened since a moment with the ledger."""
    from abeyance.assurance.traces import TraceError, of_cloudtrail
    from abeyance.deployment.build import build_reconciler
    from abeyance.deployment.parts import build_pseudonyms

    settings = context.settings()
    try:
        pseudonyms = build_pseudonyms(settings) if cloudtrail else str
        more = [
            one for path in cloudtrail for one in of_cloudtrail(path, settings.uploads_bucket, pseudonyms)
        ]
    except TraceError as error:
        fail(str(error), Exit.USAGE)
    return build_reconciler(settings).compare(since, more, grace=grace, templates=templates)


def show_reconciliation(found: Reconciliation) -> None:
    """Print what was compared, and the gaps."""
    console.print(f"[{'green' if found.ok else 'bold red'}]{'yes' if found.ok else 'NO'}[/]: ", end="")
    console.print(
        "everything that happened is on the ledger, and the other way round"
        if found.ok
        else f"{found.found} gaps between what happened and the ledger",
        highlight=False,
    )
    compared = ", ".join(f"{count} of {source}" for source, count in found.traces.items()) or "none"
    rows: list[tuple[str, object]] = [
        ("compared", f"{found.since} to {found.until}"),
        ("entries", found.entries),
        ("traces", compared),
    ]
    console.print(table("reconciliation", ["", ""], rows))
    if found.gaps:
        gaps = [(one.at, one.kind.value, one.what, one.name, one.index) for one in found.gaps]
        blank = [["" if cell is None else cell for cell in row] for row in gaps]
        console.print(table("gaps", ["at", "kind", "what", "name", "index"], blank))


def report_json(found: LedgerReport) -> dict[str, Any]:
    """Return a report for ``--json``, its verdict by name."""
    import msgspec

    return {**msgspec.structs.asdict(found), "verdict": found.verdict.name.lower()}


def _at(seconds: int | None) -> str:
    from datetime import UTC, datetime

    return f", last at {datetime.fromtimestamp(seconds, UTC).isoformat()}" if seconds else ""


def _origin(objects: LogObjects) -> str:
    from abeyance.ledger.identity import LOG, read_identity

    if (data := objects.get(LOG)) is None:
        fail("the ledger is empty: nothing was ever recorded")
    return read_identity(data).origin


def make_key(name: str, out: Path, algorithm: int, as_json: bool) -> None:
    """Write a private key to a new file that its owner alone reads, and print the public key; may raise ``OSError``."""
    from abeyance.ledger.signatures import generate

    signer = generate(name, os.urandom(32))
    descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(signer.secret + "\n")
    public = str(signer.verifier(algorithm))
    report({"private_key_file": str(out), "key": public}, as_json=as_json, show=lambda: print_line(public))
