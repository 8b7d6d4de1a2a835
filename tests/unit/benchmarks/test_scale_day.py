"""A day as a fluid: it adds up, agrees with the messages where both can speak, and names what binds."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from abeyance.cost.day import COLLECTION, DAY_S, arrivals, burst_seconds, simulate
from abeyance.cost.demand import stored
from abeyance.cost.forecast import largest_day, seconds, within_objective
from abeyance.cost.limits import limits, quotas
from abeyance.cost.stations import ENTRIES, Embedder, Plan, stations
from benchmarks import scale
from benchmarks.limits_page import limits_table
from benchmarks.messages import Flow, poisson

from .queueing import constant

DEMAND = stored()
SMALL = 500_000

#: A ledger that takes few messages at a time.
SMALL_LEDGER = {"ledger": {"batch_size": 100}}


def test_exactly_as_many_photos_come_as_planned() -> None:
    plan = Plan(photos_a_day=1_234_567, burst=4)
    found = arrivals(plan)
    assert found.sum() == 1_234_567
    assert np.array_equal(found, arrivals(plan))
    assert not np.array_equal(found, arrivals(Plan(photos_a_day=1_234_567, burst=4, seed=2)))
    burst = burst_seconds(plan)
    before = found[burst.start - 900 : burst.start].mean()
    assert found[burst].mean() / before == pytest.approx(4, rel=0.1)
    calm = arrivals(Plan(photos_a_day=8_640_000, burst=1))
    assert calm.reshape(24, -1).mean(axis=1).max() == pytest.approx(180, rel=0.03)


@pytest.mark.parametrize("embedder", ["local", "ecs", "sagemaker"])
def test_what_comes_goes(embedder: Embedder) -> None:
    day = simulate(Plan(embedder=embedder, photos_a_day=SMALL), DEMAND)
    for name, passed in day.stations.items():
        times = {"ledger": ENTRIES, COLLECTION: Plan().largest}.get(name, 1)
        assert passed.arrived.sum() == pytest.approx(SMALL * times, rel=1e-9)
        assert passed.taken.sum() + passed.waiting[-1] == pytest.approx(passed.arrived.sum(), rel=1e-9)
        assert (passed.taken <= passed.rate + 1e-6).all()
        assert (passed.waiting >= -1e-6).all()


def test_a_queue_that_overflows_waits_as_long_as_it_is_deep() -> None:
    """The oldest message's age is the backlog over the rate: the last message waits for all before."""
    day = simulate(Plan(photos_a_day=5_000_000, stages=SMALL_LEDGER), DEMAND)
    ledger = day.stations["ledger"]
    at = int(ledger.waiting.argmax())
    waited = day.lag.most - ledger.station.window
    assert waited > 100
    assert waited == pytest.approx(ledger.waiting[at] / ledger.rate[at], rel=0.02)
    assert ledger.oldest.max() == pytest.approx(waited, rel=0.02)


def test_fluid_and_messages_agree_where_servers_cannot_keep_up() -> None:
    """Both let through what the servers can do; what is left waits."""
    plan = Plan(photos_a_day=150 * DAY_S, peak=1, burst=1, stages=SMALL_LEDGER)
    made = stations(plan, DEMAND)
    found = Flow(made, seed=1, vary=constant).run(poisson(150, 120, 1), 120)
    day = simulate(plan, DEMAND)
    for name in ("recognize", "ledger"):
        taken = day.stations[name].taken[:120].sum()
        assert found.stations[name].batched == pytest.approx(taken, rel=0.12), name
        waiting = day.stations[name].waiting[119]
        assert len(found.stations[name].queue) == pytest.approx(waiting, rel=0.12), name


def test_fluid_and_messages_agree_where_nothing_waits() -> None:
    plan = Plan(photos_a_day=10 * DAY_S, peak=1, burst=1, stages={"ledger": {"memory": 1769}})
    found = Flow(stations(plan, DEMAND), seed=1).run(poisson(10, 200, 1), 220)
    day = simulate(plan, DEMAND)
    assert np.median(found.latencies) == pytest.approx(day.latency.p50, rel=0.05)
    assert np.percentile(found.latencies, 95) == pytest.approx(day.latency.p95, rel=0.1)


