"""Manipulations of a certificate's bundle, of the log that it is made from, and of its counts; each has to be found.

A manipulation that signs again is that of an operator who holds the keys of the log and of certificates, and not those
of the witnesses.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from typing import Any

import msgspec
import rfc8785
from tests.certificates import CERTIFICATES, TENANTS, Halt
from tests.logs import ORIGIN, signer

from abeyance.assurance.certificate import sign_certificate
from abeyance.ledger.checkpoint import LogCheckpoint, parse_note
from abeyance.ledger.entry import Record, make_entry, read_opening
from abeyance.ledger.signatures import SIGN, SignerKey
from abeyance.moratorium.decide import Request, decide
from abeyance.moratorium.presets import new_deployment


class Lines:
    """The lines of a bundle, to be changed."""

    def __init__(self, bundle: bytes) -> None:
        self.lines = [line.partition(" ")[::2] for line in gzip.decompress(bundle).decode().split("\n")[1:-1]]

    def bundle(self) -> bytes:
        """Return the bundle."""
        text = "".join(f"{name} {value}\n" for name, value in self.lines)
        return gzip.compress(f"abeyance-bundle-1\n{text}".encode(), mtime=0)

    def at(self, name: str, number: int = 0) -> int:
        """Return the position of a line of this name."""
        return [at for at, (one, _) in enumerate(self.lines) if one == name][number]

    def read(self, name: str, number: int = 0) -> Any:
        """Return the value of a line."""
        return json.loads(self.lines[self.at(name, number)][1])

    def write(self, name: str, value: Any, number: int = 0) -> None:
        """Replace the value of a line."""
        self.lines[self.at(name, number)] = (name, rfc8785.dumps(value).decode())

    def drop(self, name: str, number: int = 0) -> None:
        """Leave a line out."""
        del self.lines[self.at(name, number)]

    def find_entry(self, clause: str) -> int:
        """Return the number of an entry whose decision rests on this clause."""
        return next(
            number
            for number, (_, value) in enumerate(one for one in self.lines if one[0] == "entry")
            if f'"clause":"{clause}","digest"' in value
        )

    def sign(self, key: SignerKey = CERTIFICATES) -> None:
        """Sign the certificate again, its findings as they have to be."""
        certificate = self.read("certificate")
        note = sign_certificate(certificate, key.verifier(SIGN), key.sign_bytes)
        self.write("note", str(note))

    def change(self, change: Callable[[dict[str, Any]], Any]) -> None:
        """Change the certificate and sign it again."""
        certificate = self.read("certificate")
        change(certificate)
        self.write("certificate", certificate)
        self.sign()


Manipulation = Callable[[Lines], None]


def lower_count(lines: Lines) -> None:
    lines.change(lambda one: one["counted"]["by"][0].update(count=1))


def hide_exemptions(lines: Lines) -> None:
    lines.change(lambda one: one["counted"].update(exempt_purposes={}))


def rename_exemption(lines: Lines) -> None:
    lines.change(lambda one: one["counted"]["by"][-1].update(part="restricts"))


def leave_entry_out(lines: Lines) -> None:
    number = lines.find_entry("exempted")
    lines.drop("entry", number)

    def lower(one: dict[str, Any]) -> None:
        one["counted"]["entries"] -= 1

    lines.change(lower)


def add_entry(lines: Lines) -> None:
    lines.lines.insert(lines.at("entry"), lines.lines[lines.at("entry", 3)])


def swap_entries(lines: Lines) -> None:
    one, other = lines.at("entry", 5), lines.at("entry", 6)
    lines.lines[one], lines.lines[other] = lines.lines[other], lines.lines[one]


def change_outcome(lines: Lines) -> None:
    number = lines.find_entry("halted")
    leaf, shown = lines.read("entry", number)
    shown[0][2]["outcome"] = "permit"
    lines.write("entry", [leaf, shown], number)


def forge_entry(lines: Lines) -> None:
    number = lines.find_entry("halted")
    _, shown = lines.read("entry", number)
    made = make_entry(
        Record("x", "Upload Halted", "2026-06-01T00:00:00Z", {"decision": shown[0][2]}), bytes(16)
    )
    opened = read_opening(made.opening)
    forged = [opened.disclose(name) for name in ("body.decision", "type")]
    value = [[one.salt, one.field, json.loads(one.value)] for one in forged]
    lines.write("entry", [json.loads(made.leaf), value], number)


def withhold_decision(lines: Lines) -> None:
    number = lines.find_entry("halted")
    leaf, shown = lines.read("entry", number)
    lines.write("entry", [leaf, shown[1:]], number)


def withhold_type(lines: Lines) -> None:
    leaf, shown = lines.read("entry", 7)
    lines.write("entry", [leaf, shown[:-1]], 7)


def withhold_purpose(lines: Lines) -> None:
    number = lines.find_entry("exempted")
    leaf, shown = lines.read("entry", number)
    lines.write("entry", [leaf, [shown[0], shown[2]]], number)


def change_salt(lines: Lines) -> None:
    leaf, shown = lines.read("entry", 2)
    shown[-1][0] = "AAAAAAAAAAAAAAAAAAAAAA=="
    lines.write("entry", [leaf, shown], 2)


def replace_checkpoint(lines: Lines) -> None:
    """Sign another tree, which no witness has seen."""
    note = parse_note(lines.read("to"))
    other = LogCheckpoint(note.origin, note.size, bytes(32))
    lines.write("to", str(other.signed(signer(ORIGIN, 1).sign(other))))


def drop_witnesses(lines: Lines) -> None:
    note = parse_note(lines.read("to"))
    lines.write("to", str(msgspec.structs.replace(note, signatures=note.signatures[:1])))


def sign_by_stranger(lines: Lines) -> None:
    note = parse_note(lines.read("from"))
    other = LogCheckpoint(note.origin, note.size, note.root)
    lines.write("from", str(other.signed(signer(ORIGIN, 77).sign(other))))


def begin_later(lines: Lines) -> None:
    """Leave the first entries out, and begin at a checkpoint that the log's key signed for that."""
    note = parse_note(lines.read("from"))
    later = LogCheckpoint(note.origin, note.size + 1, note.root)
    lines.write("from", str(later.signed(signer(ORIGIN, 1).sign(later))))
    lines.drop("entry")


