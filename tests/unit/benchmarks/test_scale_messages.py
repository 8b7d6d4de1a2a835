"""The simulation, message by message: it agrees with the textbooks, loses nothing, and repeats itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest

from abeyance.cost.demand import stored
from abeyance.cost.stations import ENTRIES, Plan, Station, stations
from abeyance.pipeline import events, topology
from benchmarks.messages import Flow, Outcome, Vary, poisson, skewed

from .queueing import constant, erlang_c, exponential, mean_wait, mean_wait_constant

DEMAND = stored()


def station(**given: Any) -> Station:
    """One server that takes a tenth of a second a message, but for what is given."""
    plain = {
        "name": "only",
        "batch": 1,
        "servers": 1,
        "first_servers": 1000,
        "servers_a_second": 0.0,
        "invocation": 0.0,
        "message": 0.1,
        "between": 0.0,
        "memory": 256,
        "visibility": 30.0,
        "max_receives": 5,
        "whole": False,
    }
    made = {**plain, **given}
    made["first_servers"] = min(made["first_servers"], made["servers"])
    return Station(**made)


def alone(one: Station, rate: float, seconds: float, *, vary: Vary = exponential, **other: Any) -> Outcome:
    """The station by itself, with Poisson arrivals; none in the last tenth, so that most is done."""
    flow = Flow({"only": one}, seed=7, vary=vary, routes={"only": ()}, way=("only",), **other)
    return flow.run(poisson(rate, 0.9 * seconds, 11), seconds)


@pytest.mark.parametrize(("servers", "load"), [(1, 0.7), (4, 3.2), (20, 17.0)])
def test_waiting_agrees_with_erlang_c(servers: int, load: float) -> None:
    found = alone(station(servers=servers), rate=load / 0.1, seconds=30_000 / (load / 0.1))
    waited = np.array(found.stations["only"].waited)
    assert np.mean(waited > 1e-9) == pytest.approx(erlang_c(servers, load), rel=0.12)
    assert waited.mean() == pytest.approx(mean_wait(servers, load / 0.1, 0.1), rel=0.15)


@pytest.mark.parametrize("servers", [1, 6])
def test_constant_service_waits_half_as_long(servers: int) -> None:
    rate = 0.8 * servers / 0.1
    found = alone(station(servers=servers), rate=rate, seconds=20_000 / rate, vary=constant)
    assert np.mean(found.stations["only"].waited) == pytest.approx(
        mean_wait_constant(servers, rate, 0.1), rel=0.12
    )


def test_erlang_c_has_the_values_of_its_tables() -> None:
    """One server is busy as often as it is loaded; ten with eight erlangs make 40.9 of 100 wait."""
    assert erlang_c(1, 0.3) == pytest.approx(0.3)
    assert erlang_c(10, 8.0) == pytest.approx(0.409, abs=5e-4)
    assert erlang_c(400, 300.0) == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match="less than"):
        erlang_c(2, 2.0)


def test_littles_law() -> None:
    """Messages in the queue, on average, are arrivals a second times seconds that each waits."""
    flow = Flow(
        {"only": station(servers=3, batch=4, invocation=0.05)},
        seed=7,
        vary=skewed,
        routes={"only": ()},
        way=("only",),
    )
    lengths = []

    def watch() -> Iterator[Any]:
        while True:
            yield flow.environment.timeout(0.01)
            lengths.append(len(flow.stations["only"].queue))

    flow.environment.process(watch())
    found = flow.run(poisson(22, 400, 11), 400)
    waited = found.stations["only"].waited
    assert np.mean(lengths) > 1
    assert np.mean(lengths) == pytest.approx(len(waited) / 400 * np.mean(waited), rel=0.02)


@pytest.mark.parametrize("failing", [0.0, 0.05])
def test_nothing_is_lost_and_nothing_is_doubled(failing: float) -> None:
    made = stations(Plan(), DEMAND)
    flow = Flow(made, seed=2, failing=failing)
    found = flow.run(poisson(6, 120, 3), 120 + 5 * 360)
    dead = sum(seen.dead for seen in found.stations.values())
    assert len(found.latencies) + dead == found.photos
    if not failing:
        assert (found.entries == ENTRIES).all()
    assert found.entries.max() == ENTRIES
    assert found.entries.sum() + found.stations["ledger"].dead == sum(
        found.stations[name].done for name in ("gate", "detect", "recognize")
    )
    for seen in found.stations.values():
        assert seen.arrived == seen.done + seen.dead
        assert not seen.queue


def test_a_message_that_always_fails_is_set_aside() -> None:
    found = alone(station(max_receives=3, visibility=1.0), rate=1, seconds=60, failing=1.0)
    seen = found.stations["only"]
    assert (seen.done, seen.dead, seen.invocations) == (0, found.photos, 3 * found.photos)


def test_a_batch_is_gathered_for_its_window() -> None:
    """Until it is full: then it goes at once."""
    slow, fast = (
        alone(station(batch=50, window=5.0, message=0.0), rate=rate, seconds=400, vary=constant)
        for rate in (2, 200)
    )
    assert 5 < slow.stations["only"].fill < 20
    assert 4.9 < max(slow.stations["only"].waited) < 5.1
    assert fast.stations["only"].fill > 45
    assert np.mean(fast.stations["only"].waited) < 1


def test_the_same_seed_is_the_same_run() -> None:
    runs = [
        Flow(stations(Plan(), DEMAND), seed=seed, failing=0.01).run(poisson(20, 20, seed), 30)
        for seed in (4, 4, 5)
    ]
    assert np.array_equal(runs[0].latencies, runs[1].latencies)
    for name, seen in runs[0].stations.items():
        assert (seen.waited, seen.failed) == (runs[1].stations[name].waited, runs[1].stations[name].failed)
    assert not np.array_equal(runs[0].latencies, runs[2].latencies)


def test_more_servers_are_never_slower() -> None:
    photos = poisson(60, 30, 1)
    found = []
    for most in (5, 10, 20, 40):
        plan = Plan(stages={"recognize": {"max_concurrency": most}})
        found.append(Flow(stations(plan, DEMAND), seed=1, vary=constant).run(photos, 300).latencies.mean())
    assert found == sorted(found, reverse=True)
    assert found[0] > 2 * found[-1]


def test_a_batch_is_taken_as_soon_as_a_server_is_free() -> None:
    """Under load the queue fills batches by itself; without, each message goes alone."""
    idle = alone(station(batch=10, invocation=0.2, message=0.01), rate=0.5, seconds=400, vary=constant)
    busy = alone(station(batch=10, invocation=0.2, message=0.01), rate=30, seconds=400, vary=constant)
    assert idle.stations["only"].fill < 1.15
    assert 6 < busy.stations["only"].fill <= 10


def test_pollers_are_added_in_time_only() -> None:
    """Lambda begins with some servers: a burst waits until there are more."""
    slow = station(servers=50, first_servers=5, servers_a_second=5.0)
    at_once = msgspec.structs.replace(slow, first_servers=50)
    waited = [np.mean(alone(one, rate=200, seconds=30).stations["only"].waited) for one in (slow, at_once)]
    assert waited[0] > 10 * waited[1]


def test_a_cold_environment_takes_longer() -> None:
    found = [alone(station(servers=8, cold=2.0), rate=20, seconds=60, warm=warm) for warm in (8, 0)]
    assert found[1].latencies.max() > 2.0 > found[0].latencies.max()


def test_stations_are_the_topologys() -> None:
    made = stations(Plan(), DEMAND)
    for stage in (topology.GATE, topology.DETECT, topology.RECOGNIZE, topology.LEDGER):
        found = made[stage.name]
        if stage is not topology.LEDGER:  # whose batches have 6 MB
            assert found.batch == stage.batch_size
        assert found.visibility == stage.visibility_timeout
        assert found.max_receives == stage.max_receives
        assert found.servers == stage.max_concurrency
        assert found.seconds(found.batch) < stage.timeout


def test_routes_are_the_topologys() -> None:
    """Each stage's first event goes where its subscribers are, the ledger among them."""
    from abeyance.cost.stations import ROUTES

    for stage in topology.STAGES:
        if stage.name not in ROUTES or not stage.emits:
            continue
        said = stage.emits[0].detail_type
        heard = {
            other.name
            for other in topology.STAGES
            for subscription in other.consumes
            if subscription.source == topology.SOURCE
            and subscription.media != events.VIDEO
            and (not subscription.detail_types or said in subscription.detail_types)
        }
        assert set(ROUTES[stage.name]) == heard
