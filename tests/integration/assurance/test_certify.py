"""``abeyance certify``: the halt of a running system, certified, and checked where the system is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import urllib3
from tests.certificates import FLAG, Halt
from typer.testing import CliRunner, Result

from abeyance.cli.main import app
from abeyance.deployment.certificates import policy_text
from abeyance.deployment.parts import build_log_objects
from abeyance.ledger.exporting import export_log
from abeyance.ledger.objects import DirectoryObjects
from abeyance.ledger.receipts import read_checkpoint
from abeyance.local.public import mount_public
from abeyance.local.system import LocalSystem

runner = CliRunner()


def run(*arguments: object, code: int = 0) -> Result:
    result = runner.invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def on_another_machine(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command without network settings, credentials or the system's environment."""
    environment = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    command = [sys.executable, "-c", "from abeyance.cli.main import main; main()", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def halted(system: LocalSystem, portraits: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> LocalSystem:
    """One photo of the police, one of an exempt organisation, and one of a company."""
    for name, value in {**system.aws.variables(), "AWS_ENDPOINT_URL": system.endpoint}.items():
        monkeypatch.setenv(name, value)
    s3, photo = system.client("s3"), portraits["obama.jpg"].read_bytes()
    s3.put_object(
        Bucket="uploads",
        Key="springfield-police/search/arrests/a.jpg",
        Body=photo,
        Metadata={"purpose": "criminal_investigation"},
    )
    s3.put_object(
        Bucket="uploads",
        Key="icmec/index/missing/b.jpg",
        Body=photo,
        Metadata={"purpose": "missing_children"},
    )
    s3.put_object(Bucket="uploads", Key="acme/index/staff/c.jpg", Body=photo)
    system.watch_flags()
    system.drain(60)
    system.timekeeper.checkpoint()
    return system


def test_the_halt_of_a_running_system_is_certified(halted: LocalSystem, tmp_path: Path) -> None:
    public = tmp_path / "public"
    made = json.loads(run("certify", "--flag", FLAG, "--out", public, "--grace", "0", "--json").stdout)
    certificate: dict[str, Any] = made["certificate"]
    assert certificate["findings"] == []
    rows = {(one["type"], one["outcome"], one["part"]): one["count"] for one in certificate["counted"]["by"]}
    assert rows == {
        ("Upload Halted", "deny", "halts"): 1,
        ("Upload Permitted", "permit", "exempts"): 1,
        ("Faces Indexed", "permit", "exempts"): 1,
    }
    assert certificate["counted"]["requests"] == 2
    assert certificate["stated"]["replay"]["same"] == certificate["counted"]["decisions"]
    assert certificate["documents"][0]["agreed"] == "adopted"

    note = read_checkpoint(build_log_objects(halted.settings, halted.client))
    policy = tmp_path / "policy.txt"
    policy.write_text(policy_text(halted.settings, note.origin, halted.client))
    bundle = Path(made["bundle"])
    arguments = ["certify", "verify", str(bundle), "--policy", str(policy), "--certificate", made["file"]]
    found = on_another_machine(*arguments)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "yes" in found.stdout
    assert on_another_machine("certify", "verify", str(bundle)).returncode == 1

    status = json.loads(run("certify", "page", public, "--json").stdout)
    assert [one["key"] for one in status["in_force"]] == [FLAG]
    assert status["certificates"][0]["exempted"] == 2
    assert status["checkpoint"]["size"] == note.size
    assert (public / "policy.txt").read_text() == policy.read_text()
    assert bundle.stem in (public / "index.html").read_text()
    assert json.loads((public / "status.json").read_text()) == status
    assert "criminal_investigation" not in "".join(one.read_text() for one in public.glob("*.json"))


def test_the_public_page_is_served_beside_its_certificates(halted: LocalSystem, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    folder = tmp_path / "public"
    mount_public(halted, folder)
    halted.timekeeper.checkpoint()
    (folder / "note.txt").write_text("a file of the operator")

    def get(path: str) -> tuple[int, str, bytes]:
        answer = urllib3.request("GET", f"{halted.endpoint}{path}", redirect=False)
        return answer.status, answer.headers.get("content-type", ""), answer.data

    assert get("/public")[0] == 308
    status, kind, body = get("/public/")
    assert (status, kind) == (200, "text/html")
    assert b"1 rule is in force" in body
    status, kind, body = get("/public/status.json")
    assert (status, kind) == (200, "application/json")
    assert json.loads(body)["in_force"][0]["key"] == FLAG
    assert get("/public/note.txt")[2] == b"a file of the operator"
    for path in ("/public/../secret.txt", "/public/%2e%2e/secret.txt", "/public/none", "/public/.part-x"):
        assert get(path)[0] in (403, 404), path
    before = halted.flags.read_text()
    try:
        halted.flags.write_text("[")
        halted.watch_flags()
        status, _, body = get("/public/")
        assert status == 503
        assert b"every request is denied" in body
    finally:
        halted.flags.write_text(before)
    # S3's clients sign, and reach a bucket of this name.
    halted.client("s3").create_bucket(Bucket="public")
    halted.client("s3").put_object(Bucket="public", Key="a", Body=b"theirs")
    assert halted.client("s3").get_object(Bucket="public", Key="a")["Body"].read() == b"theirs"


@pytest.fixture
def exported(tmp_path: Path) -> tuple[Halt, Path]:
    """An export of a log with two checkpoints."""
    halt = Halt()
    halt.grow(60)
    last = halt.grow(40)
    folder = DirectoryObjects(tmp_path / "export")
    export_log(halt.log.objects, last, folder.put_new)
    return halt, tmp_path / "export"


def test_an_export_is_certified_between_checkpoints_sizes_or_dates(
    exported: tuple[Halt, Path], tmp_path: Path
) -> None:
    _, export = exported
    first = tmp_path / "first.note"
    first.write_text(run("ledger", "checkpoint", "--export", export, "--size", "62").stdout)
    sizes = []
    for begin, end in ((first, "latest"), ("62", "102"), ("2026-06-03", "2026-06-03"), ("0", "62")):
        arguments = [
            "certify",
            "--flag",
            FLAG,
            "--export",
            export,
            "--out",
            tmp_path,
            "--from",
            begin,
            "--to",
            end,
        ]
        result = run(*arguments, "--json", code=1)
        made = json.loads(result.stdout)["certificate"]
        assert made["findings"] == ["not-reconciled"]
        sizes.append((made["from"]["size"], made["to"]["size"]))
    assert sizes == [(62, 102), (62, 102), (62, 102), (0, 62)]


def test_earlier_comparisons_are_taken_from_files(exported: tuple[Halt, Path], tmp_path: Path) -> None:
    halt, export = exported
    compared = tmp_path / "reconciled.json"
    import msgspec

    compared.write_bytes(msgspec.json.encode({**msgspec.structs.asdict(halt.reconciled()), "ok": True}))
    arguments = ["certify", "--flag", FLAG, "--export", export, "--out", tmp_path, "--reconciled", compared]
    shown = run(*arguments).stdout
    assert "police_halt" in shown
    compared.write_text("{}")
    assert "is no result" in run(*arguments, code=2).stderr


def test_wrong_command_lines_say_what_to_do(exported: tuple[Halt, Path], tmp_path: Path) -> None:
    _, export = exported
    common = ["certify", "--export", export, "--out", tmp_path]
    assert "--flag" in run(*common, code=2).stderr
    assert "is none of" in run(*common, "--flag", FLAG, "--disclose", "faces", code=2).stderr
    assert "later one" in run(*common, "--flag", FLAG, "--from", "102", code=2).stderr
    assert "no checkpoint" in run(*common, "--flag", FLAG, "--from", "5", code=2).stderr


def test_a_deployment_signs_certificates_with_another_key_than_the_log(
    exported: tuple[Halt, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ABEYANCE_LEDGER_KEY", "kms:arn:aws:kms:eu-central-1:1:key/ledger")
    found = run("certify", "--flag", FLAG, "--export", exported[1], "--out", tmp_path, code=2)
    assert "ABEYANCE_CERTIFICATE_KEY" in found.stderr
