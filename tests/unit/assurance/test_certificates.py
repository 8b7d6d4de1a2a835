"""Certificates: what they say, what they show, and that every manipulation of them is found."""

from __future__ import annotations

import gzip
import io
import json
import random
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.certificates import BEGUN, FLAG, TENANTS, Halt
from tests.manipulations import OF_BUNDLE, OF_LOG, Lines

from abeyance.assurance.certificate import (
    DISCLOSABLE,
    PARTS,
    REQUESTS,
    Tally,
    findings,
    moment_key,
    parse_certificate_note,
)
from abeyance.assurance.certifier import Certified
from abeyance.assurance.checking import ORDER, CertificateReport, check_bundle
from abeyance.assurance.evidence import PEOPLE_FIELDS
from abeyance.assurance.files import CertificateFile
from abeyance.assurance.pages import certificate_page
from abeyance.assurance.period import size_after, size_before
from abeyance.ledger.checkpoint import LogCheckpoint, parse_note
from abeyance.ledger.entry import Record
from abeyance.ledger.errors import LedgerCorrupt
from abeyance.ledger.note import NoteError
from abeyance.ledger.policy import Policy
from abeyance.moratorium.audits import AuditFacts, AuditRates, AuditUse
from abeyance.moratorium.authorization import AuthorizationUse
from abeyance.moratorium.decide import Request, decide
from abeyance.moratorium.document import parse
from abeyance.moratorium.model import Part
from abeyance.moratorium.presets import new_deployment
from abeyance.moratorium.vocabulary import INVOLVES
from benchmarks import certificates as bench


@pytest.fixture(scope="module")
def halt() -> Halt:
    return Halt()


@pytest.fixture(scope="module")
def period(halt: Halt) -> tuple[LogCheckpoint, LogCheckpoint]:
    first, last = halt.grow(70), halt.grow(300)
    halt.grow(10)
    return first, last


@pytest.fixture(scope="module")
def certified(halt: Halt, period: tuple[LogCheckpoint, LogCheckpoint]) -> tuple[Certified, bytes]:
    return halt.certify(*period)


def checked(halt: Halt, bundle: bytes, folder: Path, certificate: Any = None) -> CertificateReport:
    path = folder / "halt.bundle"
    path.write_bytes(bundle)
    return check_bundle(path, halt.policy(), certificate)


def test_a_certificate_says_what_happened_and_verifies(
    halt: Halt, certified: tuple[Certified, bytes], tmp_path: Path
) -> None:
    made, bundle = certified
    report = checked(halt, bundle, tmp_path, made.certificate)
    assert report.problems == ()
    assert (report.ok, report.findings, report.entries) == (True, (), 300)
    assert report.certificate == json.loads(json.dumps(made.certificate))
    assert report.witnessed_by == ("w0.example", "w1.example")
    counted = made.certificate["counted"]
    assert counted["types"] == {"Upload Halted": 120, "Upload Permitted": 120, "Upload Rejected": 60}
    assert (counted["decisions"], counted["bound"], counted["requests"]) == (240, 180, 180)
    assert sum(one["count"] for one in counted["by"] if one["outcome"] == "deny") == 120
    assert counted["exempt_purposes"] == {"missing_children": 60}
    assert made.certificate["stated"]["replay"]["same"] == 240
    (document,) = made.certificate["documents"]
    assert (document["agreed"], document["people"]) == ("approved", 2)


def test_a_bundle_names_no_tenant_no_photo_and_no_person(certified: tuple[Certified, bytes]) -> None:
    text = gzip.decompress(certified[1]).decode()
    entries = "\n".join(line for line in text.split("\n") if not line.startswith("document "))
    for name in (
        "springfield",
        "acme",
        "icmec",
        "clara",
        "david",
        "US-OR",
        "criminal_investigation",
        "access_control",
    ):
        # The flag itself names whom it exempts; that stands in the document and in the certificate.
        found = (
            entries
            if name != "icmec"
            else "\n".join(x for x in entries.split("\n") if x.startswith("entry "))
        )
        assert name not in found, name
    assert "0" * 30 not in entries.replace("0" * 64, "")