def change_nodes(lines: Lines) -> None:
    nodes = lines.read("nodes")
    lines.write("nodes", [nodes[1], nodes[0], *nodes[2:]])


def soften_document(lines: Lines) -> None:
    document = lines.read("document")
    document["text"] = document["text"].replace('"icmec"', '"icmec","springfield-police"')
    lines.write("document", document)


def soften_statement(lines: Lines) -> None:
    document = lines.read("document")
    document["statements"][0][1] = document["statements"][0][1].replace('"icmec"', '"springfield-police"')
    lines.write("document", document)


def drop_document_entry(lines: Lines) -> None:
    lines.drop("evidence", 0)


def drop_agreement(lines: Lines) -> None:
    lines.drop("evidence", 1)


def move_agreement(lines: Lines) -> None:
    evidence = lines.read("evidence", 1)
    evidence["index"] += 1
    lines.write("evidence", evidence, 1)


def change_people(lines: Lines) -> None:
    evidence = lines.read("evidence", 1)
    for shown in evidence["disclosures"]:
        shown[2] = 3 if shown[1] == "body.people" else shown[2]
    lines.write("evidence", evidence, 1)


def hide_finding(lines: Lines) -> None:
    lines.change(
        lambda one: one["stated"]["replay"].update(different=1, same=one["stated"]["replay"]["same"] - 1)
    )


def change_statement(lines: Lines) -> None:
    """Change what the operator said, without the operator's key."""
    certificate = lines.read("certificate")
    certificate["stated"]["repeated"] = 7
    lines.write("certificate", certificate)


def sign_certificate_by_stranger(lines: Lines) -> None:
    lines.sign(signer(CERTIFICATES.name, 78))


def sign_certificate_by_log(lines: Lines) -> None:
    """Sign with the log's own key, which is not that of certificates."""
    lines.sign(signer(ORIGIN, 1))


def spell_otherwise(lines: Lines) -> None:
    at = lines.at("entry", 4)
    lines.lines[at] = ("entry", lines.lines[at][1].replace(",", ", ", 1))


def repeat_certificate(lines: Lines) -> None:
    lines.lines.append(lines.lines[lines.at("certificate")])


def cut_off(lines: Lines) -> None:
    lines.drop("note")


