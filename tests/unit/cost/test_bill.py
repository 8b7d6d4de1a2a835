"""The bill adds up, and moves the way it should."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from abeyance.cli.main import app
from abeyance.cost import bill, demand
from abeyance.cost.stations import Plan
from abeyance.pipeline import topology

PRICES = bill.stored_prices()
DEMAND = demand.stored()


def _of(photos: float = 1_000_000, prices: bill.Prices = PRICES, **other: Any) -> bill.Estimate:
    fill = other.pop("fill", None)
    return bill.estimate(photos, Plan(**other), prices, DEMAND, fill=fill)


def test_totals_are_the_sum_of_their_lines() -> None:
    found = _of()
    assert found.photos_total == pytest.approx(sum(line.amount for line in found.per_photos), abs=0.01)
    assert found.idle_total == pytest.approx(sum(line.amount for line in found.idle_month), abs=0.01)
    assert sum(bill.by_service(found.per_photos).values()) == pytest.approx(found.photos_total, abs=0.01)
    assert found.prices_as_of == PRICES["as_of"]


def test_twice_the_photos_cost_twice_as_much_and_nothing_idle_changes() -> None:
    one, two = _of(), _of(2_000_000)
    assert two.photos_total == pytest.approx(2 * one.photos_total, rel=0.01)
    assert two.kept_total == pytest.approx(2 * one.kept_total, rel=0.01)
    assert two.idle_total == one.idle_total


def test_fuller_batches_are_cheaper() -> None:
    full = {stage.name: float(stage.batch_size) for stage in topology.STAGES}
    assert _of(fill=full).photos_total < _of().photos_total


@pytest.mark.parametrize(
    ("embedder", "instance"), [("sagemaker", "sagemaker:ml.g5.xlarge"), ("ecs", "ecs:g5.xlarge")]
)
def test_a_gpu_is_paid_for_as_long_as_photos_come(embedder: str, instance: str) -> None:
    """One that is busy for a hundredth of the time costs as much as one that is busy all the time."""
    found = _of(1_000_000, embedder=embedder, photos_a_day=2_000_000)
    (gpu,) = [line for line in found.per_photos if line.service == "GPU"]
    assert gpu.quantity == pytest.approx(12)
    assert gpu.amount == pytest.approx(12 * PRICES["gpu_hour"][instance], abs=0.01)
    assert not any(line.service == "GPU" for line in found.idle_month)


def test_rekognition_is_priced_tier_by_tier() -> None:
    tiers, prices = (1e6, 4e6, 30e6), (0.001, 0.0008, 0.0006, 0.0004)
    assert bill.tiered(0, tiers, prices) == 0
    assert bill.tiered(5e5, tiers, prices) == pytest.approx(500)
    assert bill.tiered(5e6, tiers, prices) == pytest.approx(1000 + 3200)
    assert bill.tiered(100e6, tiers, prices) == pytest.approx(1000 + 3200 + 18_000 + 26_000)


def test_an_hour_of_video_is_mostly_processor_time() -> None:
    found = _of()
    (frames,) = [line for line in found.video_hour if line.item == "frames"]
    assert frames.amount >= 0.9 * found.video_total > 0
    assert found.rekognition_video == pytest.approx(60 * PRICES["rekognition"]["video_minute"])


def test_a_price_that_is_missing_is_named() -> None:
    with pytest.raises(KeyError, match="s3_put"):
        _of(prices={name: price for name, price in PRICES.items() if name != "s3_put"})


def test_every_stage_and_every_call_is_known() -> None:
    """Every measured call has a duration."""
    from abeyance.cost.stations import latencies

    assert {stage.name for stage in topology.PHOTO_STAGES} == DEMAND.stages.keys()
    called = {
        name for needs in DEMAND.stages.values() for name in (*needs.invocation_calls, *needs.message_calls)
    }
    assert called <= latencies().milliseconds.keys()


def test_the_command_says_bill_and_limits(tmp_path: Any) -> None:
    run = CliRunner().invoke(app, ["cost", "--photos", "1000000", "--a-day", "10000000", "--json"])
    assert run.exit_code == 0, run.output
    found = json.loads(run.output)
    assert found["bill"]["photos_total"] == _of(photos_a_day=10_000_000).photos_total
    assert found["day"]["limits"][0]["name"].startswith("gallery: changes of one collection")
    own = tmp_path / "demand.json"
    own.write_bytes(msgspec.json.encode(msgspec.structs.replace(DEMAND, measured="elsewhere")))
    shown = CliRunner().invoke(app, ["cost", "--demand", str(own)])
    assert shown.exit_code == 0, shown.output
    assert "elsewhere" in shown.output
    assert CliRunner().invoke(app, ["cost", "--embedder", "abacus"]).exit_code == 2
