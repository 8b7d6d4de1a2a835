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
    assert document["model"].startswith("loadtest-random-tiny@")
    assert document["device"]["provider"] == "CPU"
    assert document["roof"] == pytest.approx(document["device"]["peak_flops"] / document["flops_per_face"])
    assert {(run["threads"], run["batch"]) for run in document["bare"]} >= {(1, 1), (1, 4)}
    assert [(run["clients"], run["chips"]) for run in document["server"]] == [(1, 2), (4, 2)]
    for run in document["server"]:
        assert run["faces_per_second"] > 0
        assert run["p95"] >= run["p50"] > 0
        assert run["errors"] == 0
    (headline,) = document["headlines"]
    assert headline["share"] == pytest.approx(headline["server"] / headline["bare"])
    assert json.loads((tmp_path / "out" / "bench-loadtest-random-tiny.json").read_text()) == document
    drawing = ElementTree.parse(tmp_path / "out" / "bench-loadtest-random-tiny.svg").getroot()
    assert drawing.tag.endswith("svg")
    assert "2 a request" in "".join(drawing.itertext())
    assert {path.name for path in cache.rglob("*.onnx")} >= {"loadtest-random-tiny.generated.onnx"}


def test_a_soak_watches_memory_and_errors() -> None:
    outcome = CliRunner().invoke(app, ["embedder", "--random", "tiny", "--soak", "0.05", "--json"])
    document = json.loads(outcome.stdout)
    assert document["errors"] == 0
    assert document["faces"] > 0
    assert document["memory_end"] > 10_000_000
    assert document["samples"]


def test_it_says_what_is_wrong() -> None:
    for arguments, code in (
        (["--random", "vgg"], 2),
        (["--random", "tiny", "--batches", "0"], 2),
        (["--random", "tiny", "--set", "batch"], 2),
        (["--random", "tiny", "--providers", "CUDA"], 3),
        (["--model", "nobody"], 3),
    ):
        assert CliRunner().invoke(app, ["embedder", *arguments]).exit_code == code, arguments
