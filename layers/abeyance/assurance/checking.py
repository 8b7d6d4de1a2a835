"""The check of a bundle, with nothing but itself and the keys that are believed. Streaming, in constant memory.

The page of a certificate has the same check in JavaScript, ``verifier.js``; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import msgspec

from abeyance.assurance.bundle import (
    About,
    BundledDocument,
    BundleError,
    BundleReader,
    Evidence,
    read_about,
    read_document,
    read_entry,
    read_evidence,
    read_nodes,
    read_object,
    read_text,
)
from abeyance.assurance.certificate import (
    FORMAT,
    Tally,
    certificate_digest,
    certificate_key_name,
    findings,
    needed_fields,
    parse_certificate_note,
    read_ruling,
)
from abeyance.assurance.evidence import named_documents, stated_documents, versions_of
from abeyance.assurance.rulings import Documents, contradictions
from abeyance.encoding import encode_base64
from abeyance.ledger.canonical import canonical_json
from abeyance.ledger.checkpoint import LogCheckpoint, parse_note
from abeyance.ledger.entry import Disclosure, read_commitments
from abeyance.ledger.errors import LedgerError
from abeyance.ledger.merkle import EMPTY_ROOT, CompactRange, leaf_hash, verify_inclusion
from abeyance.ledger.policy import Policy
from abeyance.ledger.signatures import verify
from abeyance.moratorium.document import parse
from abeyance.moratorium.errors import FlagsError

_MAX_PROBLEMS: Final = 50
_ROW: Final = 1024
#: Names of lines, in their order.
ORDER: Final = ("about", "from", "to", "nodes", "document", "evidence", "entry", "certificate", "note")
_REPEATED: Final = frozenset({"document", "evidence", "entry"})


class Problem(msgspec.Struct, frozen=True):
    """Something that is wrong with a bundle: where (a line, an entry, a part of the certificate), and what."""

    where: str
    what: str


class CertificateReport(msgspec.Struct, frozen=True):
    """The result of checking a bundle.

    Attributes
    ----------
    ok
        The certificate says what the entries say, and believed keys signed both.
    problems, found
        The first :data:`_MAX_PROBLEMS`, and how many there are.
    certificate
        The certificate; empty if there is none that can be read.
    entries
        Entries that were read.
    witnessed_by
        Names of the witnesses with a good cosignature of the last checkpoint.
    """

    ok: bool
    problems: tuple[Problem, ...]
    found: int
    certificate: dict[str, Any]
    entries: int
    witnessed_by: tuple[str, ...]

    @property
    def findings(self) -> tuple[str, ...]:
        """Names of the findings that the certificate itself has against the halt."""
        return tuple(self.certificate.get("findings", ()))


def check_bundle(
    path: Path, policy: Policy, certificate: Mapping[str, Any] | None = None
) -> CertificateReport:
    """Check a bundle.

    Parameters
    ----------
    path
        The bundle.
    policy
        Whose signatures are believed: of the log, its witnesses, and of certificates. It comes from elsewhere.
    certificate
        A certificate that the bundle has to be of, such as a published one.

    Returns
    -------
    CertificateReport
        Total: whatever the file holds, it ends in a report.
    """
    check = _Check(policy)
    reader = BundleReader(path)
    try:
        for name, value in reader.lines():
            check.line(name, value)
        check.end(certificate)
    except (LedgerError, ValueError) as error:
        check.problem(f"line {reader.number}", str(error))
    return check.report()


class _Check:
    """The state of a check."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._problems: list[Problem] = []
        self._found = 0
        self._last = -1
        self._about = About("", "day")
        self._first: LogCheckpoint | None = None
        self._end: LogCheckpoint | None = None
        self._tree = CompactRange()
        self._hashes: list[bytes] = []
        self._documents: list[BundledDocument] = []
        self._evidence: list[Evidence] = []
        self._known = Documents()
        self._tally = Tally("", "day")
        self._start = self._entries = 0
        self._certificate: dict[str, Any] = {}
        self._note = ""
        self._witnesses: tuple[str, ...] = ()

    def problem(self, where: str, what: str) -> None:
        """Note a problem."""
        self._found += 1
        if len(self._problems) < _MAX_PROBLEMS:
            self._problems.append(Problem(where, what))

    def report(self) -> CertificateReport:
        """Return the result."""
        return CertificateReport(
            not self._found,
            tuple(self._problems),
            self._found,
            self._certificate,
            self._entries,
            self._witnesses,
        )

    def line(self, name: str, value: bytes) -> None:
        """Take one line. Raises what makes it pointless to go on."""
        at = ORDER.index(name) if name in ORDER else -1
        again = at == self._last and name in _REPEATED
        if not again and (at <= self._last or not _REPEATED.issuperset(ORDER[self._last + 1 : at])):
            raise BundleError(f"a line of the name {name[:20]} does not belong here")
        self._last = at
        match name:
            case "entry":
                self._take_entry(*read_entry(value))
            case "about":
                self._about = read_about(value)
                self._tally = Tally(self._about.flag, self._about.unit)
            case "from":
                self._first = self._checkpoint("from", read_text(value))
            case "to":
                self._end = self._checkpoint("to", read_text(value))
            case "nodes":
                self._take_nodes(read_nodes(value))
            case "document":
                self._take_document(read_document(value))
            case "evidence":
                self._take_evidence(read_evidence(value))
            case "certificate":
                self._certificate = read_object(value)
            case _:
                self._note = read_text(value)

    def end(self, certificate: Mapping[str, Any] | None) -> None:
        """Compare the certificate with what was read. Raises what makes it pointless to go on."""
        if self._last != len(ORDER) - 1:
            raise BundleError("the bundle is cut off")
        self._tree.extend(self._hashes)
        if self._end is not None and (self._tree.size, self._tree.root()) != (self._end.size, self._end.root):
            what = f"these {self._entries} are not those of the last checkpoint"
            self.problem("entries", f"{what}: one was left out, added, moved or changed")
        stated_pairs = named_documents(self._evidence)
        for document in self._documents:
            if (document.flags, sha256(document.text.encode()).hexdigest()) not in stated_pairs:
                self.problem(f"document {document.flags[:12]}", "no entry of the log names it")
        self._compare()
        self._check_note()
        if certificate is not None and canonical_json(certificate) != canonical_json(self._certificate):
            self.problem("certificate", "the bundle is that of another certificate")

    def _checkpoint(self, name: str, text: str) -> LogCheckpoint | None:
        if name == "from" and not text:
            return None
        note = parse_note(text)
        trust = self._policy.judge(note, note.origin, note.size)
        if not trust.signed:
            self.problem(
                name, "no believed key of the log signed the checkpoint; give it with --trust or --policy"
            )
        if name == "to":
            self._witnesses = tuple(sorted(trust.cosigned))
            if not self._policy.witnessed(trust.cosigned):
                self.problem(name, "the checkpoint is not witnessed as the policy demands")
        return note

    def _take_nodes(self, nodes: list[bytes]) -> None:
        first, end = self._first, self._end
        self._start = first.size if first else 0
        self._tree = CompactRange(self._start, nodes)
        if self._tree.root() != (first.root if first else EMPTY_ROOT):
            self.problem("nodes", "they are not those of the first checkpoint")
        if first and end and (first.origin != end.origin or first.size > end.size):
            self.problem("to", "the two checkpoints are not of one log, in this order")

    def _take_document(self, document: BundledDocument) -> None:
        where = f"document {document.flags[:12]}"
        try:
            flags = parse(document.text)
        except FlagsError as error:
            self.problem(where, str(error))
            return
        if BundledDocument.of(flags, document.text.encode()) != document:
            self.problem(where, "it does not say what its digest or its statements say")
        else:
            self._known.add(flags)
        self._documents.append(document)

    def _take_evidence(self, one: Evidence) -> None:
        where = f"evidence of entry {one.index}"
        end = self._end
        if end is None or not verify_inclusion(leaf_hash(one.leaf), one.index, end.size, one.path, end.root):
            self.problem(where, "the entry is not shown to be on the log of the last checkpoint")
        self._open(where, one.leaf, one.disclosures)
        self._evidence.append(one)

    def _take_entry(self, leaf: bytes, disclosures: tuple[Disclosure, ...]) -> None:
        where = f"entry {self._start + self._entries}"
        self._entries += 1
        self._hashes.append(leaf_hash(leaf))
        if len(self._hashes) == _ROW:
            self._tree.extend(self._hashes)
            self._hashes.clear()
        commitments = self._open(where, leaf, disclosures)
        shown = {one.field: one.value for one in disclosures}
        if "type" not in shown:
            self.problem(where, "its type is not shown")
            return
        kind = str(msgspec.json.decode(shown["type"]))
        self._tally.entry(kind)
        expected = ["type"]
        if "body.decision" in commitments:
            expected = self._take_decision(where, kind, commitments, shown)
        if [one.field for one in disclosures] != expected:
            what = f"it shows {', '.join(shown)}, and the certificate needs {', '.join(expected)}"
            self.problem(where, what)

    def _take_decision(
        self, where: str, kind: str, commitments: Mapping[str, str], shown: Mapping[str, bytes]
    ) -> list[str]:
        """Count a decision, and return the fields that have to be shown of it."""
        ruling = read_ruling(shown.get("body.decision", b""))
        if ruling is None:
            self._tally.unread()
            return ["body.decision", "type"]
        parts = needed_fields(ruling.part_of(self._about.flag), self._about.disclosed)
        names = {name: f"body.decision.{name}" for name in parts if f"body.decision.{name}" in commitments}
        values = {
            name: str(msgspec.json.decode(shown[field])) for name, field in names.items() if field in shown
        }
        self._tally.decision(kind, ruling, values, documented=self._known.documented(ruling))
        for what in contradictions(ruling, self._known, values):
            self.problem(where, what)
        return ["body.decision", *names.values(), "type"]

    def _open(self, where: str, leaf: bytes, disclosures: tuple[Disclosure, ...]) -> Mapping[str, str]:
        commitments = read_commitments(leaf)
        if commitments is None:
            self.problem(where, "not an entry")
            return {}
        for one in disclosures:
            if one.commitment() != commitments.get(one.field, ""):
                self.problem(where, f"{one.field} is not what the entry commits to")
        return commitments

    def _compare(self) -> None:
        """Compare every part of the certificate that follows from the entries."""
        certificate, end = self._certificate, self._end
        first = self._first.root if self._first else EMPTY_ROOT
        expected: dict[str, Any] = {
            "format": FORMAT,
            "flag": self._about.flag,
            "unit": self._about.unit,
            "disclosed": list(self._about.disclosed),
            "log": end.origin if end else "",
            "from": {"size": self._start, "root": encode_base64(first)},
            "to": {"size": end.size, "root": encode_base64(end.root)} if end else {},
            "documents": stated_documents(self._documents, self._evidence),
            "versions": versions_of(self._about.flag, self._documents),
            "counted": self._tally.counted(),
        }
        for name, value in expected.items():
            for where, what in differences(name, certificate.get(name), value):
                self.problem(f"certificate: {where}", what)
        extra = certificate.keys() - expected.keys() - {"stated", "findings"}
        if extra:
            self.problem("certificate", f"it has a part that nobody knows: {min(extra)}")
        try:
            due = findings(certificate)
        except (KeyError, TypeError, AttributeError):
            self.problem("certificate: stated", "a statement is missing, or is none")
            return
        if certificate.get("findings") != due:
            self.problem("certificate: findings", f"they have to be: {', '.join(due) or 'none'}")

    def _check_note(self) -> None:
        try:
            note = parse_certificate_note(self._note)
        except LedgerError as error:
            self.problem("note", str(error))
            return
        if note.digest != certificate_digest(self._certificate):
            self.problem("note", "it is the note of another certificate")
        origin = self._end.origin if self._end else ""
        keys = [key for key in self._policy.certificates if key.name == certificate_key_name(origin)]
        signed = any(verify(note, signature, key) for signature in note.signatures for key in keys)
        if note.origin != origin or not signed:
            self.problem("note", "no believed key signed the certificate; give it with --trust or --policy")


def differences(where: str, found: Any, expected: Any) -> Iterator[tuple[str, str]]:
    """Yield the places at which two JSON values differ, and how."""
    if isinstance(found, dict) and isinstance(expected, dict):
        for name in sorted(found.keys() | expected.keys()):
            yield from differences(f"{where}.{name}", found.get(name), expected.get(name))
    elif isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        for number, (one, other) in enumerate(zip(found, expected, strict=True)):
            yield from differences(f"{where}.{number}", one, other)
    elif _plain(found) != _plain(expected):
        yield where, f"it says {_short(found)}, and the entries say {_short(expected)}"


def _plain(value: Any) -> bytes:
    return canonical_json(value)


def _short(value: Any) -> str:
    text = canonical_json(value).decode()
    return text if len(text) <= 80 else f"{text[:77]}…"