def test_more_photos_wait_longer_and_more_servers_shorten_it() -> None:
    lags = [simulate(Plan(photos_a_day=photos), DEMAND).lag.most for photos in (1e6, 2e6, 4e6)]
    assert lags == sorted(lags)
    waits = [
        simulate(Plan(photos_a_day=5e6, stages={"recognize": {"max_concurrency": most}}), DEMAND).latency.p95
        for most in (10, 20, 40, 80, 160)
    ]
    assert waits == sorted(waits, reverse=True)
    assert waits[0] > 100 * waits[-1]


def test_the_limit_that_binds_is_named_and_binds() -> None:
    """At a load just below the first limit every queue is empty again; above, the one behind it is not."""
    for plan, name, binds in (
        (Plan(peak=1, burst=1), "gallery: changes of one collection", COLLECTION),
        (Plan(peak=1, burst=1, largest=0.01, stages=SMALL_LEDGER), "ledger: its head moves", "ledger"),
    ):
        first = limits(plan, DEMAND)[0]
        assert first.name.startswith(name)
        below, above = (
            simulate(msgspec.structs.replace(plan, photos_a_day=share * first.full_a_day), DEMAND)
            for share in (0.97, 1.1)
        )
        behind = [
            {name for name, passed in day.stations.items() if passed.waiting[DAY_S - 1] > 1000}
            for day in (below, above)
        ]
        assert behind == [set(), {binds}]
    assert below.ledger_spare > 0 > above.ledger_spare


@pytest.mark.parametrize(
    ("plan", "name"),
    [
        (Plan(largest=0.9), "gallery: changes of one collection"),
        (Plan(stages={"gate": {"max_concurrency": 2}}), "gate: max_concurrency 2"),
        (Plan(largest=0.01, stages=SMALL_LEDGER), "ledger: its head moves for one at a time"),
        (Plan(embedder="ecs", max_gpus=1, faces=30), "GPUs (ecs)"),
    ],
)
def test_another_limit_is_named_where_another_binds(plan: Plan, name: str) -> None:
    assert limits(plan, DEMAND)[0].name.startswith(name)


def test_every_quota_says_where_it_is_from() -> None:
    known = quotas()
    assert known.read
    for name, quota in known.quotas.items():
        assert quota.url.startswith("https://docs.aws.amazon.com/"), name
        assert quota.title, name
    used = {limit.quota for limit in limits(Plan(), DEMAND)} - {""}
    assert used <= known.quotas.keys()


def test_the_page_says_what_the_model_says() -> None:
    """``python -m benchmarks.limits_page`` writes the table anew."""
    page = (Path(__file__).parents[3] / "docs" / "operations.md").read_text(encoding="utf-8")
    assert limits_table(DEMAND) in page


def test_the_largest_day_is_the_largest() -> None:
    plan = Plan()
    found = largest_day(plan, DEMAND)
    assert 15e6 < found < 25e6
    assert within_objective(simulate(Plan(photos_a_day=0.97 * found), DEMAND))
    assert not within_objective(simulate(Plan(photos_a_day=1.05 * found), DEMAND))


def test_an_endpoint_that_is_wanted_stays() -> None:
    """A queue that is served is empty at every check; the instance stays because messages were received."""
    found = simulate(Plan(embedder="ecs", photos_a_day=SMALL), DEMAND)
    assert found.latency.p99 < 60
    assert found.gpu_hours == pytest.approx(24, abs=0.1)


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.26, "1.3 s"), (600, "10 min"), (7200, "2.0 h"), (float("inf"), "more than two weeks")],
)
def test_times_are_said_in_words(value: float, text: str) -> None:
    assert seconds(value) == text


def test_a_quick_run_names_the_first_limit_and_the_cost() -> None:
    part = scale.run(quick=True, progress=lambda _: None)
    keys = [one.key for one in (*part.comparisons, *part.figures)]
    assert len(keys) == len(set(keys))
    assert all(key.startswith("scale.") for key in keys)
    found = {figure.key: figure for figure in part.figures}
    assert "changes of one collection" in found["scale.first_limit"].what
    assert found["scale.ledger.core"].value.median > 3000
    assert found["scale.ledger.units"].value.median < 0.1
    assert found["scale.largest_day.deployed"].value.median < found["scale.largest_day.ready"].value.median
    assert found["scale.largest_day.ready"].reached
    assert {one.key for one in part.comparisons} == {
        f"scale.price.{embedder}.{group}"
        for embedder in ("local", "ecs", "sagemaker")
        for group in ("group_1", "group_2")
    }
