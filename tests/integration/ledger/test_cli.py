"""``abeyance ledger`` as an auditor uses it."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from abeyance.cli.ledger import app
from abeyance.ledger.chain import Record
from abeyance.ledger.store import LedgerStore

runner = CliRunner()

FLAGS = [{"key": "amazon-2020-police", "version": "3", "effect": "halt"}]


def run(*arguments: object, code: int = 0) -> Result:
    result = runner.invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def run_json(*arguments: object, code: int = 0) -> Any:
    return json.loads(run(*arguments, "--json", code=code).stdout)


@pytest.fixture
def filled(store: LedgerStore, s3: Any) -> LedgerStore:
    """Two days of decisions and events."""
    records = []
    for n in range(1, 11):
        body: dict[str, Any] = {
            "tenant": "portland-pd" if n % 2 else "thorn",
            "outcome": "deny" if n % 2 else "permit",
            "action": "search",
        }
        body |= {"flags": FLAGS if n % 2 else [], "reason": "[bold]Halted[/]"}
        day = 9 if n < 6 else 10
        records.append(Record(f"d-{n}", "decision", f"2020-06-{day:02d}T12:00:00Z", body))
    event = {"tenant": "thorn", "photo": "ab12", "decision": {"outcome": "permit", "flags": FLAGS}}
    records.append(Record("upload-halted:1", "Upload Halted", "2020-06-10T12:00:00Z", event))
    store.append(records)
    return store


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, Any]:
    os.umask(0o022)
    made: dict[str, Any] = run_json("keygen", "witness.example/w1", "--out", tmp_path / "witness.key")
    assert stat.S_IMODE((tmp_path / "witness.key").stat().st_mode) == 0o600
    return made


def test_an_empty_ledger_says_so(store: LedgerStore, s3: Any) -> None:
    for command in (["verify"], ["export"], ["prove", "1"], ["checkpoint"]):
        assert "nothing was ever recorded" in run(*command, code=3).stderr
    assert run_json("show") == {"entries": []}


def test_without_a_ledger_it_says_what_to_do(aws: None) -> None:
    assert "AWS_ENDPOINT_URL" in run("verify", code=3).stderr


def test_the_way_of_an_auditor(filled: LedgerStore, keys: dict[str, Any], tmp_path: Path) -> None:
    """Checkpoint, countersign, export, verify offline, prove."""
    trust = keys["countersigning"]
    made = run_json("checkpoint")
    assert (made["size"], made["signed_by"]) == (11, [])
    assert run_json("verify")["checkpointed"] == 11
    assert run_json("verify", "--trust", trust, code=1)["findings"][0]["kind"] == "unsigned"
    signed = run("countersign", "--key", tmp_path / "witness.key").stdout
    assert "witness.example/w1" in signed
    assert run_json("verify", "--trust", trust)["signed"] == 11

    export = tmp_path / "ledger.jsonl"
    run("export", export)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ledger.jsonl", "witness.key"]
    assert run("export", "-").stdout_bytes == export.read_bytes()
    report = run_json("verify", export, "--trust", trust)
    assert (report["ok"], report["entries"], report["signed"]) == (True, 11, 11)
    assert "the chain holds" in run("verify", export).stdout

    for name in ("7", "d-7"):
        proof = tmp_path / "proof.json"
        for source in ([], ["--export", export]):
            proof.write_text(run("prove", name, *source).stdout)
            found = run_json("verify", "--proof", proof, "--trust", trust)
            assert (found["ok"], found["seq"], found["signed_by"]) == (True, 7, ["witness.example/w1"])
    proof.write_text(proof.read_text().replace("portland-pd", "portland-pf"))
    assert "NO" in run("verify", "--proof", proof, code=1).stdout
    assert "no such entry" in run("prove", "d-99", code=1).stderr
    run("prove", code=2)

    old = tmp_path / "old.note"
    old.write_text(signed)
    filled.append([Record("d-12", "decision", "2020-06-10T12:00:00Z", {})])
    assert "after the checkpoint" in run("prove", "12", code=2).stderr
    run("checkpoint")
    proof.write_text(run("prove", "--since", old).stdout)
    assert run_json("verify", "--proof", proof)["since"] == 11
    assert run_json("verify", export, "--checkpoint", old)["ok"]
    head = filled.head()
    assert head is not None
    truncated = run_json("verify", export, "--head", f"12:{head.hash}", code=1)
    assert [one["kind"] for one in truncated["findings"]] == ["truncated"]


def test_tampering_is_told_and_located(
    filled: LedgerStore, keys: dict[str, Any], tmp_path: Path, dynamodb: Any
) -> None:
    run("checkpoint")
    export = tmp_path / "ledger.jsonl"
    run("export", export)
    export.write_bytes(export.read_bytes().replace(b'"seq":4,', b'"seq":5,'))
    report = run_json("verify", export, code=1)
    assert [(one["kind"], one["line"]) for one in report["findings"]] == [("altered", 5)]
    shown = run("verify", export, code=1).stdout
    assert "the chain is broken" in shown
    assert "altered" in shown
    key = ["--key", tmp_path / "witness.key"]
    assert "nothing was signed" in run("countersign", *key, "--export", export, code=1).stderr

    place = {"pk": {"S": "entries"}, "sk": {"S": f"{7:016d}"}}
    item = dynamodb.get_item(TableName="abeyance-ledger", Key=place)["Item"]
    forged = item["line"]["S"].replace("deny", "dent")
    dynamodb.put_item(TableName="abeyance-ledger", Item={**item, "line": {"S": forged}})
    report = run_json("verify", code=1)
    assert [(one["kind"], one["seq"]) for one in report["findings"]] == [("altered", 7)]
    assert "nothing was signed" in run("countersign", *key, code=1).stderr
    damaged = tmp_path / "damaged.jsonl"
    assert "damaged" in run("export", damaged, code=1).stderr
    assert [one["kind"] for one in run_json("verify", damaged, code=1)["findings"]] == ["altered"]
    dynamodb.put_item(TableName="abeyance-ledger", Item={**item, "line": {"S": "damage"}})
    assert [one["seq"] for one in run_json("verify", code=1)["findings"]] == [7]
    assert "damaged" in run("show", code=1).stderr
    damaged.write_bytes(b"damage\n" + damaged.read_bytes())
    assert run("show", damaged, code=1)


def test_an_export_can_be_countersigned_far_from_the_ledger(
    filled: LedgerStore, keys: dict[str, Any], tmp_path: Path
) -> None:
    export, note = tmp_path / "ledger.jsonl", tmp_path / "signed.note"
    run("export", export)
    note.write_text(run("countersign", "--key", tmp_path / "witness.key", "--export", export).stdout)
    report = run_json("verify", export, "--checkpoint", note, "--trust", keys["countersigning"])
    assert (report["ok"], report["signed"]) == (True, 11)


def test_the_ledger_signs_its_own_checkpoints(
    filled: LedgerStore, keys: dict[str, Any], tmp_path: Path
) -> None:
    made = run_json("checkpoint", "--key", tmp_path / "witness.key", "--retain-days", 1)
    assert made["signed_by"] == ["witness.example/w1"]
    trust = tmp_path / "trusted"
    trust.write_text(f"{keys['signing']}\n{keys['countersigning']}\n")
    assert run_json("verify", "--trust", trust)["signed"] == 11


@pytest.mark.parametrize(
    ("options", "fitting"),
    [
        ([], list(range(1, 12))),
        (["--last", "2"], [10, 11]),
        (["--day", "2020-06-09"], [1, 2, 3, 4, 5]),
        (["--tenant", "thorn"], [2, 4, 6, 8, 10, 11]),
        (["--type", "upload halted"], [11]),
        (["--outcome", "deny", "--day", "2020-06-10"], [7, 9]),
        (["--flag", "amazon-2020-police"], [1, 3, 5, 7, 9, 11]),
        (["--flag", "other"], []),
    ],
)
def test_show(filled: LedgerStore, tmp_path: Path, options: list[str], fitting: list[int]) -> None:
    assert [entry["seq"] for entry in run_json("show", *options)["entries"]] == fitting
    export = tmp_path / "ledger.jsonl"
    run("export", export)
    assert [entry["seq"] for entry in run_json("show", export, *options)["entries"]] == fitting
    assert f"{len(fitting)} entries" in run("show", *options).stdout


def test_text_on_the_ledger_is_never_read_as_markup(filled: LedgerStore) -> None:
    assert "[bold]" in run("show", "--last", "4").stdout.replace("\n", "").replace(" ", "")


def test_wrong_usage_is_told(filled: LedgerStore, tmp_path: Path, keys: dict[str, Any]) -> None:
    key = tmp_path / "witness.key"
    assert "exists" in run("keygen", "witness.example", "--out", key, code=3).stderr
    assert "blanks" in run("keygen", "two words", "--out", tmp_path / "x", code=2).stderr
    assert "no checkpoint yet" in run("countersign", "--key", key, code=3).stderr
    assert "no checkpoint yet" in run("prove", "1", code=3).stderr
    assert "SEQ:HASH" in run("verify", "--head", "12", code=2).stderr
    assert "not a key" in run("verify", "--trust", "x", code=2).stderr
    key.write_text("x")
    assert "keygen" in run("checkpoint", "--key", key, code=2).stderr
