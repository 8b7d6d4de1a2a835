"""The parts of ``abeyance certify``: the period, the comparisons, the files, and showing what was found."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from abeyance.cli import _context as context
from abeyance.cli import _ledger as ledger
from abeyance.cli.output import Exit, bar, console, errors, fail, table

if TYPE_CHECKING:
    from abeyance.assurance.checking import CertificateReport
    from abeyance.assurance.reconcile import Reconciliation
    from abeyance.ledger.checkpoint import LogCheckpoint
    from abeyance.ledger.objects import LogObjects


class MadeCertificate(msgspec.Struct, frozen=True):
    """A certificate and the files that it was written to."""

    certificate: dict[str, Any]
    file: str
    page: str
    bundle: str


def make(
    flag: str,
    first: str,
    last: str,
    disclosed: list[str],
    reconciled: list[Path],
    grace: timedelta,
    log: Path | None,
    folder: Path,
) -> MadeCertificate:
    """Make the certificate of a flag for a period, and write its three files into a folder."""
    from abeyance.assurance.certificate import DISCLOSABLE, PEOPLE
    from abeyance.assurance.files import write_certificate
    from abeyance.deployment.certificates import build_certifier, policy_text

    if unknown := sorted(set(disclosed) - {*DISCLOSABLE, PEOPLE}):
        fail(f"--disclose {unknown[0]} is none of {', '.join((*DISCLOSABLE, PEOPLE))}", Exit.USAGE)
    settings = context.settings()
    objects = ledger.open_log_objects(log)
    begin, end = _checkpoint(objects, first, before=True), _checkpoint(objects, last, before=False)
    start = begin.size if begin else 0
    if end is None or end.size <= start:
        fail("there is no entry between the two checkpoints; take a later one as the end", Exit.USAGE)
    try:
        stored = ledger.log_size(log)
        certifier = build_certifier(settings, objects, stored, readers=ledger.readers(log))
    except ValueError as error:
        fail(str(error), Exit.USAGE)
    compared = [_reconciliation(path) for path in reconciled]
    if not compared and log is None:
        compared = _reconcile_now(objects, start, stored, grace)
    with bar("certifying", end.size - start) as advance:
        files = write_certificate(
            folder,
            flag,
            lambda out: certifier.certify(
                flag, begin, end, out, disclosed=disclosed, reconciled=compared, progress=advance
            ),
            policy=policy_text(settings, end.origin),
        )
    return MadeCertificate(files.certificate, str(files.file), str(files.page), str(files.bundle))


def write_page(folder: Path, flags: Path | None, log: Path | None) -> dict[str, Any]:
    """Write the public page into a folder and return what it says."""
    from abeyance.deployment.certificates import write_public_page

    objects = ledger.open_log_objects(log)
    return write_public_page(context.settings(), folder, objects=objects, flags=context.flags(flags))


def own_key(objects: LogObjects) -> str:
    """Return the public key of this deployment's certificates as text."""
    from abeyance.assurance.certificate import certificate_key_name
    from abeyance.deployment.certificates import build_certificate_signer
    from abeyance.ledger.receipts import read_checkpoint

    try:
        signer = build_certificate_signer(context.settings())
    except ValueError as error:
        fail(str(error), Exit.USAGE)
    return str(signer.verifier(certificate_key_name(read_checkpoint(objects).origin)))


def show_made(made: MadeCertificate) -> None:
    """Print what a certificate says, and its files."""
    show_certificate(made.certificate)
    for what, name in (("certificate", made.file), ("page", made.page), ("bundle", made.bundle)):
        console.print(f"{what}: {name}", highlight=False, soft_wrap=True)


def show_checked(found: CertificateReport) -> None:
    """Print the result of a verification."""
    good = found.ok and not found.findings
    console.print(f"[{'green' if good else 'bold red'}]{'yes' if good else 'NO'}[/]: ", end="")
    if found.ok:
        said = f"the certificate says what the {found.entries} entries say, and believed keys signed both"
        console.print(said, highlight=False)
        show_certificate(found.certificate)
        names = ", ".join(found.witnessed_by) or "nobody whom your policy names"
        console.print(f"witnessed by {names}", highlight=False)
        return
    console.print(f"{found.found} contradictions", highlight=False)
    console.print(table("problems", ["where", "what"], [(one.where, one.what) for one in found.problems]))


def show_certificate(certificate: dict[str, Any]) -> None:
    """Print what a certificate says."""
    from abeyance.assurance.words import FINDINGS

    counted, stated = certificate["counted"], certificate["stated"]
    replay, compared = stated["replay"], stated["reconciliation"]
    traces = "with nothing" if compared is None else f"{sum(compared['traces'].values())} traces"
    gaps = "" if compared is None else f", {compared['gaps']} gaps"
    rows: list[tuple[str, object]] = [
        ("log", certificate["log"]),
        ("entries", f"{certificate['from']['size']} to {certificate['to']['size']}"),
        ("decisions", counted["decisions"]),
        ("bound by the flag", f"{counted['bound']} decisions, {counted['requests']} requests"),
        (
            "made again",
            f"{replay['same']} the same, {replay['different']} different, {replay['faults']} faults",
        ),
        ("compared", traces + gaps),
    ]
    console.print(table(certificate["flag"], ["", ""], rows))
    columns = ["type", "action", "part", "outcome", "clause", "count"]
    console.print(table("bound", columns, [[one[name] for name in columns] for one in counted["by"]]))
    for name in certificate["findings"]:
        console.print(f"[bold red]against it:[/] {FINDINGS[name]}", highlight=False)


def _checkpoint(objects: LogObjects, text: str, *, before: bool) -> LogCheckpoint | None:
    from abeyance.assurance.period import size_after, size_before
    from abeyance.ledger.receipts import read_checkpoint

    if text == "latest":
        return read_checkpoint(objects)
    if Path(text).is_file():
        return ledger.read_checkpoints([Path(text)])[0]
    if text.isascii() and text.isdecimal():
        size = int(text)
    else:
        moment, latest = context.moment(text), read_checkpoint(objects).size
        size = (size_before if before else size_after)(objects, latest, moment)
    return read_checkpoint(objects, size) if size else None


def _reconciliation(path: Path) -> Reconciliation:
    from abeyance.assurance.reconcile import Reconciliation

    try:
        return msgspec.json.decode(path.read_bytes(), type=Reconciliation)
    except msgspec.MsgspecError:
        fail(f"{path} is no result of abeyance ledger reconcile --json", Exit.USAGE)


def _reconcile_now(objects: LogObjects, start: int, size: int, grace: timedelta) -> list[Reconciliation]:
    """Compare what happened since the period began with the ledger, as long as stages keep their records."""
    from abeyance.deployment.build import build_reconciler
    from abeyance.ledger.reading import LogReader

    settings = context.settings()
    since = datetime.fromisoformat(LogReader(objects, size).entry(start).time) - timedelta(minutes=1)
    if since < datetime.now(UTC) - timedelta(days=settings.retention_days):
        errors.print(
            f"Records are kept for {settings.retention_days} days, and the period is older: nothing is compared. "
            "Give the results of earlier comparisons with --reconciled.",
            highlight=False,
            soft_wrap=True,
        )
        return []
    return [build_reconciler(settings).compare(since, grace=grace)]
