"""The bill adds up, and moves the way it should."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from abeyance.cli import cost

DATA = Path(cost.__file__).parent
PRICES: dict[str, Any] = json.loads((DATA / "prices.json").read_text())
MEASURED = cost.Durations(**json.loads((DATA / "durations.json").read_text()))


def _of(**changes: Any) -> cost.Estimate:
    given = {"photos": 1_000_000, "embedder": "local", "faces": 1.2, "prices": PRICES, "durations": MEASURED}
    return cost.estimate(**{**given, **changes})


def test_totals_are_the_sum_of_their_lines() -> None:
    found = _of()
    assert found.photos_total == pytest.approx(sum(line.amount for line in found.per_photos), abs=0.01)
    assert found.idle_total == pytest.approx(sum(line.amount for line in found.idle_month), abs=0.01)
    assert found.prices_as_of == PRICES["as_of"]


def test_twice_the_photos_cost_twice_as_much_and_nothing_idle_changes() -> None:
    one, two = _of(), _of(photos=2_000_000)
    assert two.photos_total == pytest.approx(2 * one.photos_total, rel=0.01)
    assert two.idle_total == one.idle_total


@pytest.mark.parametrize("embedder", ["sagemaker", "ecs"])
def test_gpu_is_paid_while_busy_only(embedder: str) -> None:
    found = _of(embedder=embedder)
    (gpu,) = [line for line in found.per_photos if line.item.startswith("GPU")]
    assert 0 < gpu.amount < 50
    assert not any(line.item.startswith("GPU") for line in found.idle_month)


def test_a_price_that_is_missing_is_named() -> None:
    with pytest.raises(KeyError, match="s3_put"):
        _of(prices={name: price for name, price in PRICES.items() if name != "s3_put"})


def test_every_stage_was_measured() -> None:
    from abeyance.pipeline import topology

    assert {stage.name for stage in topology.STAGES} <= MEASURED.milliseconds.keys()
