"""``abeyance models`` as a person runs it, with the real packages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from abeyance.cli.models import app
from abeyance.vision.models.manifest import Manifest


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty directory into which everything has been fetched."""
    folder = tmp_path_factory.mktemp("models")
    done = run("fetch", "--directory", str(folder))
    if done.exit_code == 3 and "Is this machine connected" in done.output:
        pytest.skip("no package registry")
    assert done.exit_code == 0, done.output
    return folder


def test_everything_is_ready_and_verified(store: Path) -> None:
    done = run("verify", "--directory", str(store), "--json")
    assert done.exit_code == 0
    report = json.loads(done.stdout)
    assert report["directory"] == str(store)
    assert {model["name"]: model["state"] for model in report["models"]} == dict.fromkeys(
        Manifest.load().entries, "ready"
    )
    for name in Manifest.load().entries:
        assert (store / f"{name}.onnx").stat().st_size > 100_000


def test_nothing_but_models_and_receipts_is_left(store: Path) -> None:
    left = {path.name for path in store.iterdir() if not path.name.endswith(".lock")}
    assert left == {f"{name}{end}" for name in Manifest.load().entries for end in (".onnx", ".receipt.json")}


def test_the_second_time_no_network_is_needed(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(store))
    assert run("fetch", "--directory", str(store)).exit_code == 0


def test_without_network_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    done = run("fetch", "yunet-2023mar", "--directory", str(tmp_path / "store"))
    assert done.exit_code == 3
    assert "Is this machine connected" in " ".join(done.output.split())


def test_what_is_missing_is_said_and_counts_as_no(tmp_path: Path) -> None:
    done = run("verify", "yunet-2023mar", "--directory", str(tmp_path))
    assert done.exit_code == 1
    assert "abeyance models fetch yunet-2023mar" in " ".join(done.output.split())


def test_licences_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = {
        "name": "own-arcface",
        "role": "embedder",
        "sha256": "a" * 64,
        "path": "own.onnx",
        "licence": {
            "spdx": "LicenseRef-research",
            "attribution": "Some laboratory",
            "notice": "Not for sale.",
        },
        "preprocessing": {"width": 112, "height": 112, "mean": [127.5] * 3, "std": [127.5] * 3},
        "dimension": 512,
        "calibration": {"knots": [[0, 0], [1, 100]], "provenance": "none"},
    }
    manifest = tmp_path / "own.json"
    manifest.write_text(json.dumps({"version": 1, "models": [own]}))
    for arguments in (["--manifest", str(manifest)], []):
        if not arguments:
            monkeypatch.setenv("ABEYANCE_MANIFEST", str(manifest))
        done = run("list", "--directory", str(tmp_path), *arguments)
        assert done.exit_code == 0
        text = " ".join(done.output.split())
        for shown in ("Apache-2.0", "MIT", "LicenseRef-research", "Some laboratory. Not for sale."):
            assert shown in text
    rows = json.loads(run("list", "--json").stdout)["models"]
    (row,) = [row for row in rows if row["name"] == "own-arcface"]
    assert row["licence"] == own["licence"]
    assert row["state"] == "missing"
    assert row["dimension"] == 512


def test_an_unknown_name_is_a_usage_error() -> None:
    done = run("fetch", "no-such-model")
    assert done.exit_code == 2
    assert "sface-2021dec" in done.output