def test_an_operator_may_disclose_more_and_nothing_else_is_shown(
    halt: Halt, period: tuple[LogCheckpoint, LogCheckpoint], tmp_path: Path
) -> None:
    made, bundle = halt.certify(*period, ["tenant", "people"])
    assert checked(halt, bundle, tmp_path).ok
    assert made.certificate["counted"]["shown"]["tenant"] == {"springfield-police": 120, "icmec": 60}
    assert made.certificate["documents"][0]["by"]["proposer"]["person"] == "clara"
    assert "acme" not in gzip.decompress(bundle).decode()
    lines = Lines(bundle)
    about = lines.read("about")
    lines.write("about", {**about, "disclosed": []})
    lines.change(lambda one: one.update(disclosed=[]))
    report = checked(halt, lines.bundle(), tmp_path)
    assert "the certificate needs body.decision, type" in report.problems[0].what


def test_a_period_from_the_beginning_needs_no_first_checkpoint(
    halt: Halt, period: tuple[LogCheckpoint, LogCheckpoint], tmp_path: Path
) -> None:
    made, bundle = halt.certify(None, period[1])
    assert checked(halt, bundle, tmp_path).ok
    assert made.certificate["from"]["size"] == 0
    assert made.certificate["counted"]["types"]["moratorium.document"] == 1


@pytest.mark.parametrize("name", OF_BUNDLE)
def test_a_manipulated_bundle_fails_and_says_what_and_where(
    halt: Halt, certified: tuple[Certified, bytes], tmp_path: Path, name: str
) -> None:
    manipulate, where, what = OF_BUNDLE[name]
    lines = Lines(certified[1])
    manipulate(lines)
    report = checked(halt, lines.bundle(), tmp_path)
    assert not report.ok
    assert any(one.where.startswith(where) and what in one.what for one in report.problems), report.problems


@pytest.mark.parametrize("name", OF_LOG)
def test_a_manipulated_log_fails_and_says_what_and_where(tmp_path: Path, name: str) -> None:
    manipulate, what = OF_LOG[name]
    halt = Halt()
    halt.append(*halt.decided(20))
    manipulate(halt)
    made, bundle = halt.certify(None, halt.log.checkpoint())
    assert made.certificate["findings"]
    report = checked(halt, bundle, tmp_path)
    index = halt.log.edge.size - 1
    assert [one.where for one in report.problems if what in one.what] == [f"entry {index}"], report.problems


def test_whatever_a_bundle_holds_ends_in_a_report(
    halt: Halt, certified: tuple[Certified, bytes], tmp_path: Path
) -> None:
    chance = random.Random(7)
    odd = [
        None,
        True,
        -1,
        1e300,
        "",
        "type",
        [],
        {},
        [[]],
        {"type": {}},
        ["a", "b", "c"],
        "2026-06-01T00:00:00Z",
    ]

    def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        inner = (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        )
        return [path, *(one for key, each in inner for one in places(each, (*path, key)))]

    for _ in range(120):
        lines, name = Lines(certified[1]), chance.choice(ORDER)
        whole = [lines.read(name)]
        *path, last = chance.choice(places(whole)[1:])
        holder: Any = whole
        for key in path:
            holder = holder[key]
        before, holder[last] = holder[last], chance.choice(odd)
        lines.write(name, whole[0])
        same = type(holder[last]) is type(before) and holder[last] == before
        assert checked(halt, lines.bundle(), tmp_path).ok is same, (name, path, last)


