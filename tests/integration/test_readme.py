"""The README's commands do what it says: a system started by its command, the AWS CLI from another terminal."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from abeyance.cli.main import app
from abeyance.cli.output import Exit
from abeyance.local.demo import prepare
from abeyance.local.samples import fetch_samples

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BIN = Path(sys.executable).parent


def blocks() -> list[str]:
    return re.findall(r"```console\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A system started as the README says, on a free port."""
    prepare()
    process = subprocess.Popen(
        [BIN / "abeyance", "serve", "--port", "0"], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout
    endpoint = ""
    for line in process.stdout:
        if found := re.search(r"http://127\.0\.0\.1:\d+", line):
            endpoint = found.group()
        if line.startswith("Flags:"):
            break
    assert endpoint
    yield endpoint, process
    if process.poll() is None:
        process.kill()
        process.wait()


def test_every_target_and_command_of_the_readme_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make ([a-z-]+)", "\n".join(blocks()), re.MULTILINE):
        assert re.search(rf"^{target}:.*## ", makefile, re.MULTILINE), target
    for command in re.findall(
        r"^\.venv/bin/abeyance ([a-z ]+?)(?: [-<a-z.]*\.|\s--|$)", "\n".join(blocks()), re.MULTILINE
    ):
        shown = CliRunner().invoke(app, [*command.split(), "--help"])
        assert shown.exit_code == 0, (command, shown.output)


def test_the_aws_cli_from_another_terminal(served: tuple[str, subprocess.Popen[str]], tmp_path: Path) -> None:
    endpoint, process = served
    aws = shutil.which("aws", path=f"{BIN}{os.pathsep}{os.environ['PATH']}")
    assert aws, "the AWS CLI is in requirements/dev.txt"
    photos = fetch_samples("white-house-portraits")
    shutil.copy(photos["obama.jpg"], tmp_path / "face.jpg")
    shutil.copy(photos["obama2.jpg"], tmp_path / "other.jpg")
    script = next(block for block in blocks() if "aws s3 cp" in block)
    commands = script.replace("http://127.0.0.1:4566", endpoint).replace("aws ", f"{aws} ").splitlines()
    exports = dict(pair.split("=", 1) for pair in commands[0].removeprefix("export ").split())
    environment = {**os.environ, **exports, "AWS_EC2_METADATA_DISABLED": "true"}

    def run(command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            shell=True,
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def until_it_works(command: str) -> str:
        deadline = time.monotonic() + 60
        while (shown := run(command)).returncode and time.monotonic() < deadline:
            time.sleep(0.5)
        return shown.stdout

    assert run(commands[1]).returncode == 0
    indexed = json.loads(until_it_works(f"{aws} s3 cp s3://results/acme/index/staff/face.jpg.json -"))
    assert indexed["event"] == "Faces Indexed"
    assert run(commands[2]).returncode == 0
    result = json.loads(until_it_works(commands[3]))
    assert result["event"] == "Faces Matched"
    assert result["faces"][0]["matches"][0]["external_image_id"] == "face.jpg"

    spoken = (
        next(block for block in blocks() if "aws rekognition" in block)
        .replace("aws ", f"{aws} ")
        .splitlines()
    )
    detected, searched = (json.loads(run(command).stdout) for command in spoken)
    assert len(detected["FaceDetails"]) == 1
    assert searched["FaceMatches"][0]["Face"]["ExternalImageId"] == "face.jpg"

    def ledger(command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [BIN / "abeyance", "ledger", command, "--json"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    # The last entries are signed within seconds; until then they are said not to be, with a status of their own.
    for _ in range(30):
        verified = ledger("verify")
        if verified.returncode != Exit.UNSIGNED:
            break
        time.sleep(2)
    assert verified.returncode == 0, verified.stderr
    assert json.loads(verified.stdout)["verdict"] == "whole"
    assert ledger("reconcile").returncode == 0

    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Nothing was waiting in any queue" in said
