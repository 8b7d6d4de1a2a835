"""``python -m benchmarks embedder``, on a network that costs next to nothing."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.__main__ import app

QUICK = [
    "embedder",
    "--random",
    "tiny",
    "--seconds",
    "0.2",
    "--rounds",
    "1",
    "--batches",
    "1,4",
    "--clients",
    "1,4",
]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_report_hangs_together(tmp_path: Path, cache: Path) -> None:
    outcome = CliRunner().invoke(app, [*QUICK, "--chips", "2", "--json", "--out", str(tmp_path / "out")])
    assert outcome.exit_code in (0, 1), (
        outcome.output
    )  # whether the goal is reached is not this test's matter
    document = json.loads(outcome.stdout)
    part, curves = document["part"], document["curves"]
    assert part["name"].startswith("loadtest-random-tiny@")
    assert ", CPU, fp32, " in part["notes"][0]
    figures = {figure["what"]: figure for figure in part["figures"]}
    for batch in (1, 4):
        alone = figures[f"the model alone: 1 callers x 1 threads, batch {batch}"]
        assert alone["note"] == f"{alone['value']['median'] / document['roof']:.0%} of the roof"
        assert [batch, alone["value"]["median"]] in curves["bare"]["1 × 1 threads"]
    for clients, rate in curves["server"]["2 a request"]:
        served = figures[f"the server: {clients:g} clients, 2 faces a request"]
        assert served["value"]["median"] == rate > 0
        assert ", 0 errors, " in served["note"]
    assert [clients for clients, _ in curves["server"]["2 a request"]] == [1, 4]
    assert all(p95 > 0 for _, p95 in curves["p95_ms"]["2 a request"])
    (headline,) = part["comparisons"]
    assert headline["ratio"]["median"] == pytest.approx(
        headline["ours"]["median"] / headline["theirs"]["median"]
    )
    assert headline["aim"] == 0.9
    assert json.loads((tmp_path / "out" / "bench-loadtest-random-tiny.json").read_text()) == document
    drawing = ElementTree.parse(tmp_path / "out" / "bench-loadtest-random-tiny.svg").getroot()
    assert drawing.tag.endswith("svg")
    assert "2 a request" in "".join(drawing.itertext())
    assert {path.name for path in cache.rglob("*.onnx")} >= {"loadtest-random-tiny.generated.onnx"}


def test_a_soak_watches_memory_and_errors() -> None:
    outcome = CliRunner().invoke(app, ["embedder", "--random", "tiny", "--soak", "0.05", "--json"])
    document = json.loads(outcome.stdout)
    figures = {figure["key"]: figure["value"]["median"] for figure in document["part"]["figures"]}
    assert figures["soak.errors"] == 0
    assert figures["soak.requests"] > 0
    assert figures["soak.end"] > 10
    assert document["curves"]["memory_mib"]["server"]


def test_it_says_what_is_wrong() -> None:
    for arguments, code in (
        (["--random", "vgg"], 2),
        (["--random", "tiny", "--batches", "0"], 2),
        (["--random", "tiny", "--set", "batch"], 2),
        (["--random", "tiny", "--providers", "CUDA"], 3),
        (["--model", "nobody"], 3),
    ):
        assert CliRunner().invoke(app, ["embedder", *arguments]).exit_code == code, arguments