def test_a_file_that_is_cut_off_or_is_none_fails(
    halt: Halt, certified: tuple[Certified, bytes], tmp_path: Path
) -> None:
    bundle = certified[1]
    for data in (
        bundle[: len(bundle) // 2],
        b"",
        b"abeyance-bundle-1\n",
        gzip.compress(b"else\n"),
        bundle[:-1],
    ):
        report = checked(halt, data, tmp_path)
        assert not report.ok
        assert report.problems[0].where.startswith("line ")


def test_the_bundle_of_another_certificate_fails(
    halt: Halt, certified: tuple[Certified, bytes], tmp_path: Path
) -> None:
    other = {**certified[0].certificate, "flag": "another"}
    report = checked(halt, certified[1], tmp_path, other)
    assert [one.what for one in report.problems] == ["the bundle is that of another certificate"]


def test_without_a_believed_key_nothing_is_believed(
    certified: tuple[Certified, bytes], tmp_path: Path
) -> None:
    path = tmp_path / "halt.bundle"
    path.write_bytes(certified[1])
    report = check_bundle(path, Policy())
    assert {one.where for one in report.problems} == {"from", "to", "note"}


def test_what_speaks_against_a_halt_stands_on_its_certificate(tmp_path: Path) -> None:
    halt = Halt()
    document = new_deployment()
    document["values"]["police_halt"]["exempt_until"] = "2026-06-02T00:00:00Z"
    halt.flags = parse(document)  # in use, and not on the log
    halt.append(*halt.decided(30))
    made, bundle = halt.certify(None, halt.log.checkpoint())
    assert made.certificate["findings"] == ["undocumented", "not-replayed"]
    report = checked(halt, bundle, tmp_path)
    assert (report.ok, report.findings) == (True, ("undocumented", "not-replayed"))


def test_drift_is_a_finding(halt: Halt, certified: tuple[Certified, bytes]) -> None:
    certificate = json.loads(json.dumps(certified[0].certificate))
    assert findings(certificate) == []
    certificate["counted"]["types"]["moratorium.drift"] = 1
    assert findings(certificate) == ["drift"]
    certificate["stated"]["reconciliation"] = None
    certificate["documents"][0]["agreed"] = ""
    assert findings(certificate) == ["drift", "not-agreed", "not-reconciled"]


def test_comparisons_have_to_cover_the_period(
    halt: Halt, period: tuple[LogCheckpoint, LogCheckpoint]
) -> None:
    whole = halt.reconciled()
    days = [
        msgspec.structs.replace(
            whole, since=f"2026-06-0{day}T00:00:00Z", until=f"2026-06-0{day + 1}T00:00:00Z"
        )
        for day in range(1, 9)
    ]
    last = msgspec.structs.replace(whole, since="2026-06-09T00:00:00Z")
    certifier = halt.certifier()

    def found(*runs: Any) -> Any:
        made = certifier.certify(FLAG, *period, io.BytesIO(), reconciled=runs)
        return made.certificate["stated"]["reconciliation"]

    assert found(*days, last)["whole"]
    assert not found(*days[:3], *days[4:], last)["whole"]
    assert not found(*days)["whole"]
    assert found() is None


def test_entries_of_another_checkpoint_make_no_certificate(
    halt: Halt, period: tuple[LogCheckpoint, LogCheckpoint]
) -> None:
    first, last = period
    with pytest.raises(LedgerCorrupt, match="checkpoint"):
        halt.certify(first, LogCheckpoint(last.origin, last.size, bytes(32)))
    with pytest.raises(LedgerCorrupt, match="first checkpoint"):
        halt.certify(LogCheckpoint(last.origin, first.size, bytes(32)), last)
    with pytest.raises(LedgerCorrupt, match="no entry"):
        halt.certify(last, last)


def test_dates_name_the_checkpoints_around_them(
    halt: Halt, period: tuple[LogCheckpoint, LogCheckpoint]
) -> None:
    first, last = period
    objects, size = halt.log.objects, halt.log.edge.size
    between = BEGUN + timedelta(minutes=37 * 100)
    assert size_before(objects, size, between) == first.size
    assert size_after(objects, size, between) == last.size
    assert size_before(objects, size, datetime(2020, 1, 1, tzinfo=UTC)) == 0
    assert size_after(objects, size, datetime(2030, 1, 1, tzinfo=UTC)) == size
    assert size_before(objects, size, datetime(2030, 1, 1, tzinfo=UTC)) == size


def test_a_note_is_no_checkpoint_and_has_one_form(certified: tuple[Certified, bytes]) -> None:
    text = str(certified[0].note)
    assert str(parse_certificate_note(text)) == text
    for other in (text.replace("v1", "v2"), text + "\n", text[:-1], "", text.replace("\n\n", "\n")):
        with pytest.raises(NoteError):
            parse_certificate_note(other)
    with pytest.raises(NoteError):
        parse_note(text)


def test_moments_are_compared_with_and_without_a_fraction() -> None:
    texts = [
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:00:00.000001Z",
        "2026-01-01T00:00:00.5Z",
        "2026-01-01T00:00:01Z",
    ]
    assert sorted(set(texts), key=moment_key) == texts
    assert Tally(FLAG, "day").counted()["first"] == ""


@pytest.mark.slow
def test_a_bundle_of_any_length_is_made_and_checked_in_constant_memory(tmp_path: Path) -> None:
    peak_mib = {}
    for count in (2_000, 12_000):
        folder = tmp_path / str(count)
        bench.write_log(folder / "log", count)
        for what in ("certify", "verify"):
            command = [sys.executable, "-m", "benchmarks.certificate_steps"]
            request = json.dumps({"folder": str(folder), "what": what}).encode()
            done = subprocess.run(command, input=request, capture_output=True, check=True)
            found = json.loads(done.stdout)
            assert ", 0 " in found["result"]
            peak_mib[count, what] = found["mib"]
    for what in ("certify", "verify"):
        assert peak_mib[12_000, what] < peak_mib[2_000, what] + 6


def test_searches_under_authorisations_are_counted_by_their_clause(tmp_path: Path) -> None:
    halt = Halt()
    document = new_deployment()
    document["values"]["police_halt"] |= {
        "authorization_required": True,
        "authorization_due_within_hours": 24,
    }
    halt.flags = halt.document(document, 2)
    halt.append(*halt.decided(5))
    tenant = TENANTS["missing"]
    used = AuthorizationUse(state="late", search="s1", since=halt.at.isoformat())
    request = Request(
        tenant=tenant, tenant_id=tenant.id, action="search", purpose=tenant.purposes[0], authorization=used
    )
    decision = decide(request, halt.flags, halt.at + timedelta(hours=1))
    assert decision.clause == "authorization_due"
    body = {"tenant": tenant.id, "decision": msgspec.to_builtins(decision)}
    halt.append(Record("late:1", "Upload Permitted", halt.at.isoformat(), body))
    made, bundle = halt.certify(None, halt.log.checkpoint())
    report = checked(halt, bundle, tmp_path)
    assert (report.problems, report.findings) == ((), ())
    counted = {(one["part"], one["clause"]): one["count"] for one in made.certificate["counted"]["by"]}
    assert counted[("needs_authorization", "authorization_required")] == 1
    assert counted[("exempts", "authorization_due")] == 1
    assert made.certificate["stated"]["replay"]["different"] == 0
    assert '"late"' not in gzip.decompress(bundle).decode()


def test_a_halt_that_an_audit_lifts_is_counted_as_that(tmp_path: Path) -> None:
    halt = Halt()
    lab = f"lab.example+00000000+{'A' * 44}"
    document = new_deployment()
    bounds = {"audit_max_age_days": 90, "audit_signers": [lab], "audit_similarity": 99, "audit_max_fmr": 1e-4}
    document["values"]["police_halt"] |= bounds
    halt.flags = halt.document(document, 2)
    halt.append(*halt.decided(5))  # no audit: all are halted or exempt
    rates = AuditRates(similarity=99.0, fmr=1e-5)
    measured = "2026-05-01T00:00:00Z"
    facts = AuditFacts(digest="0" * 64, model="m@1", measured=measured, signers=(lab,), rates=(rates,))
    tenant = TENANTS["police"]
    request = Request(
        tenant=tenant,
        tenant_id=tenant.id,
        action="search",
        purpose=tenant.purposes[0],
        audit=AuditUse(model="m@1", facts=facts),
    )
    decision = decide(request, halt.flags, halt.at)
    assert decision.clause == "audited"
    body = {"tenant": tenant.id, "decision": msgspec.to_builtins(decision)}
    halt.append(Record("audited:1", "Upload Permitted", halt.at.isoformat(), body))
    made, bundle = halt.certify(None, halt.log.checkpoint())
    report = checked(halt, bundle, tmp_path)
    assert (report.problems, report.findings) == ((), ())
    counted = {(one["part"], one["clause"]): one["count"] for one in made.certificate["counted"]["by"]}
    assert counted[("audited", "audited")] == 1
    page = certificate_page(
        CertificateFile(certificate=made.certificate, note=str(made.note), first=made.first, last=made.last),
        "",
        "x",
    )
    assert "unless the latest audit of the model is signed, at most 90 days old" in page


def test_the_verifier_of_the_page_knows_the_same_words() -> None:
    script = (resources.files("abeyance.assurance") / "web" / "verifier.js").read_text("utf-8")

    def words(name: str) -> set[str]:
        (found,) = re.findall(rf"const {name} = (?:new Set\()?\[(.*?)\]", script)
        return set(json.loads(f"[{found}]"))

    assert words("REQUESTS") == REQUESTS
    assert words("PARTS") == set(PARTS) == set(map(str, Part))
    assert words("DISCLOSABLE") == set(DISCLOSABLE)
    assert words("PEOPLE_FIELDS") == set(PEOPLE_FIELDS)
    (steps,) = re.findall(r"const INVOLVES = \{(.*?)\};", script, re.DOTALL)
    involved = {name: set(json.loads(f"[{found}]")) for name, found in re.findall(r"(\w+): \[(.*?)\]", steps)}
    assert involved == INVOLVES