#: Manipulation, the place that has to be named, and a part of the words.
OF_BUNDLE: dict[str, tuple[Manipulation, str, str]] = {
    one.__name__: (one, where, what)
    for one, where, what in (
        (lower_count, "certificate: counted.by.0.count", "it says 1"),
        (hide_exemptions, "certificate: counted.exempt_purposes.missing_children", "entries say"),
        (rename_exemption, "certificate: counted.by.3.part", "exempts"),
        (leave_entry_out, "entries", "left out"),
        (add_entry, "entries", "added"),
        (swap_entries, "entries", "moved"),
        (change_outcome, "entry", "body.decision is not what the entry commits to"),
        (forge_entry, "entries", "changed"),
        (withhold_decision, "entry", "the certificate needs body.decision"),
        (withhold_type, "entry", "its type is not shown"),
        (withhold_purpose, "entry", "body.decision.purpose"),
        (change_salt, "entry", "type is not what the entry commits to"),
        (replace_checkpoint, "to", "not witnessed"),
        (drop_witnesses, "to", "not witnessed"),
        (sign_by_stranger, "from", "no believed key of the log"),
        (begin_later, "line", "compact range"),
        (change_nodes, "nodes", "first checkpoint"),
        (soften_document, "document", "does not say"),
        (soften_statement, "document", "does not say"),
        (drop_document_entry, "document", "no entry of the log names it"),
        (drop_agreement, "certificate: documents.0.agreed", "approved"),
        (move_agreement, "evidence", "not shown to be on the log"),
        (change_people, "evidence", "body.people is not what the entry commits to"),
        (hide_finding, "certificate: findings", "differs"),
        (change_statement, "note", "another certificate"),
        (sign_certificate_by_stranger, "note", "no believed key"),
        (sign_certificate_by_log, "note", "no believed key"),
        (spell_otherwise, "line", "one form"),
        (repeat_certificate, "line", "certificate does not belong here"),
        (cut_off, "line", "cut off"),
    )
}


def _recorded(halt: Halt, tenant: str, change: Callable[[dict[str, Any]], Any]) -> None:
    """Put a decision on the log that is not what was decided."""
    registered = TENANTS[tenant]
    request = Request(
        tenant=registered, tenant_id=registered.id, action="search", purpose=registered.purposes[0]
    )
    decision = msgspec.to_builtins(decide(request, halt.flags, halt.at))
    change(decision)
    body = {"tenant": registered.id, "decision": decision}
    halt.append(Record(f"false:{halt.log.edge.size}", "Upload Permitted", halt.at.isoformat(), body))


def permit_what_is_halted(halt: Halt) -> None:
    _recorded(halt, "police", lambda one: one.update(outcome="permit"))


def permit_as_unbound(halt: Halt) -> None:
    """Permit what a flag halts, and say that no flag does."""
    _recorded(halt, "police", lambda one: one.update(outcome="permit", clause="permitted"))


def exempt_another_purpose(halt: Halt) -> None:
    _recorded(halt, "missing", lambda one: one.update(purpose="criminal_investigation"))


def exempt_without_authorization(halt: Halt) -> None:
    document = new_deployment()
    document["values"]["police_halt"]["authorization_required"] = True
    halt.flags = halt.document(document, 2)

    def permit(one: dict[str, Any]) -> None:
        assert one["clause"] == "authorization_required"
        one.update(outcome="permit", clause="exempted")
        one["flags"][0].update(clause="exempts")

    _recorded(halt, "missing", permit)


def pretend_an_audit(halt: Halt) -> None:
    def permit(one: dict[str, Any]) -> None:
        one.update(outcome="permit", clause="audited")
        one["flags"][0].update(clause="audited")

    _recorded(halt, "police", permit)


def name_another_version(halt: Halt) -> None:
    _recorded(halt, "missing", lambda one: one["flags"][0].update(version="0" * 12))


def decide_before_the_start(halt: Halt) -> None:
    _recorded(halt, "police", lambda one: one.update(as_of="2019-01-01T00:00:00Z"))


#: Manipulation of the log before it is signed and witnessed, and what has to be said of the entry.
OF_LOG: dict[str, tuple[Callable[[Halt], None], str]] = {
    one.__name__: (one, what)
    for one, what in (
        (permit_what_is_halted, "a flag halts the request, and it was permitted"),
        (permit_as_unbound, "the clause says permitted, and a flag has a part"),
        (exempt_another_purpose, "it does not exempt this purpose"),
        (exempt_without_authorization, "the exemption needs an authorisation"),
        (pretend_an_audit, "it is bound to no audit"),
        (name_another_version, "is not in the document that decided"),
        (decide_before_the_start, "it is not in force at that moment"),
    )
}
