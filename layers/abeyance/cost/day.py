"""A whole day, second by second: photos as a fluid that stations let through as fast as they can.

What a station has let through by a time is the least that any earlier moment allows: what had come by then, and as much
as it can do since (the min-plus convolution of network calculus; Cruz 1991, Le Boudec and Thiran 2001). Photos leave a
queue in the order in which they came, so how long each waited is the horizontal distance of two curves. Waiting that
comes of chance within a second is not in it: that is for :mod:`benchmarks.messages`.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import NDArray

from abeyance.cost.demand import Demand
from abeyance.cost.endpoint import Endpoint
from abeyance.cost.limits import quotas
from abeyance.cost.stations import (
    DAY,
    ENTRIES,
    ROUTES,
    SKEW,
    WAY,
    Latencies,
    Plan,
    Station,
    latencies,
    stations,
)
from abeyance.pipeline import topology

Curve = NDArray[np.float64]
LEDGER = topology.LEDGER.name
#: The hour of the day with most photos.
BUSIEST = 15
#: Seconds that are looked at after the last photo, at most: a queue keeps its messages as long.
_AFTER = 4 * DAY


class Passed(msgspec.Struct, frozen=True):
    """A day at one station; each array has a value a second, (n,) float64."""

    #: Messages that come, that are taken out of the queue, and that wait at the end of the second.
    came: Curve
    taken: Curve
    waiting: Curve
    #: Messages a second that it can take.
    rate: Curve
    #: Servers that are busy.
    servers: Curve
    station: Station

    @property
    def oldest(self) -> Curve:
        """Age of the oldest message in each second, in seconds."""
        came = np.concatenate([[0.0], np.cumsum(self.came)])
        gone = np.cumsum(self.taken)
        # When the message that is next came: the time at which arrivals passed what has gone.
        since = np.searchsorted(came, gone + 1e-6, side="left") - 1
        now = np.arange(len(gone))
        return np.where(self.waiting >= 1, np.maximum(0, now - since), 0).astype(np.float64)


class Percentiles(msgspec.Struct, frozen=True):
    """Of photos, in seconds."""

    p50: float
    p95: float
    p99: float
    most: float


class Day(msgspec.Struct, frozen=True):
    """What a day was like."""

    plan: Plan
    arrivals: Curve
    stations: dict[str, Passed]
    #: From upload to result: of all photos, and of those that come in the burst.
    latency: Percentiles
    in_burst: Percentiles
    #: From an event to its entry on the ledger.
    lag: Percentiles
    #: Seconds from upload to result by the second of upload, while photos come.
    waits: Curve
    gpu_hours: float
    #: What the ledger takes in a day, less what comes: below 0 every day leaves more behind than the one before.
    ledger_spare: float

    @property
    def holds(self) -> bool:
        """Whether each queue is empty again when the day is over."""
        return all(passed.waiting[DAY - 1] < 1000 for passed in self.stations.values())


def arrivals(plan: Plan) -> NDArray[np.int64]:
    """Photos that come in each second of a day, (86400,) int64; they add up to the plan's.

    A wave with its peak at three in the afternoon, and on top of that the burst.
    """
    seconds = np.arange(DAY)
    wave = 1 + (plan.peak - 1) * np.cos(2 * np.pi * (seconds / 3600 - BUSIEST) / 24)
    weights = np.maximum(wave, 0.02)
    weights[burst_seconds(plan)] *= plan.burst
    random = np.random.default_rng(plan.seed)
    return random.multinomial(round(plan.photos_a_day), weights / weights.sum()).astype(np.int64)


def burst_seconds(plan: Plan) -> slice:
    """When the burst is."""
    return slice(BUSIEST * 3600, BUSIEST * 3600 + round(plan.burst_minutes * 60))


def simulate(plan: Plan, demand: Demand, known: Latencies | None = None, *, after: float = _AFTER) -> Day:
    """One day of the plan, with what still waits then worked off for up to ``after`` seconds more.

    Who has not left a queue by then has waited for ever.
    """
    known = known or latencies()
    made = stations(plan, demand, known)
    made[LEDGER] = _ledger(made[LEDGER], plan, demand)
    photos = arrivals(plan).astype(np.float64)
    random = np.random.default_rng(plan.seed)
    horizon = _horizon(plan, made, after)
    come = np.zeros(horizon)
    come[:DAY] = photos
    inflow = {name: np.zeros(horizon) for name in made}
    inflow[WAY[0]] = _later(come, known.seconds["upload_to_queue"])
    passed: dict[str, Passed] = {}
    gpu = None
    for name in (*WAY, LEDGER):
        station = made[name]
        rate = np.full(horizon, station.rate)
        if name == WAY[-1] and plan.embedder != "local":
            gpu = Endpoint(plan, known)
            rate = _with_endpoint(gpu, inflow[name], station, plan, known)
        passed[name] = _pass(station, inflow[name], rate)
        delay = station.seconds(1) + known.seconds["event_to_queue"]
        for listener in ROUTES[name]:
            inflow[listener] += _later(passed[name].taken, delay)
    waits = _waits(passed, known, random)
    burst = burst_seconds(plan)
    lag = _wait(passed[LEDGER], np.arange(horizon, dtype=np.float64)) + made[LEDGER].seconds(1)
    return Day(
        plan=plan,
        arrivals=photos,
        stations=passed,
        latency=_percentiles(waits, photos),
        in_burst=_percentiles(waits[burst], photos[burst]),
        lag=_percentiles(lag, passed[LEDGER].came),
        waits=waits,
        gpu_hours=gpu.minutes / 60 if gpu else 0.0,
        ledger_spare=made[LEDGER].rate * DAY - ENTRIES * plan.photos_a_day,
    )


def _ledger(station: Station, plan: Plan, demand: Demand) -> Station:
    """The writer, with the quotas that bound it whatever it does."""
    known = quotas().quotas
    ceilings = {
        "SQS FIFO": known["sqs_fifo"].value * plan.chains,
        "DynamoDB partition": known["dynamodb_partition_writes"].value / demand.entry_units * plan.chains,
    }
    name = min(ceilings, key=lambda one: ceilings[one])
    return msgspec.structs.replace(station, ceiling=ceilings[name], ceiling_name=name)


def _horizon(plan: Plan, made: dict[str, Station], after: float) -> int:
    """Seconds until the last queue is sure to be empty, or as many as are looked at; whole minutes."""
    entries = {name: ENTRIES if name == LEDGER else 1 for name in made}
    slowest = max(plan.photos_a_day * entries[name] / station.rate for name, station in made.items())
    return DAY + int(min(after, slowest + 7200)) // 60 * 60


def _pass(station: Station, came: Curve, rate: Curve) -> Passed:
    excess = np.cumsum(came - rate)
    waiting = excess - np.minimum.accumulate(np.minimum(excess, 0.0))
    taken = came - np.diff(waiting, prepend=0.0)
    share = np.divide(taken, station.rate, out=np.zeros_like(taken), where=rate > 0)
    return Passed(came, taken, waiting, rate, np.minimum(share, 1) * station.servers, station)


def _with_endpoint(gpu: Endpoint, came: Curve, station: Station, plan: Plan, known: Latencies) -> Curve:
    """What ``recognize`` can take in each second, with as many instances as there are in that minute."""
    a_gpu = 1000 / known.milliseconds["gpu_face"] / max(plan.faces, 0.01)
    rate = np.zeros_like(came)
    waiting = 0.0
    for minute in range(len(came) // 60):
        part = slice(60 * minute, 60 * minute + 60)
        mean = float(came[part].mean())
        busy = (1.0 if waiting else min(1.0, mean / station.rate)) * station.servers
        able = min(station.rate, gpu.minute(minute, waiting, mean, busy) * a_gpu)
        rate[part] = able
        waiting = max(0.0, waiting + float(came[part].sum()) - 60 * able)
    return rate


def _later(curve: Curve, delay: float) -> Curve:
    """The curve after a delay; parts of a second are shared between two."""
    whole, part = divmod(delay, 1.0)
    moved = np.zeros_like(curve)
    first, second = int(whole), int(whole) + 1
    moved[first:] += (1 - part) * curve[: len(curve) - first]
    moved[second:] += part * curve[: len(curve) - second]
    return moved


def _wait(passed: Passed, when: Curve) -> Curve:
    """Seconds in the queue of a message that comes at these times."""
    edges = np.arange(len(passed.came) + 1, dtype=np.float64)
    came = np.concatenate([[0.0], np.cumsum(passed.came)])
    gone = np.concatenate([[0.0], np.cumsum(passed.taken)])
    mine = np.interp(when, edges, came)
    # Where nothing waits the two curves are one; a hair keeps rounding from looking like a wait.
    left = np.interp(mine - 1e-6 * max(1.0, came[-1] / 1e6), gone, edges)
    return np.maximum(0.0, np.where(mine > gone[-1] + 1, math.inf, left - when))


def _waits(passed: dict[str, Passed], known: Latencies, random: np.random.Generator) -> Curve:
    """Seconds from upload to result by the second of upload, (86400,): of one photo that is as lucky as any."""
    now = np.arange(DAY, dtype=np.float64) + 0.5
    start = now - 0.5
    now = start + known.seconds["upload_to_queue"]
    for number, name in enumerate(WAY):
        station = passed[name].station
        wait = _wait(passed[name], now)
        # Whoever has to wait goes in a full batch.
        size = np.where(wait > 1, station.batch, 1)
        luck = random.lognormal(*SKEW, DAY)
        now = now + wait + luck * (station.invocation + size * station.message)
        if number + 1 < len(WAY):
            now = now + known.seconds["event_to_queue"]
    return now - start


def _percentiles(values: Curve, weights: Curve) -> Percentiles:
    order = np.argsort(values)
    shares = np.cumsum(weights[order])
    at = [int(np.searchsorted(shares, share * shares[-1])) for share in (0.5, 0.95, 0.99)]
    p50, p95, p99 = (float(values[order][min(index, len(values) - 1)]) for index in at)
    return Percentiles(p50, p95, p99, float(values[weights > 0].max(initial=0.0)))
