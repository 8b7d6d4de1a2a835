"""The comparison of measured cold starts. The starts themselves: tests/infra/test_coldstart.py."""

from __future__ import annotations

import pytest
from infra.coldstart import Times
from infra.functions import FUNCTIONS, FunctionSpec

from benchmarks import coldstart


def test_compares_with_the_models_loaded_and_aims_at_half_of_the_beginning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured = {
        "detect": Times(
            function="detect",
            ready=[200.0, 220.0],
            answered=[400.0, 410.0],
            models=[100.0, 80.0],
            plain=[600.0, 600.0],
            imports={"numpy": 60.0, "botocore": 40.0},
        ),
        "console": Times("console", ready=[500.0, 500.0], plain=[400.0, 400.0]),
    }

    def measure(spec: FunctionSpec, repeat: int, *, beside: bool) -> Times:
        assert beside
        return measured[spec.name]

    monkeypatch.setattr(coldstart, "measure", measure)
    monkeypatch.setattr(coldstart, "FUNCTIONS", [spec for spec in FUNCTIONS if spec.name in measured])
    part = coldstart.run(False, lambda _: None)
    detect, console = part.comparisons
    assert detect.ours.median == 300
    assert detect.ratio.median == 2
    assert detect.aim == round(2 / coldstart.BEGINNING["detect"], 2)
    assert detect.reached
    assert console.ratio.median == 0.8
    assert console.aim is None
    assert {figure.key: figure.aim for figure in part.figures} == {
        "coldstart.detect.ready": 1500.0,
        "coldstart.detect.answered": None,
    }
    assert "detect imports, ms: numpy 60, botocore 40." in part.notes
