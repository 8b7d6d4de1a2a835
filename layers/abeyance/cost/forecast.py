"""The forecast of a plan's day, and the largest daily load within the objective."""

from __future__ import annotations

import math

import msgspec

from abeyance.cost.day import Day, Percentiles, burst_rate, simulate
from abeyance.cost.demand import Demand
from abeyance.cost.limits import limits
from abeyance.cost.stations import DAY_S, Plan

#: The objective: 99 of 100 results within a minute, and the ledger never an hour behind.
RESULT_WITHIN_S = 60.0
LEDGER_WITHIN_S = 3600.0


class LimitUse(msgspec.Struct, frozen=True, kw_only=True):
    """A limit, and the shares of it in use: over the day, at its peak and in its burst. Above 1 it binds."""

    name: str
    full_at: float
    mean: float
    peak: float
    burst: float
    lever: str
    quota: str


class QueuePeak(msgspec.Struct, frozen=True):
    """A queue at its fullest: messages, and the age of the oldest in seconds."""

    most: float
    oldest: float


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """A day in numbers. Times are in seconds."""

    photos_a_day: float
    mean: float
    peak: float
    burst: float
    limits: tuple[LimitUse, ...]
    queues: dict[str, QueuePeak]
    latency: Percentiles
    in_burst: Percentiles
    lag: Percentiles
    gpu_hours: float
    #: In photos a day.
    largest_day: float
    sentence: str

    @property
    def first(self) -> LimitUse:
        """The limit that binds first."""
        return self.limits[0]


def forecast(plan: Plan, demand: Demand) -> Forecast:
    """Simulate the plan's day."""
    day = simulate(plan, demand)
    mean, burst = plan.photos_a_day / DAY_S, burst_rate(plan)
    peak = burst / plan.burst
    bounds = tuple(
        LimitUse(
            name=limit.name,
            full_at=limit.full_at,
            mean=limit.used(mean),
            peak=limit.used(peak),
            burst=limit.used(burst),
            lever=limit.lever,
            quota=limit.quota,
        )
        for limit in limits(plan, demand)
    )
    largest = largest_day(plan, demand)
    return Forecast(
        photos_a_day=plan.photos_a_day,
        mean=mean,
        peak=peak,
        burst=burst,
        limits=bounds,
        queues={
            name: QueuePeak(float(passed.waiting.max()), float(passed.oldest.max()))
            for name, passed in day.stations.items()
        },
        latency=day.latency,
        in_burst=day.in_burst,
        lag=day.lag,
        gpu_hours=day.gpu_hours,
        largest_day=largest,
        sentence=_sentence(day, bounds[0], largest),
    )


def within_objective(day: Day) -> bool:
    """Return whether results and the ledger are in time."""
    return day.latency.p99 <= RESULT_WITHIN_S and day.lag.most <= LEDGER_WITHIN_S


def largest_day(plan: Plan, demand: Demand, *, precision: float = 0.02) -> float:
    """Return the largest daily load of the plan's shape within the objective; 0 if there is none from 100 000 up.

    An endpoint that scales to zero makes small loads worse than large ones. So every doubling is tried, and then the
    interval after the last good one is halved.
    """

    def fits(photos: float) -> bool:
        changed = msgspec.structs.replace(plan, photos_a_day=photos)
        # A load that waits longer than this is beyond the objective, so the rest need not be simulated.
        return within_objective(simulate(changed, demand, after=LEDGER_WITHIN_S))

    found = [photos for photos in (1e5 * 2.0**power for power in range(11)) if fits(photos)]
    if not found:
        return 0.0
    low, high = found[-1], 2 * found[-1]
    while high / low > 1 + precision:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _sentence(day: Day, first: LimitUse, largest: float) -> str:
    results = (
        f"Results: half within {seconds(day.latency.p50)}, 95 of 100 within {seconds(day.latency.p95)}, "
        f"99 within {seconds(day.latency.p99)}."
    )
    ledger = f"The ledger is at most {seconds(day.lag.most)} behind."
    if day.ledger_spare < 0:
        ledger = (
            f"The ledger cannot keep up: each day leaves {-day.ledger_spare / 1e6:,.1f} million entries more "
            "unwritten, and its queue keeps a message for two weeks."
        )
    most = "No daily load is within the objective."
    if largest:
        most = f"Largest daily load within the objective: {largest / 1e6:,.1f} million."
    return f"{results} {ledger} {most} First limit: {first.name}."


def seconds(value: float) -> str:
    """Format as ``1.3 s``, ``12 min`` or ``3.4 h``."""
    if value == float("inf"):
        return "more than two weeks"
    if value < 90:
        return f"{value:.1f} s"
    return f"{value / 60:.0f} min" if value < 5400 else f"{value / 3600:.1f} h"
