"""A whole day, second by second: photos as a fluid that stations let through as fast as they can.

The output of a station up to a time is the least that any earlier moment allows: the arrivals until that moment, and
the station's full rate since (the min-plus convolution of network calculus; Cruz 1991, Le Boudec and Thiran 2001).
Photos leave a queue in the order of arrival, so the wait of each is the horizontal distance of two curves. Random
waiting within a second is left out; the message-by-message simulation in ``benchmarks/messages.py`` has it.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import NDArray

from abeyance.cost.demand import Demand
from abeyance.cost.endpoint import GpuFleet
from abeyance.cost.limits import change_s
from abeyance.cost.stations import DAY_S, ENTRIES, ROUTES, SKEW, WAY, Plan, Station, latencies, stations
from abeyance.pipeline import topology

Curve = NDArray[np.float64]
LEDGER = topology.LEDGER.name
#: The changes of the largest collection, which go one after the other.
COLLECTION = "largest collection"
#: The hour of the day with most photos.
BUSIEST = 15
#: Simulated after the day: a queue keeps its messages as long.
_AFTER_S = 4 * DAY_S


class StationDay(msgspec.Struct, frozen=True):
    """A day at one station; each array has a value a second, (n,) float64."""

    #: Messages that arrive, that are taken out of the queue, and that wait at the end of the second.
    arrived: Curve
    taken: Curve
    waiting: Curve
    #: Capacity in messages a second.
    rate: Curve
    station: Station

    @property
    def oldest(self) -> Curve:
        """Age of the oldest message in each second, in seconds."""
        came = np.concatenate([[0.0], np.cumsum(self.arrived)])
        gone = np.cumsum(self.taken)
        # The next message arrived when the arrivals passed the departures.
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
    """A simulated day."""

    stations: dict[str, StationDay]
    #: From upload to result: of all photos, and of those of the burst.
    latency: Percentiles
    in_burst: Percentiles
    #: From an event to its entry on the ledger.
    lag: Percentiles
    gpu_hours: float
    #: Entries that the ledger could take beyond those of the day; below 0 its backlog grows every day.
    ledger_spare: float


def arrivals(plan: Plan) -> NDArray[np.int64]:
    """Return the photos that arrive in each second of a day, (86400,) int64; their sum is the plan's.

    A wave with its peak at three in the afternoon, and the burst on top of it.
    """
    seconds = np.arange(DAY_S)
    wave = 1 + (plan.peak - 1) * np.cos(2 * np.pi * (seconds / 3600 - BUSIEST) / 24)
    weights = np.maximum(wave, 0.02)
    weights[burst_seconds(plan)] *= plan.burst
    random = np.random.default_rng(plan.seed)
    return random.multinomial(round(plan.photos_a_day), weights / weights.sum()).astype(np.int64)


def burst_seconds(plan: Plan) -> slice:
    """Return the seconds of the burst."""
    return slice(BUSIEST * 3600, BUSIEST * 3600 + round(plan.burst_minutes * 60))


def burst_rate(plan: Plan) -> float:
    """Return the photos a second in the burst; the busiest hour has that over ``plan.burst``."""
    return float(arrivals(plan)[burst_seconds(plan)].mean())


def simulate(plan: Plan, demand: Demand, *, after: float = _AFTER_S) -> Day:
    """Simulate one day of the plan, and up to ``after`` seconds more in which the queues are worked off.

    Photos that are still in a queue then count as waiting for ever.
    """
    known = latencies()
    made = stations(plan, demand)
    photos = arrivals(plan).astype(np.float64)
    # Until the last queue is sure to be empty.
    messages = {name: plan.photos_a_day * (ENTRIES if name == LEDGER else 1) for name in made}
    slowest = max(messages[name] / station.rate for name, station in made.items())
    horizon = DAY_S + int(min(after, slowest + 7200)) // 60 * 60
    uploads = np.zeros(horizon)
    uploads[:DAY_S] = photos
    inflow = {name: np.zeros(horizon) for name in made}
    inflow[WAY[0]] = later(uploads, known.seconds["upload_to_queue"])
    passed: dict[str, StationDay] = {}
    gpu = None
    for name in (*WAY, LEDGER):
        station = made[name]
        rate = np.full(horizon, station.rate)
        if name == WAY[-1] and plan.embedder != "local":
            gpu = GpuFleet(plan)
            rate = _with_endpoint(gpu, inflow[name], station, plan)
        passed[name] = pass_station(station, inflow[name], rate)
        delay = station.seconds(1) + known.seconds["event_to_queue"]
        for listener in ROUTES[name]:
            inflow[listener] += later(passed[name].taken, delay)
    # The photos of the largest collection also wait for each other.
    came = plan.largest * passed[WAY[-1]].taken
    collection = _largest_collection(plan)
    passed[COLLECTION] = pass_station(collection, came, np.full(horizon, collection.rate))
    waits, burst = _waits(passed, plan), burst_seconds(plan)
    behind = waits + waits_at(passed[COLLECTION], np.arange(DAY_S, dtype=np.float64) + waits)
    shares = (1 - plan.largest) * photos, plan.largest * photos
    written = made[LEDGER].seconds(1) + made[LEDGER].window
    lag = waits_at(passed[LEDGER], np.arange(horizon, dtype=np.float64)) + written
    return Day(
        stations=passed,
        latency=percentiles(np.concatenate([waits, behind]), np.concatenate(shares)),
        in_burst=percentiles(
            np.concatenate([waits[burst], behind[burst]]), np.concatenate([share[burst] for share in shares])
        ),
        lag=percentiles(lag, passed[LEDGER].arrived),
        gpu_hours=gpu.minutes / 60 if gpu else 0.0,
        ledger_spare=made[LEDGER].rate * DAY_S - ENTRIES * plan.photos_a_day,
    )


def _largest_collection(plan: Plan) -> Station:
    """Return the changes of the largest collection as a station: one photo after the other."""
    took = change_s(plan)
    return Station(
        name=COLLECTION,
        batch=1,
        servers=1,
        first_servers=1,
        servers_a_second=0.0,
        invocation=took,
        message=0.0,
        between=0.0,
        memory=0,
        visibility=math.inf,
        max_receives=1,
        whole=False,
    )


def pass_station(station: Station, came: Curve, rate: Curve) -> StationDay:
    """Return the day of a station by its arrivals and its rate, messages in each second."""
    excess = np.cumsum(came - rate)
    waiting = excess - np.minimum.accumulate(np.minimum(excess, 0.0))
    return StationDay(came, came - np.diff(waiting, prepend=0.0), waiting, rate, station)


def _with_endpoint(gpu: GpuFleet, came: Curve, station: Station, plan: Plan) -> Curve:
    """Return the rate of ``recognize`` in each second, with the endpoint's instances of that minute."""
    a_gpu = 1000 / latencies().milliseconds["gpu_face"] / max(plan.faces, 0.01)
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


