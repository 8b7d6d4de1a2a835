"""One tenant uploads very many photos at once: the waiting of everybody else's, with fair queues and without.

The fluid of :mod:`abeyance.cost.day` in two colours. Without fairness both wait in one line, in the order of arrival.
With it, a fair queue delivers the quiet tenants' messages whenever there is one, and the flood takes what is left.
Events of S3 have no group: in the gate's queue both colours stand in one line until the gate has put what waits back
under its tenant's group (:mod:`abeyance.pipeline.fairness`), which here takes precedence over everything else it does.
That SQS takes a moment to notice a noisy tenant, and an arriving message's wait for a free server, are left out.
"""

from __future__ import annotations

import msgspec
import numpy as np

from abeyance.cost.day import (
    BUSIEST,
    Curve,
    Percentiles,
    StationDay,
    arrivals,
    later,
    pass_station,
    percentiles,
    waits_at,
)
from abeyance.cost.demand import Demand
from abeyance.cost.stations import DAY_S, WAY, Latencies, Plan, Station, latencies, stations
from abeyance.pipeline.fairness import BACKLOG_S, SORT_S

#: PUTs a second to one prefix of a bucket, by S3's guide to performance: the fastest that a tenant uploads.
PUTS_A_SECOND = 3_500.0
_START_S = BUSIEST * 3600


class FloodDay(msgspec.Struct, frozen=True):
    """A day with a flood. Times are in seconds."""

    #: From upload to result, of the photos of the others that are uploaded until the flood is worked off.
    others: Percentiles
    #: Of the flood: from its first upload to its last result.
    flood_done: float


class _Passed(msgspec.Struct, frozen=True):
    """The outflow of a station by colour, and the others' wait by the second of arrival; (n,) float64."""

    others: Curve
    flood: Curve
    wait: Curve


def simulate_flood(plan: Plan, demand: Demand, photos: float = 1e6, *, fair: bool) -> FloodDay:
    """Simulate the plan's day with a flood of so many photos of one tenant from three in the afternoon."""
    known, made = latencies(), stations(plan, demand)
    slowest = min(made[name].rate for name in WAY)
    horizon = DAY_S + int(photos / slowest)
    others, flood = np.zeros(horizon), np.zeros(horizon)
    others[:DAY_S] = arrivals(plan)
    seconds = int(np.ceil(photos / PUTS_A_SECOND))
    flood[_START_S : _START_S + seconds] = photos / seconds
    uploaded = others
    when = np.arange(horizon, dtype=np.float64)
    now = when + known.seconds["upload_to_queue"]
    others, flood = (later(curve, known.seconds["upload_to_queue"]) for curve in (others, flood))
    for name in WAY:
        station = made[name]
        if not fair:
            passed = _in_one_line(station, others, flood)
        elif name == WAY[0]:
            passed = _regrouped(station, others, flood, known)
        else:
            passed = _fair(station, others, flood)
        now = now + np.interp(now, when, passed.wait) + station.seconds(1) + known.seconds["event_to_queue"]
        delay = station.seconds(1) + known.seconds["event_to_queue"]
        others, flood = later(passed.others, delay), later(passed.flood, delay)
    done = int(np.searchsorted(np.cumsum(flood), photos * (1 - 1e-6)))
    during = slice(_START_S, done)
    return FloodDay(percentiles((now - when)[during], uploaded[during]), float(done - _START_S))


def _in_one_line(station: Station, others: Curve, flood: Curve) -> _Passed:
    both = pass_station(station, others + flood, np.full_like(others, station.rate))
    return _Passed(*_colours(both, others, flood), waits_at(both, np.arange(len(others), dtype=np.float64)))


def _fair(station: Station, others: Curve, flood: Curve) -> _Passed:
    rate = np.full_like(others, station.rate)
    first = pass_station(station, others, rate)
    rest = pass_station(station, flood, rate - first.taken)
    return _Passed(first.taken, rest.taken, waits_at(first, np.arange(len(others), dtype=np.float64)))


def _colours(both: StationDay, others: Curve, flood: Curve) -> tuple[Curve, Curve]:
    """Return the outflow of each colour from one line: those leave that arrived first."""
    edges = np.arange(len(others) + 1, dtype=np.float64)
    since = np.interp(_total(both.taken), _total(both.arrived), edges)
    first, second = (np.diff(np.interp(since, edges, _total(curve))) for curve in (others, flood))
    return first, second


def _total(curve: Curve) -> Curve:
    return np.concatenate([[0.0], np.cumsum(curve)])


def _regrouped(station: Station, others: Curve, flood: Curve, known: Latencies) -> _Passed:
    """Pass the gate: one line without groups, sorted as fast as the gate can send, and behind it a fair queue."""
    sending = known.milliseconds["sqs.SendMessage"] / 1000 + station.between
    sort_rate = station.servers * station.batch / sending
    line = np.cumsum(others + flood)
    n = len(line)
    served, moved = np.zeros(n), np.zeros(n)
    gone, oldest, sorts_until = 0.0, 0, 0.0
    for second in range(n):
        while oldest < second and line[oldest] <= gone + 1e-9:
            oldest += 1
        waits = line[second] - gone
        if second - oldest > BACKLOG_S:
            sorts_until = second + SORT_S
        if second < sorts_until:
            moved[second] = min(waits, sort_rate)
        else:
            served[second] = min(waits, station.rate)
        gone += moved[second] + served[second]
    rate = np.full(n, station.rate)
    out = StationDay(others + flood, served + moved, np.zeros(n), rate, station)
    first_others, first_flood = _colours(out, others, flood)
    share = np.divide(moved, served + moved, out=np.zeros(n), where=served + moved > 0)
    left = np.maximum(0.0, rate * (1 - moved / sort_rate) - served)
    quiet = pass_station(station, first_others * share, left)
    noisy = pass_station(station, first_flood * share, np.maximum(0.0, left - quiet.taken))
    when = np.arange(n, dtype=np.float64)
    in_line = waits_at(out, when)
    in_group = np.interp(when + in_line, when, waits_at(quiet, when) * (share > 0))
    return _Passed(
        first_others * (1 - share) + quiet.taken, first_flood * (1 - share) + noisy.taken, in_line + in_group
    )
