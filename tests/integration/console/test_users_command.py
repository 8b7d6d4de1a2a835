"""``abeyance users``: a user's faces, merge, split, verdicts, and what to look at, on the ledger."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from abeyance.cli.main import app
from abeyance.deployment import curation as built
from abeyance.vision.similarity import SimilarityScale

from .conftest import STAFF, World


def run(*arguments: str, code: int = 0) -> Any:
    result = CliRunner().invoke(app, ["users", *arguments, "--json"])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout) if result.stdout.strip() else None


def test_users_are_looked_after_by_command(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABEYANCE_FLAGS", f"file:{world.flags}")
    monkeypatch.setattr(built, "read_scale", lambda model: SimilarityScale([(-1.0, 0.0), (1.0, 100.0)]))
    faces = [world.enrol(name, f"acme/index/staff/{name}.png") for name in ("a", "bb", "ccc")]
    for name, own in (("ann", faces[:2]), ("ben", faces[2:])):
        world.gallery.create_user(STAFF, name)
        world.gallery.associate_faces(STAFF, name, own)
    at = ("acme", "staff")
    shown = run("show", *at, "ann")
    assert {face["id"] for face in shown["faces"]} == set(faces[:2])
    assert shown["faces"][0]["source"]["key"].startswith("acme/index/staff/")
    run("split", *at, "ann", "ann-2", "--face", faces[1], "--purpose", "access_control")
    assert run("show", *at, "ann-2")["others"] == [["USER", "ann"]]
    run("merge", *at, "ann", "ann-2", "--purpose", "access_control", code=1)
    run("withdraw", *at, "user:ann", "user:ann-2")
    assert run("merge", *at, "ann", "ann-2", "--purpose", "access_control") == {"moved": 1}
    run("reject", *at, "user:ann", f"face:{faces[1]}")
    assert [face["id"] for face in run("show", *at, "ann")["faces"]] == [faces[0]]
    run("reject", *at, "ann", "user:ben", code=2)
    found = run("check", *at, "--threshold", "0", "--purpose", "access_control", code=1)
    assert found is None  # Every match needs two reviewers here.
    kinds = [kind for kind in world.write_ledger() if kind.startswith("person.")]
    assert kinds == ["person.split", "person.not.withdrawn", "person.merged", "person.not"]
    world.write_flags({**json.loads(world.flags.read_text()), "values": _without_review(world)})
    found = run("check", *at, "--threshold", "0", "--purpose", "access_control")
    assert {one["kind"] for one in found} >= {"look_alike"}
    assert CliRunner().invoke(app, ["users", "show", *at, "ann"]).exit_code == 0


def _without_review(world: World) -> dict[str, Any]:
    values = json.loads(world.flags.read_text())["values"]
    return {key: value for key, value in values.items() if key != "review"} | {"review": {"enabled": False}}
