"""``abeyance serve`` ends with one line on what its user can correct, and does not hang."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from abeyance.cli.main import app


def run(*options: str) -> str:
    """Run the command, which must fail; returns its one line."""
    done = CliRunner().invoke(app, ["serve", *options])
    assert done.exit_code in (2, 3), done.output
    assert done.exception is None or isinstance(done.exception, SystemExit)
    (line,) = done.output.strip().splitlines()
    assert line.startswith("error: ")
    return line


def test_a_taken_port() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"port {port}" in run("--port", str(port))
    assert "65536" in run("--port", "65536")


def test_flags_that_cannot_be_read_or_made(tmp_path: Path) -> None:
    assert "No such file" in run("--port", "0", "--flags", str(tmp_path / "none" / "flags.json"))
    (tmp_path / "flags.json").write_text("[")
    assert "not valid JSON" in run("--port", "0", "--flags", str(tmp_path / "flags.json"))


def test_an_ill_typed_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABEYANCE_RETENTION_DAYS", "soon")
    assert "ABEYANCE_ variables" in run("--port", "0")
