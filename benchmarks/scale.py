"""Ten million photos a day, simulated: the first limit, the waiting of photos, the cost beside Rekognition.

The demand of a photo is measured here on the real handlers; AWS's latencies and quotas are tables with their sources;
the day is a fluid, second by second, and its busiest minute is simulated message by message. Nothing has run in AWS.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np

from abeyance.cost import bill
from abeyance.cost.day import burst_rate, simulate
from abeyance.cost.demand import Demand, stored
from abeyance.cost.flood import PUTS_A_SECOND, simulate_flood
from abeyance.cost.forecast import Forecast, forecast, largest_day, seconds
from abeyance.cost.limits import limits
from abeyance.cost.stations import DAY_S, ENTRIES, WAY, Embedder, Plan, latencies, stations
from abeyance.pipeline import topology
from benchmarks.comparison import BenchmarkPart, Comparison, Figure, Progress, compare, figure
from benchmarks.demand import measure
from benchmarks.messages import Flow, Outcome, poisson

TARGET = 10_000_000
EMBEDDERS: tuple[Embedder, ...] = ("local", "ecs", "sagemaker")
#: Every stage with so many times its invocations.
RAISED = 4
#: Share of the photos of the largest collection, where collections are many, and the largest days that are aimed at.
SPREAD = 0.05
AIM_DEPLOYED, AIM_SPREAD = 17e6, 50e6
#: Of the busiest hour, simulated before a burst, so that pollers and environments are there.
WARMUP_S = 40
#: Environments of each function that are warm before that.
WARM = 20
_LEDGER = topology.LEDGER.name


def run(quick: bool, progress: Progress) -> BenchmarkPart:
    """Measure the demand of a photo, simulate, and price it. ``quick`` takes the stored demand."""
    demand = stored() if quick else _measured(progress)
    # As deployed; and with more invocations of the stages, which is a number in the topology each.
    deployed, ready, how = Plan(), raised_plan(), f"with {RAISED} times the invocations"
    progress("a day of ten million photos, as deployed")
    day = forecast(deployed, demand)
    figures = [*_ledger(demand), *_limits(day), *_sweep(demand), *_day("deployed", "as deployed", day)]
    progress("a day of ten million photos, with more invocations")
    carried = forecast(ready, demand)
    figures += _day("ready", how, carried)
    progress("the largest daily load within the objective")
    figures += _largest(demand, day, carried, quick)
    if not quick:
        figures += _latencies(demand)
    progress("the burst, message by message")
    length = 20 if quick else 60
    ordinary = busiest(Plan(photos_a_day=1e6), demand, length)
    figures += _messages("deployed", "1 M photos a day, as deployed", ordinary)
    outcome = busiest(ready, demand, length)
    figures += _messages("ready", f"10 M photos a day, {how}", outcome)
    if not quick:
        figures += _failures(demand)
    progress("a million photos of one tenant at once")
    figures += _flood(demand)
    progress("the cost")
    comparisons, priced = _prices(demand, outcome)
    return BenchmarkPart(
        name="scale",
        comparisons=tuple(comparisons),
        figures=(*figures, *priced),
        notes=_notes(demand, day),
    )


def raised_plan(**choices: Any) -> Plan:
    """Return a plan whose stages may run :data:`RAISED` times as often at the same time; the ledger as deployed."""
    stages = {
        name: {"max_concurrency": RAISED * next(s for s in topology.STAGES if s.name == name).max_concurrency}
        for name in WAY
    }
    return Plan(stages=stages, **choices)


def busiest(planned: Plan, demand: Demand, length: float, *, seed: int = 1) -> Outcome:
    """Simulate the first ``length`` seconds of the burst by message, after :data:`WARMUP_S` of the busiest hour."""
    burst = burst_rate(planned)
    warm_up = poisson(burst / planned.burst, WARMUP_S, seed)
    uploads = WARMUP_S + poisson(burst, length, seed + 1)
    flow = Flow(stations(planned, demand), seed=seed, warm=WARM)
    return flow.run(np.concatenate([warm_up, uploads]), WARMUP_S + length)


def _measured(progress: Progress) -> Demand:
    from benchmarks.pipeline import sample_photos

    progress("the demand of a photo on every stage")
    return measure(sample_photos(10), rounds=1)


def _ledger(demand: Demand) -> Iterator[Figure]:
    station, needs = stations(Plan(), demand)[_LEDGER], demand.stages[_LEDGER]
    yield _figure(
        "ledger.processor",
        "ledger, a full batch: processor time of one whole core",
        "ms",
        needs.invocation_ms + station.batch * needs.message_ms,
        f"measured; {station.batch:,} entries, which is what an invocation takes in",
    )
    what = "ledger: entries that one core writes, with AWS as fast as memory"
    yield _figure(
        "ledger.core", what, "entries/s", 1000 / needs.message_ms, f"{needs.message_ms} ms an entry"
    )
    what = "ledger: entries that its two sequencers write"
    yield _figure("ledger.rate", what, "entries/s", station.rate, "the head moves for one at a time")
    what = "ledger: write units of DynamoDB for an entry of a full batch"
    yield _figure("ledger.units", what, "units", needs.write_units, "two for each batch")


def _limits(found: Forecast) -> Iterator[Figure]:
    first = found.first
    what = f"first limit, full at: {first.name}"
    yield _figure("first_limit", what, "photos/s", first.full_at, first.lever)
    for place, limit in enumerate(found.limits[:8], 1):
        what = f"in use at the peak of 10 M a day: {limit.name}"
        evenly = limit.full_at * DAY_S / 1e6
        full = f"full at {limit.full_at:,.0f} photos/s, {evenly:,.1f} M evenly spread a day"
        yield _figure(
            f"limit.{place}", what, "%", 100 * limit.peak, f"{full}; {limit.burst:.0%} in the burst"
        )


def _sweep(demand: Demand) -> Iterator[Figure]:
    """Simulate days from half a million photos up: the lag of the ledger, and the limits of the busiest hour."""
    for millions in (0.5, 1, 2, 5, 10, 20):
        planned = Plan(photos_a_day=1e6 * millions)
        day, peak = simulate(planned, demand), burst_rate(planned) / planned.burst
        binding = [limit.name for limit in limits(planned, demand) if limit.used(peak) > 1]
        note = (
            f"99 of 100 results within {seconds(day.latency.p99)}; "
            f"binds in the busiest hour: {'; '.join(binding) or 'nothing'}"
        )
        what = f"{millions:g} M photos a day, as deployed: ledger behind at most"
        yield _figure(f"sweep.{millions:g}", what, "s", day.lag.most, note)


def _day(key: str, how: str, found: Forecast) -> Iterator[Figure]:
    what = f"upload to result, 10 M photos a day, {how}"
    values = {name: getattr(found.latency, name) for name in ("p50", "p95", "p99")}
    for name, value in (*values.items(), ("burst.p99", found.in_burst.p99)):
        share = name.replace("burst.p99", "p99 of the burst")
        yield _figure(f"latency.{key}.{name}", f"{what}: {share}", "s", value, seconds(value))
    for name, queue in found.queues.items():
        if queue.most >= 1:
            note = f"the oldest {seconds(queue.oldest)}"
            what_waits = f"most messages waiting for {name}, {how}"
            yield _figure(f"backlog.{key}.{name}", what_waits, "messages", queue.most, note)


def _largest(demand: Demand, deployed: Forecast, carried: Forecast, quick: bool) -> Iterator[Figure]:
    objective = "99 of 100 results within a minute, the ledger less than an hour behind"
    loads = [("deployed", "as deployed", deployed.largest_day, objective)]
    for embedder in () if quick else EMBEDDERS[1:]:
        most = largest_day(Plan(embedder=embedder), demand)
        loads.append((f"deployed.{embedder}", f"as deployed, {embedder}", most, ""))
    how = f"with {RAISED} times the invocations"
    loads.append(("ready", how, carried.largest_day, carried.first.name))
    spread = raised_plan(largest=SPREAD)
    how = f"{how}, and no collection with more than {SPREAD:.0%} of the photos"
    loads.append(("spread", how, largest_day(spread, demand), limits(spread, demand)[0].name))
    aims = {"deployed": AIM_DEPLOYED, "ready": TARGET, "spread": AIM_SPREAD}
    for key, how, photos, note in loads:
        yield figure(
            f"scale.largest_day.{key}",
            f"largest daily load within the objective, {how}",
            "M photos",
            [photos / 1e6],
            at_least=aims[key] / 1e6 if key in aims else None,
            note=note,
        )


def _latencies(demand: Demand) -> Iterator[Figure]:
    known = latencies()
    for factor in (0.5, 2.0):
        assumed = {name: value * factor for name, value in known.milliseconds.items()}
        station = stations(Plan(), demand, msgspec.structs.replace(known, milliseconds=assumed))[_LEDGER]
        what = f"ledger: entries a second, were AWS's latencies {factor:g} times what is assumed"
        yield _figure(f"ledger.rate.latencies.{factor:g}", what, "entries/s", station.rate)


def _messages(key: str, how: str, outcome: Outcome) -> Iterator[Figure]:
    found = outcome.latencies[outcome.uploaded >= WARMUP_S]
    for share in (50, 95, 99):
        value = float(np.percentile(found, share))
        what = f"upload to result as a burst begins, message by message, {how}: p{share}"
        yield _figure(f"messages.{key}.p{share}", what, "s", value)


def _flood(demand: Demand) -> Iterator[Figure]:
    """Simulate a million photos of one tenant at once, on a day of a million photos of others."""
    planned = Plan(photos_a_day=1e6, burst=1.0)
    for key, how in (("line", "in one line"), ("fair", "with fair queues")):
        found = simulate_flood(planned, demand, fair=key == "fair")
        what = f"others' upload to result while one tenant uploads a million photos at once, {how}"
        note = f"at {PUTS_A_SECOND:,.0f} PUTs a second; its own last result after {seconds(found.flood_done)}"
        yield _figure(f"flood.{key}.p50", f"{what}: p50", "s", found.others.p50)
        yield _figure(f"flood.{key}.p99", f"{what}: p99", "s", found.others.p99)
        yield _figure(f"flood.{key}.most", f"{what}: most", "s", found.others.most, note)


def _failures(demand: Demand) -> Iterator[Figure]:
    """Simulate a failure of one invocation of a thousand: its messages wait for the visibility time-out."""
    flow = Flow(stations(Plan(), demand), seed=3, failing=0.001)
    outcome = flow.run(poisson(5, 2000, 3), 3200)
    what = "upload to result, one invocation of 1 000 fails: 99.9 of 100"
    note = "a failed message comes back after six times the function's time-out"
    yield _figure("failing.p999", what, "s", float(np.percentile(outcome.latencies, 99.9)), note)
    what = "ledger, one invocation of 1 000 fails: most that an entry was behind"
    note = "a failed batch is delivered again after its visibility time-out"
    yield _figure("failing.ledger", what, "s", float(outcome.lags.max()), note)


def _prices(demand: Demand, outcome: Outcome) -> tuple[list[Comparison], list[Figure]]:
    prices = bill.stored_prices()
    fill = {name: seen.fill for name, seen in outcome.stations.items()}
    month = TARGET * bill.DAYS_A_MONTH
    per_million = 1e6 / month
    note = (
        "computed, not billed. Ours has every service, the PUT of the upload and an idle month in it; theirs is the "
        "price of the operation alone. Neither has storage, free tiers or discounts."
    )
    comparisons, figures = [], []
    for embedder in EMBEDDERS:
        planned = raised_plan(embedder=embedder)
        hours = simulate(planned, demand).gpu_hours * bill.DAYS_A_MONTH
        found = bill.estimate(month, planned, prices, demand, fill=fill, gpu_hours=hours)
        ours = (found.photos_total + found.idle_total) * per_million
        for group, kind in (("group_1", "index or search"), ("group_2", "detect")):
            what = f"a million photos of {month / 1e6:,.0f} M a month, {kind}, embedder {embedder}"
            other = f"Rekognition {group.replace('_', ' ')}, US East, list price"
            both = [ours], other, [found.rekognition[group] * per_million]
            comparisons.append(compare(f"scale.price.{embedder}.{group}", what, *both, unit="USD", note=note))
        for service, amount in bill.by_service(found.per_photos).items():
            # The other services cost the same with a GPU, but for a little of Lambda.
            if embedder == "local" or service == "GPU":
                key = f"cost.{embedder}.{service.lower().replace(' ', '_')}"
                what = f"a million photos, embedder {embedder}: {service}"
                figures.append(_figure(key, what, "USD", amount * per_million))
        if embedder == "local":
            kept = f"Rekognition asks {found.rekognition_kept * per_million:.2f} for their faces alone"
            title = "storage of a million photos' records, for a month"
            figures.append(_figure("kept", title, "USD", found.kept_total * per_million, kept))
    return comparisons, figures


def _figure(key: str, what: str, unit: str, value: float, note: str = "") -> Figure:
    # A queue keeps its messages for two weeks.
    return figure(f"scale.{key}", what, unit, [min(value, 14.0 * DAY_S) if unit == "s" else value], note=note)


def _notes(demand: Demand, deployed: Forecast) -> tuple[str, ...]:
    known, prices = latencies(), bill.stored_prices()
    return (
        f"Simulated, not run: 10 M photos a day are {deployed.mean:,.0f} photos/s on average, {deployed.peak:,.0f} in "
        f"the busiest hour, {deployed.burst:,.0f} in a burst of a quarter of an hour; {ENTRIES} ledger entries a "
        f"photo; all are indexed, a tenth into one collection. {deployed.sentence}",
        f"Demand measured on this project's handlers: {demand.measured}. AWS's latencies are assumptions: {known.note}",
        f"Prices as of {prices['as_of']}: {prices['sources']['rekognition']}.",
    )
