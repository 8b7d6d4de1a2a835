"""``abeyance erasures``: the person's own view, the erasure, and its repetition after a restore."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from abeyance.cli.main import app
from abeyance.pipeline.uploads import name_id

from .conftest import STAFF, World

NAME = "张伟.jpg"


def run(*arguments: str, given: str = "", code: int = 0) -> Any:
    result = CliRunner().invoke(app, ["erasures", *arguments, "--json"], input=given)
    assert result.exit_code == code, result.output
    return json.loads(result.stdout) if result.stdout.strip() else None


def test_a_person_is_shown_erased_and_erased_again_after_a_restore(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ABEYANCE_FLAGS", f"file:{world.flags}")
    face = world.enrol(name_id(NAME))
    world.enrol(name_id("王芳.jpg"), "acme/index/staff/b.png")
    held = run("show", "acme", "staff", "original_name", "-", given=f"{NAME}\n")
    assert [one["id"] for one in held["faces"]] == [face]
    receipt = run("erase", "acme", "staff", "original_name", "-", given=f"{NAME}\n")
    assert receipt["faces"] == 1
    assert world.gallery.describe(STAFF).face_count == 1
    run("show", "acme", "staff", "original_name", NAME, code=1)
    run("erase", "acme", "staff", "nickname", NAME, code=1)
    assert run("resume") == {"finished": 0, "unfinished": 0}
    before = world.gallery.describe(STAFF).generation
    assert run("replay", "--since", "2020-01-01") == {"finished": 1, "unfinished": 0}
    assert world.gallery.describe(STAFF).generation != before
    assert world.gallery.describe(STAFF).face_count == 1
    assert world.write_ledger().count("person.erased") == 2