def later(curve: Curve, delay: float) -> Curve:
    """Return the curve after a delay; a fraction of a second is shared between two."""
    whole, part = divmod(delay, 1.0)
    moved = np.zeros_like(curve)
    first, second = int(whole), int(whole) + 1
    moved[first:] += (1 - part) * curve[: len(curve) - first]
    moved[second:] += part * curve[: len(curve) - second]
    return moved


def waits_at(passed: StationDay, when: Curve) -> Curve:
    """Return the seconds in the queue of messages that arrive at these times."""
    edges = np.arange(len(passed.arrived) + 1, dtype=np.float64)
    came = np.concatenate([[0.0], np.cumsum(passed.arrived)])
    gone = np.concatenate([[0.0], np.cumsum(passed.taken)])
    mine = np.interp(when, edges, came)
    # Without a queue the two curves are one; the small difference keeps rounding from becoming a wait.
    left = np.interp(mine - 1e-6 * max(1.0, came[-1] / 1e6), gone, edges)
    return np.maximum(0.0, np.where(mine > gone[-1] + 1, math.inf, left - when))


def _waits(passed: dict[str, StationDay], plan: Plan) -> Curve:
    """Return the seconds from upload to result by the second of upload, (86400,): of one random photo each."""
    known, random = latencies().seconds, np.random.default_rng(plan.seed)
    start = np.arange(DAY_S, dtype=np.float64)
    now = start + known["upload_to_queue"]
    for name in WAY:
        station = passed[name].station
        wait = waits_at(passed[name], now)
        # A photo that waits goes in a full batch.
        size = np.where(wait > 1, station.batch, 1)
        spread = random.lognormal(*SKEW, DAY_S)
        now = now + wait + spread * (station.invocation + size * station.message)
        if name != WAY[-1]:
            now = now + known["event_to_queue"]
    return now - start


def percentiles(values: Curve, weights: Curve) -> Percentiles:
    """Return the percentiles of values, each of which counts so many times."""
    order = np.argsort(values)
    shares = np.cumsum(weights[order])
    at = [int(np.searchsorted(shares, share * shares[-1])) for share in (0.5, 0.95, 0.99)]
    p50, p95, p99 = (float(values[order][min(index, len(values) - 1)]) for index in at)
    return Percentiles(p50, p95, p99, float(values[weights > 0].max(initial=0.0)))
