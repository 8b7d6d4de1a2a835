"""``abeyance moratoria`` and ``abeyance tenants`` as people type them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest
import typer
from tests.logs import Log
from tests.office import client_of
from typer.testing import CliRunner

from abeyance.cli import _context, moratoria, people, tenants
from abeyance.deployment.flags import build_flags
from abeyance.deployment.settings import FlagsSettings
from abeyance.ledger.documents import DOCUMENT
from abeyance.ledger.entry import Record, make_entry
from abeyance.ledger.objects import DirectoryObjects
from abeyance.moratorium.presets import document as of_presets
from abeyance.moratorium.presets import new_deployment

from .conftest import hosted, value

app = typer.Typer()
app.add_typer(moratoria.app, name="moratoria")
app.add_typer(tenants.app, name="tenants")
app.add_typer(people.app, name="people")


@pytest.fixture
def flags(tmp_path: Path, dynamodb: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "flags.json"
    path.write_text(json.dumps(new_deployment()))
    monkeypatch.setenv("ABEYANCE_FLAGS", f"file:{path}")
    boto3.client("sqs").create_queue(QueueName="abeyance-ledger")
    boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="abeyance-ledger")
    people = {f"officer-{name}": name for name in ("one", "two", "five")}
    settings = FlagsSettings.of(
        flags=f"file:{path}", sign_in="made-up:key", first_principals=json.dumps(people)
    )
    function = build_flags(settings, boto3.client)
    # The gateway on one machine takes the access key id for the caller.
    monkeypatch.setattr(_context, "changes", lambda: client_of(_who(), function))
    return path


def _who() -> str:
    return str(boto3.Session().get_credentials().access_key)


def agree(monkeypatch: pytest.MonkeyPatch, proposal: dict[str, Any]) -> dict[str, Any]:
    """Approve as the other officer."""
    with monkeypatch.context() as other:
        other.setenv("AWS_ACCESS_KEY_ID", "officer-two")
        return run("moratoria", "approve", proposal["id"], "--digest", proposal["digest"])


def run(*arguments: str, code: int = 0) -> Any:
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == code, result.output + repr(result.exception)
    return json.loads(result.stdout) if result.stdout else None


def says(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, [*arguments])
    assert result.exit_code == code, result.output + repr(result.exception)
    return " ".join(result.output.split())


def write(path: Path, document: dict[str, Any]) -> str:
    path.write_text(json.dumps(document))
    return str(path)


POLICE = (
    *("tenants", "add", "springfield-police", "--sector", "law_enforcement", "--place", "US-IL"),
    *("--action", "all", "--purpose", "investigation", "--purpose", "missing_children"),
)


def test_tenants(flags: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proposed = run(*POLICE)
    added = proposed["change"]["tenant"]
    assert added["principals"] == ["springfield-police"]
    assert "template_export" not in added["actions"]
    assert run("tenants", "list") == []
    assert agree(monkeypatch, proposed)["state"] == "applied"
    says(*POLICE, code=1)
    wrong = ("--sector", "police", "--place", "US", "--action", "all", "--purpose", "p")
    run("tenants", "add", "x", *wrong, code=2)
    assert [tenant["id"] for tenant in run("tenants", "list")] == ["springfield-police"]
    assert run("tenants", "suspend", "springfield-police")["state"] == "applied"
    asked = run("moratoria", "explain", "--tenant", "springfield-police", "--at", "2019-01-01", code=1)
    assert asked["decision"]["clause"] == "suspended_tenant"
    assert agree(monkeypatch, run("tenants", "resume", "springfield-police"))["state"] == "applied"
    change = run("tenants", "change", "springfield-police", "--sector", "commercial")
    assert (change["state"], change["change"]["tenant"]["sector"]) == ("proposed", "commercial")
    run("tenants", "suspend", "nobody", code=1)
    assert "springfield-police" in says("tenants", "list")


def test_people(flags: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("people", "list") == {f"officer-{name}": name for name in ("one", "two", "five")}
    assert agree(monkeypatch, run("people", "link", "officer-three", "three"))["state"] == "applied"
    assert "three" in says("people", "list")
    assert run("people", "unlink", "officer-three")["state"] == "applied"


def test_the_brake(flags: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    halted = run("moratoria", "halt", "all_search", "--action", "search", "--reason", "A court says so.")
    assert halted["state"] == "applied"
    asked = ("moratoria", "explain", "--sector", "commercial", "--place", "DE")
    assert "A court says so." in says(*asked, code=1)
    run("moratoria", "halt", "all_search", "--reason", "Twice.", code=2)
    released = run("moratoria", "release", "all_search")
    assert released["state"] == "proposed"
    run(*asked, code=1)
    agree(monkeypatch, released)
    assert run(*asked)["permitted"] is True
    run("moratoria", "release", "all_search", code=2)


def test_explain_answers_in_words_and_by_exit_code(flags: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agree(monkeypatch, run(*POLICE))
    asked = ("moratoria", "explain", "--tenant", "springfield-police", "--purpose", "investigation")
    denied = says(*asked, code=1)
    assert "springfield-police (law enforcement, US-IL) may not search for investigation" in denied
    assert "police_halt halts it" in denied
    assert "It does not end by itself" in denied
    assert run(*asked, "--at", "2020-06-09")["permitted"] is True
    assert run(*asked, "--at", "2020-06-10", code=1)["decision"]["clause"] == "halted"
    assert run(*asked, "--purpose", "fun", code=1)["decision"]["clause"] == "purpose_not_registered"
    assert run("moratoria", "explain", "--tenant", "nobody", code=1)["decision"]["clause"] == "unknown_tenant"


def test_explain_needs_no_tenant_for_a_what_if(flags: Path, tmp_path: Path) -> None:
    draft = write(tmp_path / "draft.json", of_presets(["portland-2020"]))
    asked = ("moratoria", "explain", "--sector", "public_accommodation", "--document", draft, "--at")
    assert run(*asked, "2020-12-31", "--place", "US-OR-PORTLAND")["permitted"] is True
    assert run(*asked, "2021-01-01", "--place", "US-OR-PORTLAND", code=1)["permitted"] is False
    assert run(*asked, "2021-01-01", "--place", "US-ME-PORTLAND")["permitted"] is True
    run("moratoria", "explain", "--sector", "commercial", code=2)
    run(*asked, "tomorrow", "--place", "US", code=2)
    run(*asked, "2021-01-01", "--place", "XX", code=2)


def test_list_timeline_upcoming_and_presets(flags: Path, tmp_path: Path) -> None:
    listed = run("moratoria", "list", "--at", "2026-01-01")
    assert [(flag["key"], flag["state"]) for flag in listed["flags"]] == [("police_halt", "in force")]
    assert "police_halt" in says("moratoria", "list")
    picture = tmp_path / "timeline.svg"
    everything = [preset["id"] for preset in run("moratoria", "presets")]
    draft = tmp_path / "all.json"
    draft.write_text(CliRunner().invoke(app, ["moratoria", "presets", *everything]).stdout)
    drawn = run("moratoria", "timeline", "--document", str(draft), "--svg", str(picture))
    assert {span["flag"] for span in drawn["spans"]} == set(json.loads(draft.read_text())["values"])
    assert picture.read_text().startswith("<svg")
    assert "█" in says("moratoria", "timeline", "--document", str(draft))
    found = run("moratoria", "upcoming", "--document", str(draft), "--at", "2021-06-01", "--days", "30")
    assert [entry["type"] for entry in found] == [
        "Moratorium Ending",
        "Moratorium Ending",
        "Moratorium Ended",
    ]
    assert "amazon-police-2020" in says("moratoria", "presets")
    run("moratoria", "presets", "none", code=2)


@pytest.mark.parametrize(
    "at", ["0001-01-01", "1969-12-31T23:59:59+14:00", "2026-06-10", "9999-12-31T23:59:59Z"]
)
def test_the_ends_of_the_calendar(flags: Path, tmp_path: Path, at: str) -> None:
    edges = write(
        tmp_path / "edges.json",
        hosted(
            first=value(starts="0001-01-01T00:00:00Z"),
            last=value(starts="9999-12-31T23:59:58Z", ends="9999-12-31T23:59:59Z"),
            whole=value(starts="0001-01-01T00:00:00Z", ends="9999-12-31T23:59:59Z"),
        ),
    )
    where = ("--document", edges, "--at", at)
    assert {row["key"] for row in run("moratoria", "list", *where)["flags"]} == {"first", "last", "whole"}
    asked = run("moratoria", "explain", "--sector", "commercial", "--place", "US-WA", *where, code=1)
    assert "halts it" in " ".join(asked["words"])
    assert says("moratoria", "timeline", *where).count("█") > 40
    run("moratoria", "timeline", "--svg", str(tmp_path / "t.svg"), *where)
    found = run("moratoria", "upcoming", "--days", "3660", *where)
    assert all(entry["flag"] in ("last", "whole") for entry in found)


@pytest.mark.parametrize(
    "at", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2016-12-31T23:59:60Z"]
)
def test_a_moment_outside_the_calendar_is_a_usage_error(flags: Path, at: str) -> None:
    assert "write a date as" in says("moratoria", "list", "--at", at, code=2)


def test_check_says_what_is_wrong_and_what_loosens(flags: Path, tmp_path: Path) -> None:
    fine = write(tmp_path / "fine.json", of_presets(["police-halt", "ibm-2020"]))
    assert run("moratoria", "check", fine)["change"]["kind"] == "tightening"
    looser = write(tmp_path / "looser.json", hosted())
    assert run("moratoria", "check", looser)["change"]["kind"] == "loosening"
    wrong = write(tmp_path / "wrong.json", hosted(a=value(ends="2019-01-01T00:00:00Z")))
    assert "later than starts" in run("moratoria", "check", wrong, code=1)["findings"][0]["message"]
    assert "loosening" in says("moratoria", "check", looser)
    run("moratoria", "check", str(tmp_path / "none.json"), code=2)


def test_three_people_set_guardrails(flags: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = "deny law_enforcement search in US unless missing_children, human_trafficking"
    rails = {"version": "1", "guardrails": {"police": {"claim": claim, "reason": "R.", "source": "S"}}}
    rails["guardrails"]["later"] = {**rails["guardrails"]["police"], "starts": "2090-01-01T00:00:00Z"}
    document = write(tmp_path / "rails.json", rails)
    assert run("moratoria", "guardrails", "list")["guardrails"] == []
    assert "2 other people" in says("moratoria", "guardrails", "propose", document, "--note", "as ordered")
    (proposal,) = run("moratoria", "proposals")
    approve = ("moratoria", "guardrails", "approve", proposal["id"])
    assert "their own" in says(*approve, "--document", document, code=1)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "officer-two")
    assert "waits for another person" in says(*approve, "--digest", proposal["digest"])
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "officer-five")
    assert run(*approve, "--document", document)["state"] == "applied"
    found = run("moratoria", "guardrails", "list")
    assert [(one["key"], one["starts"], one["holds"]) for one in found["guardrails"]] == [
        ("later", "2090-01-01T00:00:00Z", True),
        ("police", "", True),
    ]
    assert claim.split()[1] in says("moratoria", "guardrails", "list")
    looser = write(tmp_path / "looser.json", hosted())
    assert "breaks the guardrail police" in says("moratoria", "propose", looser, code=1)
    bad = write(tmp_path / "bad.json", {"version": "1"})
    assert "cannot be read" in says("moratoria", "guardrails", "propose", bad, code=1)


def test_two_people_loosen_and_the_ledger_hears_of_it(
    flags: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tighter = of_presets(["police-halt", "ibm-2020"])
    done = run("moratoria", "propose", write(tmp_path / "tighter.json", tighter), "--note", "as ordered")
    assert (done["state"], done["kind"], done["result"]["version"]) == ("applied", "tightening", "1")
    assert json.loads(flags.read_text()) == tighter

    looser = write(tmp_path / "looser.json", hosted())
    proposal = run("moratoria", "propose", looser)
    assert (proposal["state"], proposal["kind"]) == ("proposed", "loosening")
    assert proposal["proposer"] == {"principal": "officer-one", "person": "one"}
    approve = ("moratoria", "approve", proposal["id"])
    assert "their own" in says(*approve, "--document", looser, code=1)
    run(*approve, code=2)
    assert run("moratoria", "show", proposal["id"])["digest"] == proposal["digest"]
    assert run("moratoria", "check", looser)["digest"] == proposal["digest"]

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "officer-two")
    run(*approve, "--digest", "0" * 64, code=1)
    done = run(*approve, "--document", looser)
    assert (done["state"], done["approvers"][0]["person"]) == ("applied", "two")
    assert json.loads(flags.read_text()) == hosted()
    assert [entry["state"] for entry in run("moratoria", "proposals")] == ["applied"]
    says("moratoria", "retry", proposal["id"], code=1)

    second = run("moratoria", "propose", write(tmp_path / "again.json", tighter), "--wait")
    assert run("moratoria", "withdraw", second["id"])["state"] == "withdrawn"

    sqs = boto3.client("sqs")
    url = sqs.get_queue_url(QueueName="abeyance-ledger")["QueueUrl"]
    heard = []
    while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        for message in messages:
            heard.append(json.loads(message["Body"])["type"])
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    heard = [kind for kind in heard if kind != DOCUMENT]
    assert [kind.removeprefix("moratorium.") for kind in heard] == [
        *("adopted", "tightened", "proposed", "refused", "refused", "approved", "applied"),
        *("refused", "proposed", "withdrawn"),
    ]


PROMISE = "deny law_enforcement search in US unless missing_children, human_trafficking"


def test_prove_says_whether_a_claim_holds(flags: Path, tmp_path: Path) -> None:
    proof = run("moratoria", "prove", PROMISE)
    assert (proof["holds"], proof["counterexample"], proof["claim"]) == (True, None, PROMISE)
    assert says("moratoria", "prove", PROMISE, "--from", "2026-01-01").startswith(
        "Holds, from 2026-01-01 on: deny"
    )
    earlier = run("moratoria", "prove", PROMISE, "--from", "2020-06-09", code=1)["counterexample"]
    assert (earlier["since"], earlier["until"]) == ("2020-06-09T00:00:00Z", "2020-06-10T00:00:00Z")
    assert run("moratoria", "prove", PROMISE, "--from", "2020-06-10", "--to", "2030-01-01")["holds"]
    said = says("moratoria", "prove", "deny law_enforcement search in US", code=1)
    assert (
        "icmec or marinus-analytics or thorn of the sector law enforcement, registered in US, may search"
        in said
    )
    none = write(tmp_path / "none.json", hosted())
    assert not run("moratoria", "prove", PROMISE, "--flags", none, code=1)["holds"]
    for text in ("deny police search in US", "", "deny law_enforcement search in USA"):
        run("moratoria", "prove", text, code=2)
    run("moratoria", "prove", PROMISE, "--from", "2030-01-01", "--to", "2020-01-01", code=2)


def test_questions_about_every_possible_decision(flags: Path, tmp_path: Path) -> None:
    (region,) = run("moratoria", "who", "law_enforcement search in US")
    assert region["region"]["tenants"] == {"only": ["icmec", "marinus-analytics", "thorn"]}
    assert "Permitted:" in says("moratoria", "who", "commercial search in US")
    assert says("moratoria", "who", "law_enforcement search in US by acme", code=1) == "Nobody."
    ending = write(tmp_path / "ending.json", hosted(a=value(ends="2027-01-01T00:00:00Z", on_expiry="lift")))
    assert "Newly permitted: everything by every sector anywhere" in says(
        "moratoria", "changes", "2027-01-01", "--flags", ending
    )
    assert "Nothing changes" in says("moratoria", "changes", "2027-01-02", "--flags", ending)
    none = write(tmp_path / "none.json", hosted())
    kinds = {row["region"]["kind"] for row in run("moratoria", "difference", none)}
    assert kinds == {"newly_permitted"}
    assert run("moratoria", "difference", none, "--against", none) == []


def test_check_holds_guardrails_against_a_document(flags: Path, tmp_path: Path) -> None:
    rail = {"claim": PROMISE, "reason": "Promised.", "source": "Council"}
    rails = write(tmp_path / "rails.json", {"version": "1", "guardrails": {"promise": rail}})
    fine = write(tmp_path / "fine.json", new_deployment())
    assert run("moratoria", "check", fine, "--guardrails", rails)["findings"] == []
    lifted = write(tmp_path / "none.json", hosted())
    (finding,) = run("moratoria", "check", lifted, "--guardrails", rails, code=1)["findings"]
    assert finding["message"].startswith("this breaks the guardrail promise")
    broken = write(tmp_path / "broken.json", {"version": "1", "guardrails": {"promise": {}}})
    run("moratoria", "check", fine, "--guardrails", broken, code=2)


def test_simulate_reads_an_export(flags: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agree(monkeypatch, run(*POLICE))
    asked = ("moratoria", "explain", "--tenant", "springfield-police", "--purpose", "investigation", "--at")
    log = Log(DirectoryObjects(tmp_path / "log"))
    for number, (day, code) in enumerate((("2020-06-09", 0), ("2020-06-10", 1))):
        body = run(*asked, day, code=code)["decision"]
        record = Record(f"d{number}", "decision", f"{day}T00:00:00Z", {"decision": body})
        log.append([make_entry(record, bytes(16))])
    log.checkpoint()
    export = tmp_path / "log"
    earlier = write(tmp_path / "draft.json", of_presets(["ibm-2020"]))
    result = run("moratoria", "simulate", str(export), "--draft", earlier)
    assert result["counts"]["newly_denied"] == 1
    assert result["simulation"]["replayed"] == 2
    none = write(tmp_path / "none.json", hosted())
    assert run("moratoria", "simulate", str(export), "--draft", none)["counts"]["newly_permitted"] == 1
    assert "1 newly denied" in says("moratoria", "simulate", str(export), "--draft", earlier)
    broken = tmp_path / "broken.zip"
    broken.write_text("{")
    run("moratoria", "simulate", str(broken), "--draft", none, code=2)


def test_no_flags_is_not_an_answer(flags: Path) -> None:
    flags.unlink()
    run("moratoria", "list", code=3)
    run("moratoria", "explain", "--sector", "commercial", "--place", "DE", code=3)


def test_who_is_asking(aws: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _context.principal().startswith("arn:aws:sts::")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert _context.principal() == "officer-one"


@pytest.mark.parametrize(
    ("setting", "code", "words"),
    [
        (None, 3, "there is no file flags.json; set ABEYANCE_FLAGS to file:<path> or appconfig:"),
        ("file:/none/flags.json", 3, "there is no file /none/flags.json; set ABEYANCE_FLAGS to file:<path>"),
        ("flags.json", 2, "ABEYANCE_FLAGS names no flags; set ABEYANCE_FLAGS to file:<path>"),
    ],
)
def test_without_flags_it_names_the_setting_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str | None, code: int, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ABEYANCE_FLAGS", raising=False)
    if setting is not None:
        monkeypatch.setenv("ABEYANCE_FLAGS", setting)
    result = CliRunner().invoke(app, ["moratoria", "list"])
    assert (result.exit_code, result.output.count("\n")) == (code, 1)
    assert words in result.output


def test_without_credentials_it_names_the_variables(tmp_path: Path) -> None:
    environment = {
        name: text for name, text in os.environ.items() if not name.startswith(("AWS_", "ABEYANCE_"))
    }
    ended = subprocess.run(
        [sys.executable, "-m", "abeyance", "ledger", "verify"],
        env={
            **environment,
            "HOME": str(tmp_path),
            "ABEYANCE_CHANGES_URL": "https://x.example",
            "AWS_EC2_METADATA_DISABLED": "true",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr.startswith("error: no AWS credentials are set: set AWS_ACCESS_KEY_ID")
    assert ended.stderr.count("\n") == 1
