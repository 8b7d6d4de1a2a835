"""Ten million photos a day, simulated: the first limit, the waiting of photos, the cost beside Rekognition.

The demand of a photo is measured here on the real handlers; AWS's latencies and quotas are tables with their sources;
the day is a fluid, second by second, and its busiest minute is simulated message by message. Nothing has run in AWS.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np

from abeyance.cost import bill
from abeyance.cost.day import burst_rate, simulate
from abeyance.cost.demand import Demand, stored
from abeyance.cost.forecast import Forecast, forecast, largest_day, seconds
from abeyance.cost.limits import limits
from abeyance.cost.stations import DAY_S, ENTRIES, Embedder, Plan, latencies, stations
from abeyance.pipeline import topology
from benchmarks.comparison import BenchmarkPart, Comparison, Figure, Progress, compare, figure
from benchmarks.demand import measure
from benchmarks.messages import Flow, Outcome, poisson

TARGET = 10_000_000
EMBEDDERS: tuple[Embedder, ...] = ("local", "ecs", "sagemaker")
#: Chains that the ledger would need.
CHAINS = 8
#: Of the busiest hour, simulated before a burst, so that pollers and environments are there.
WARMUP_S = 40
#: Environments of each function that are warm before that.
WARM = 20
_LEDGER = topology.LEDGER.name


def plan(
    embedder: Embedder = "local", photos_a_day: float = TARGET, burst: float = 3.0, **other: object
) -> Plan:
    """Return the plan of the report: the deployment with the given changes (see :class:`Plan`)."""
    given = {"embedder": embedder, "photos_a_day": photos_a_day, "burst": burst, **other}
    return msgspec.convert(given, Plan)


def ready(embedder: Embedder = "local", photos_a_day: float = TARGET) -> Plan:
    """Return a plan that would carry the day: a ledger of several chains, which is not built."""
    return plan(embedder, photos_a_day, chains=CHAINS)


def run(quick: bool, progress: Progress) -> BenchmarkPart:
    """Measure the demand of a photo, simulate, and price it. ``quick`` takes the stored demand."""
    demand = stored() if quick else _measured(progress)
    progress("a day of ten million photos, as deployed")
    deployed = forecast(plan(), demand)
    figures = [*_ledger(demand), *_limits(deployed), *_sweep(demand)]
    figures += _day("deployed", "as deployed", deployed)
    progress("a day of ten million photos, with several chains")
    how = f"with {CHAINS} chains"
    carried = forecast(ready(), demand)
    figures += _day("ready", how, carried)
    progress("the largest daily load within the objective")
    figures += _largest(demand, deployed, carried, quick)
    progress("the burst, message by message")
    length = 20 if quick else 60
    ordinary = busiest(plan(photos_a_day=1e6), demand, length)
    figures += _messages("deployed", "1 M photos a day, as deployed", ordinary)
    outcome = busiest(ready(), demand, length)
    figures += _messages("ready", f"10 M photos a day, {how}", outcome)
    if not quick:
        figures += _failures(demand)
    progress("the cost")
    comparisons, priced = _prices(demand, outcome)
    return BenchmarkPart(
        name="scale",
        comparisons=tuple(comparisons),
        figures=(*figures, *priced),
        notes=_notes(demand, deployed),
    )


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
    station = stations(plan(), demand)[_LEDGER]
    needs = demand.stages[_LEDGER]
    yield _figure(
        "ledger.processor",
        "ledger, ten entries: processor time of one whole core",
        "ms",
        needs.invocation_ms + station.batch * needs.message_ms,
        "measured; the rest of a batch is DynamoDB's latency, one batch after the other",
    )
    yield _figure("ledger.rate", "ledger: entries that its one writer appends", "entries/s", station.rate)
    yield _figure(
        "ledger.partition",
        "ledger: entries that one DynamoDB partition takes",
        "entries/s",
        1000 / demand.entry_units,
        f"{demand.entry_units:.1f} write units each in a transaction, all in the partition 'entries'",
    )


def _limits(found: Forecast) -> Iterator[Figure]:
    first = found.first
    yield _figure(
        "first_limit", f"first limit, full at: {first.name}", "photos/s", first.full_at, first.lever
    )
    for place, limit in enumerate(found.limits[:8], 1):
        evenly = limit.full_at * DAY_S / 1e6
        yield _figure(
            f"limit.{place}",
            f"in use at the peak of 10 M a day: {limit.name}",
            "%",
            100 * limit.peak,
            f"full at {limit.full_at:,.0f} photos/s, {evenly:,.1f} M evenly spread a day; "
            f"{limit.burst:.0%} in the burst",
        )


def _sweep(demand: Demand) -> Iterator[Figure]:
    """Simulate days from half a million photos up: the lag of the ledger, and the limits of the busiest hour."""
    for millions in (0.5, 1, 2, 5, 10, 20):
        planned = plan(photos_a_day=1e6 * millions)
        day = simulate(planned, demand)
        peak = burst_rate(planned) / planned.burst
        binding = [limit.name for limit in limits(planned, demand) if limit.used(peak) > 1]
        yield _figure(
            f"sweep.{millions:g}",
            f"{millions:g} M photos a day, as deployed: ledger behind at most",
            "s",
            day.lag.most,
            f"99 of 100 results within {seconds(day.latency.p99)}; "
            f"binds in the busiest hour: {'; '.join(binding) or 'nothing'}",
        )


def _day(key: str, how: str, found: Forecast) -> Iterator[Figure]:
    what = f"upload to result, 10 M photos a day, {how}"
    for name in ("p50", "p95", "p99"):
        value = getattr(found.latency, name)
        yield _figure(f"latency.{key}.{name}", f"{what}: {name}", "s", value, seconds(value))
    value = found.in_burst.p99
    yield _figure(f"latency.{key}.burst.p99", f"{what}: p99 of the burst", "s", value, seconds(value))
    for name, queue in found.queues.items():
        if queue.most >= 1:
            note = f"the oldest {seconds(queue.oldest)}"
            what_waits = f"most messages waiting for {name}, {how}"
            yield _figure(f"backlog.{key}.{name}", what_waits, "messages", queue.most, note)


def _largest(demand: Demand, deployed: Forecast, carried: Forecast, quick: bool) -> Iterator[Figure]:
    objective = "99 of 100 results within a minute, the ledger less than an hour behind"
    loads = [("deployed", "as deployed", deployed.largest_day, objective)]
    if not quick:
        loads += [
            (f"deployed.{embedder}", f"as deployed, {embedder}", largest_day(plan(embedder), demand), "")
            for embedder in EMBEDDERS[1:]
        ]
    loads.append(("ready", f"with {CHAINS} chains", carried.largest_day, "more than one chain is not built"))
    for key, how, photos, note in loads:
        yield figure(
            f"scale.largest_day.{key}",
            f"largest daily load within the objective, {how}",
            "M photos",
            [photos / 1e6],
            at_least=TARGET / 1e6 if key == "ready" else None,
            note=note,
        )
    for factor in () if quick else (0.5, 2.0):
        known = latencies()
        slower = msgspec.structs.replace(
            known, milliseconds={name: value * factor for name, value in known.milliseconds.items()}
        )
        yield _figure(
            f"ledger.rate.latencies.{factor:g}",
            f"ledger: entries a second, were AWS's latencies {factor:g} times what is assumed",
            "entries/s",
            stations(plan(), demand, slower)[_LEDGER].rate,
        )


def _messages(key: str, how: str, outcome: Outcome) -> Iterator[Figure]:
    found = outcome.latencies[outcome.uploaded >= WARMUP_S]
    for share in (50, 95, 99):
        value = float(np.percentile(found, share))
        what = f"upload to result as a burst begins, message by message, {how}: p{share}"
        yield _figure(f"messages.{key}.p{share}", what, "s", value)


def _failures(demand: Demand) -> Iterator[Figure]:
    """Simulate a failure of one invocation of a thousand: its messages wait for the visibility time-out."""
    flow = Flow(stations(plan(), demand), seed=3, failing=0.001)
    outcome = flow.run(poisson(5, 2000, 3), 3200)
    value = float(np.percentile(outcome.latencies, 99.9))
    yield _figure(
        "failing.p999",
        "upload to result, one invocation of 1 000 fails: 99.9 of 100",
        "s",
        value,
        "a failed message comes back after six times the function's time-out",
    )
    yield _figure(
        "failing.ledger",
        "ledger, one invocation of 1 000 fails: most that an entry was behind",
        "s",
        float(outcome.lags.max()),
        "a failed batch stops its message group for 180 s",
    )


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
        planned = ready(embedder)
        hours = simulate(planned, demand).gpu_hours * bill.DAYS_A_MONTH
        found = bill.estimate(month, planned, prices, demand, fill=fill, gpu_hours=hours)
        ours = (found.photos_total + found.idle_total) * per_million
        for group, what in (("group_1", "index or search"), ("group_2", "detect")):
            theirs = found.rekognition[group] * per_million
            comparisons.append(
                compare(
                    f"scale.price.{embedder}.{group}",
                    f"a million photos of {month / 1e6:,.0f} M a month, {what}, embedder {embedder}",
                    [ours],
                    f"Rekognition {group.replace('_', ' ')}, US East, list price",
                    [theirs],
                    unit="USD",
                    note=note,
                )
            )
        figures += [
            _figure(
                f"cost.{embedder}.{service.lower().replace(' ', '_')}",
                f"a million photos, embedder {embedder}: {service}",
                "USD",
                amount * per_million,
            )
            for service, amount in bill.by_service(found.per_photos).items()
            # The other services cost the same with a GPU, but for a little of Lambda.
            if embedder == "local" or service == "GPU"
        ]
        if embedder == "local":
            kept = f"Rekognition asks {found.rekognition_kept * per_million:.2f} for their faces alone"
            title = "storage of a million photos' records, for a month"
            figures.append(_figure("kept", title, "USD", found.kept_total * per_million, kept))
    return comparisons, figures


def _figure(key: str, what: str, unit: str, value: float, note: str = "") -> Figure:
    # A queue keeps its messages for two weeks.
    return figure(f"scale.{key}", what, unit, [min(value, 14.0 * DAY_S) if unit == "s" else value], note=note)


def _notes(demand: Demand, deployed: Forecast) -> tuple[str, ...]:
    known = latencies()
    prices = bill.stored_prices()
    rates = (
        f"{deployed.mean:,.0f} photos/s on average, {deployed.peak:,.0f} in the busiest hour, "
        f"{deployed.burst:,.0f} in a burst of a quarter of an hour"
    )
    return (
        f"Simulated, not run: 10 M photos a day are {rates}; {ENTRIES} ledger entries a photo; all are indexed, a "
        f"tenth into one collection. {deployed.sentence}",
        f"Demand measured on this project's handlers: {demand.measured}. AWS's latencies are assumptions: {known.note}",
        f"Prices as of {prices['as_of']}: {prices['sources']['rekognition']}.",
    )
