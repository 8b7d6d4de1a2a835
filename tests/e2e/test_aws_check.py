"""``make aws-check`` on the emulator: what it can do holds, what it cannot is named, and nothing stays behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from infra.assumptions import ASSUMPTIONS
from infra.awscheck import FAILS, HOLDS, UNCHECKED
from tests.e2e.conftest import client
from tests.e2e.emulator import ROOT, Emulator

pytestmark = pytest.mark.timeout(600)


def test_every_assumption_holds_or_says_why_not(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "ABEYANCE_"))}
    with Emulator(tmp_path, enforce_iam=False) as emulator:
        done = subprocess.run(
            [sys.executable, "-m", "infra.awscheck"],
            cwd=ROOT,
            env={**kept, **emulator.environment},
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        lines = done.stdout.splitlines()
        assert not [line for line in lines if line.startswith(FAILS)]
        for one in ASSUMPTIONS:
            (line,) = [line for line in lines if f" {one.name} " in f"{line} "]
            reason = one.unchecked or one.emulator
            assert line.startswith(UNCHECKED if reason else HOLDS), line
            assert reason in line
        # A key of KMS stays for seven days, and is named.
        assert [line.split()[1] for line in lines if line.startswith("Left: ")] == ["key"]
        mine = "abeyance-check-"
        left = [
            *client(emulator, "dynamodb").list_tables()["TableNames"],
            *(bucket["Name"] for bucket in client(emulator, "s3").list_buckets()["Buckets"]),
            *client(emulator, "sqs").list_queues().get("QueueUrls", []),
            *(bus["Name"] for bus in client(emulator, "events").list_event_buses()["EventBuses"]),
            *(rule["Name"] for rule in client(emulator, "events").list_rules()["Rules"]),
            *(app["Name"] for app in client(emulator, "appconfig").list_applications()["Items"]),
        ]
        assert [name for name in left if mine in name] == []
