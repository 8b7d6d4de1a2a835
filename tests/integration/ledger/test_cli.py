"""``abeyance ledger`` and ``abeyance witness`` as operators, auditors and witnesses use them."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.logs import BEGUN, Log, entries, grown
from typer.testing import CliRunner, Result

from abeyance.cli.main import app
from abeyance.deployment import parts
from abeyance.deployment.settings import DeploymentSettings
from abeyance.ledger.checkpoint import LogCheckpoint
from abeyance.ledger.checkpointer import Checkpointer
from abeyance.ledger.entry import Record, make_entry
from abeyance.ledger.exporting import export_log
from abeyance.ledger.objects import DirectoryObjects
from abeyance.ledger.policy import WitnessEntry
from abeyance.ledger.receipts import read_checkpoint
from abeyance.ledger.signatures import SIGN, parse_verifier
from abeyance.ledger.tiles import TileReader
from abeyance.ledger.witness import ask_witness, post_with_urllib3

runner = CliRunner()

FLAGS = [{"key": "amazon-2020-police", "version": "3", "effect": "halt"}]


def run(*arguments: object, code: int = 0) -> Result:
    result = runner.invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def run_json(*arguments: object, code: int = 0) -> Any:
    return json.loads(run(*arguments, "--json", code=code).stdout)


@pytest.fixture
def deployed(dynamodb: Any, s3: Any) -> DeploymentSettings:
    """Two days of decisions and events on a deployed ledger, under a checkpoint."""
    settings = DeploymentSettings()
    records = []
    for n in range(1, 11):
        body: dict[str, Any] = {
            "tenant": "portland-pd" if n % 2 else "thorn",
            "outcome": "deny" if n % 2 else "permit",
            "action": "search",
        }
        body |= {"flags": FLAGS if n % 2 else [], "reason": "[bold]Halted[/]"}
        records.append(Record(f"d-{n}", "decision", f"2020-06-{9 if n < 6 else 10:02d}T12:00:00Z", body))
    event = {"tenant": "thorn", "photo": "ab12", "decision": {"outcome": "permit", "flags": FLAGS}}
    records.append(Record("upload-halted:1", "Upload Halted", "2020-06-10T12:00:00Z", event))
    append(settings, records)
    checkpoint(settings)
    return settings


def append(settings: DeploymentSettings, records: list[Record]) -> None:
    parts.build_sequencer(settings).append([make_entry(one, os.urandom(16)) for one in records], 0.0)


def checkpoint(settings: DeploymentSettings) -> LogCheckpoint:
    made = Checkpointer(
        parts.build_heads(settings), parts.build_log_objects(settings), parts.build_signer(settings)
    ).checkpoint()
    assert made is not None
    return made


def test_without_a_ledger_it_says_what_to_do(aws: None) -> None:
    assert "AWS_ENDPOINT_URL" in run("ledger", "verify", code=3).stderr


def test_an_empty_ledger_says_so(dynamodb: Any, s3: Any) -> None:
    for command in (["verify"], ["key"]):
        assert "nothing was ever recorded" in run("ledger", *command, code=3).stderr
    for command in (["export", "-"], ["prove", "1"], ["checkpoint"]):
        assert "no checkpoint yet" in run("ledger", *command, code=2).stderr
    assert run_json("ledger", "show") == {"entries": []}


def test_the_way_of_an_auditor(deployed: DeploymentSettings, tmp_path: Path) -> None:
    """Verify what is deployed, take an export and a receipt away, and verify them with the key alone."""
    report = run_json("ledger", "verify")
    assert (report["verdict"], report["size"], report["signed"], report["opened"]) == ("whole", 11, 11, 11)
    assert report["seconds"].keys() == {"verifying", "opening"}
    key = run("ledger", "key").stdout.strip()
    note = tmp_path / "old.note"
    note.write_text(run("ledger", "checkpoint").stdout)

    for out in (tmp_path / "export", tmp_path / "export.zip"):
        run("ledger", "export", out)
        assert run_json("ledger", "verify", out, "--trust", key)["verdict"] == "whole"
        unbelieved = run_json("ledger", "verify", out, code=4)
        assert (unbelieved["verdict"], "--trust" in unbelieved["why"]) == ("unsigned", True)
        assert "the log is whole" in run("ledger", "verify", out, "--trust", key).stdout
    assert run("ledger", "export", "-").stdout_bytes == (tmp_path / "export.zip").read_bytes()

    receipt = tmp_path / "d-7.tlog-proof"
    for name, source in (("6", []), ("d-7", ["--export", tmp_path / "export"])):
        receipt.write_text(run("ledger", "prove", name, *source).stdout)
        found = run_json("ledger", "verify", "--receipt", receipt, "--trust", key)
        assert (found["ok"], found["index"], found["fields"]["id"]) == (True, 6, "d-7")
    assert "no believed key" in run("ledger", "verify", "--receipt", receipt, code=1).stdout
    receipt.write_text(receipt.read_text().replace("index 6", "index 5"))
    assert "NO" in run("ledger", "verify", "--receipt", receipt, "--trust", key, code=1).stdout
    receipt.write_text(run("ledger", "prove", "6", "--field", "body.outcome").stdout)
    assert run_json("ledger", "verify", "--receipt", receipt, "--trust", key)["fields"] == {
        "body.outcome": "deny"
    }
    assert "no entry d-99" in run("ledger", "prove", "d-99", code=1).stderr

    append(deployed, [Record("d-12", "decision", "2020-06-10T12:00:00Z", {})])
    report = run_json("ledger", "verify", code=4)
    assert (report["verdict"], report["size"], report["signed"]) == ("unsigned", 12, 11)
    assert "of 11 entries" in run("ledger", "prove", "11", code=2).stderr
    checkpoint(deployed)
    assert run_json("ledger", "verify", "--checkpoint", note, "--checkpoint", receipt)["verdict"] == "whole"
    run("ledger", "export", tmp_path / "export")
    assert (
        run_json("ledger", "verify", tmp_path / "export", "--trust", key, "--checkpoint", note)["size"] == 12
    )


def test_tampering_is_told_and_located(deployed: DeploymentSettings, s3: Any, tmp_path: Path) -> None:
    export = tmp_path / "export"
    run("ledger", "export", export)
    key = run("ledger", "key").stdout.strip()
    bundle = export / "opening" / "000.p" / "11"
    bundle.write_bytes(bundle.read_bytes().replace(b'"outcome":"deny"', b'"outcome":"dent"', 1))
    report = run_json("ledger", "verify", export, "--trust", key, code=1)
    assert [(one["kind"], one["index"]) for one in report["defects"]] == [("wrong_opening", 0)]
    assert "the log is broken" in run("ledger", "verify", export, "--trust", key, code=1).stdout
    assert run_json("ledger", "verify", export, "--trust", key, "--sealed")["opened"] is None

    s3.put_object(Bucket="abeyance-ledger", Key="tile/0/000.p/11", Body=b"other")
    report = run_json("ledger", "verify", code=1)
    assert {one["kind"] for one in report["defects"]} == {"rewritten", "damaged"}
    s3.delete_object(Bucket="abeyance-ledger", Key="tile/0/000.p/11")
    assert "deleted" in {one["kind"] for one in run_json("ledger", "verify", code=1)["defects"]}


def test_a_conflict_is_accepted_by_its_index(deployed: DeploymentSettings) -> None:
    append(deployed, [Record("d-3", "decision", "2020-06-11T00:00:00Z", {"outcome": "permit"})])
    checkpoint(deployed)
    report = run_json("ledger", "verify", code=1)
    assert [(one["kind"], one["index"]) for one in report["defects"]] == [("conflict", 11)]
    assert run_json("ledger", "verify", "--accept-conflict", 11)["verdict"] == "whole"


def test_an_export_that_withholds_everything(deployed: DeploymentSettings, tmp_path: Path) -> None:
    run("ledger", "export", tmp_path / "public", "--withhold")
    key = run("ledger", "key").stdout.strip()
    report = run_json("ledger", "verify", tmp_path / "public", "--trust", key)
    assert (report["verdict"], report["opened"]) == ("whole", None)
    contents = b"".join(path.read_bytes() for path in (tmp_path / "public").rglob("*") if path.is_file())
    assert b"portland-pd" not in contents
    receipt = run("ledger", "prove", "3", "--export", tmp_path / "public", "--withhold").stdout
    (tmp_path / "r").write_text(receipt)
    assert run_json("ledger", "verify", "--receipt", tmp_path / "r", "--trust", key)["fields"] == {}


@pytest.mark.parametrize(
    ("options", "fitting"),
    [
        ([], list(range(11))),
        (["--last", "2"], [9, 10]),
        (["--day", "2020-06-09"], [0, 1, 2, 3, 4]),
        (["--tenant", "thorn"], [1, 3, 5, 7, 9, 10]),
        (["--type", "upload halted"], [10]),
        (["--outcome", "deny", "--day", "2020-06-10"], [6, 8]),
        (["--flag", "amazon-2020-police"], [0, 2, 4, 6, 8, 10]),
        (["--flag", "other"], []),
    ],
)
def test_show(deployed: DeploymentSettings, tmp_path: Path, options: list[str], fitting: list[int]) -> None:
    assert [one["index"] for one in run_json("ledger", "show", *options)["entries"]] == fitting
    run("ledger", "export", tmp_path / "export")
    shown = run_json("ledger", "show", tmp_path / "export", *options)
    assert [one["index"] for one in shown["entries"]] == fitting
    assert f"{len(fitting)} entries" in run("ledger", "show", *options).stdout


def test_the_index_is_written_repaired_and_used(deployed: DeploymentSettings, s3: Any) -> None:
    before = [
        run_json("ledger", "show", *options) for options in ([], ["--tenant", "thorn"], ["--id", "d-7"])
    ]
    assert [one["index"] for one in before[2]["entries"]] == [6]
    assert run_json("ledger", "index")["indexed"] == 11
    assert run_json("ledger", "index", "--rebuild")["repaired"] == []
    after = [run_json("ledger", "show", *options) for options in ([], ["--tenant", "thorn"], ["--id", "d-7"])]
    assert after == before
    assert "index 6" in run("ledger", "prove", "d-7").stdout
    days = s3.list_objects_v2(Bucket=deployed.ledger_bucket, Prefix="index/entries/")["Contents"]
    assert [one["Key"].split("/")[2] for one in days] == ["day=2020-06-09", "day=2020-06-10"]
    s3.put_object(Bucket=deployed.ledger_bucket, Key=days[0]["Key"], Body=b"")
    assert "index --rebuild" in run("ledger", "show", "--day", "2020-06-09", code=1).stderr
    assert days[0]["Key"] in run("ledger", "index", "--rebuild", code=1).stdout.replace("\n", "")
    assert run_json("ledger", "verify")["verdict"] == "whole"
    assert [run_json("ledger", "show"), before[1]] == [
        before[0],
        run_json("ledger", "show", "--tenant", "thorn"),
    ]


def test_text_on_the_ledger_is_never_read_as_markup(deployed: DeploymentSettings) -> None:
    assert "[bold]" in run("ledger", "show", "--last", "4").stdout.replace("\n", "").replace(" ", "")


def test_wrong_usage_is_told(deployed: DeploymentSettings, tmp_path: Path) -> None:
    out = tmp_path / "witness.key"
    run("witness", "keygen", "witness.example", "--out", out)
    assert "exists" in run("witness", "keygen", "witness.example", "--out", out, code=3).stderr
    assert "blanks" in run("witness", "keygen", "two words", "--out", tmp_path / "x", code=2).stderr
    assert "not a key" in run("ledger", "verify", "--trust", "x", code=2).stderr
    assert "no field body.x" in run("ledger", "prove", "1", "--field", "body.x", code=2).stderr
    assert "not both" in run("ledger", "prove", "1", "--field", "id", "--withhold", code=2).stderr
    (tmp_path / "policy").write_text("quorum nobody")
    assert "line 1 of the policy" in run("ledger", "verify", "--policy", tmp_path / "policy", code=2).stderr
    (tmp_path / "note").write_text("x")
    assert "not a checkpoint" in run("ledger", "verify", "--checkpoint", tmp_path / "note", code=2).stderr
    assert "no export" in run("ledger", "verify", tmp_path / "note", code=2).stderr
    assert "there is no file" in run("witness", "evidence", "--state", tmp_path / "none.db", code=2).stderr


# A witness of its own, in a process of its own.


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Address and public key of a running witness of the log of ``tests.logs``."""
    os.umask(0o022)
    key = tmp_path / "witness.key"
    public = run_json("witness", "keygen", "w.example", "--out", key)["key"]
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    command = [sys.executable, "-m", "abeyance", "witness", "serve", "--key", str(key), "--port", "0"]
    command += ["--log", str(grown().key.verifier(SIGN)), "--state", str(tmp_path / "witness.db")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        match = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
        assert match is not None
        yield match[0], public
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0


def test_a_witness_signs_what_extends_and_keeps_what_contradicts(
    witness: tuple[str, str], tmp_path: Path
) -> None:
    url, public = witness
    log = grown(300)
    entry = WitnessEntry("w", parse_verifier(public), url)
    post = post_with_urllib3(10)

    def ask(log: Log, old: int) -> LogCheckpoint:
        note = read_checkpoint(log.objects)
        return note.signed(
            ask_witness(entry, note, old, TileReader(log.objects, note.size).consistency, post)
        )

    ask(log, 0)
    log.grow(20)
    log.checkpoint()
    signed = ask(log, 300)
    export = DirectoryObjects(tmp_path / "export")
    export_log(log.objects, signed, lambda key, data: export.replace(key, data))
    (export_note := export.get("checkpoints/00000000000000000320")) or pytest.fail("no numbered checkpoint")
    export.replace("checkpoints/00000000000000000320", str(signed).encode())
    assert export_note != str(signed).encode()
    policy = tmp_path / "policy"
    policy.write_text(f"log {log.key.verifier(SIGN)}\nwitness w {public} {url}\nquorum w\n")
    report = run_json("ledger", "verify", tmp_path / "export", "--policy", policy)
    assert (report["verdict"], report["witnessed"]) == ("whole", 320)
    policy.write_text(policy.read_text() + "#abeyance: fresh 1h\n")
    assert (
        run_json("ledger", "verify", tmp_path / "export", "--policy", policy)["witnessed_at"]
        > BEGUN.timestamp()
    )
    assert run_json("witness", "evidence", "--state", tmp_path / "witness.db") == {"evidence": []}

    fork = grown(300)
    fork.append(entries(900, 30))
    fork.checkpoint()
    fork.grow(1)
    with pytest.raises(Exception, match="does not extend"):
        ask(fork, 320)
    kept = run_json("witness", "evidence", "--state", tmp_path / "witness.db", code=1)["evidence"]
    assert len(kept) == 1
    assert "does not show that the log extends" in kept[0]["why"]
    assert kept[0]["note"] == str(read_checkpoint(fork.objects))
