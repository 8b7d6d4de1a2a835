"""What a plan's day is like, and the largest day that is still well."""

from __future__ import annotations

import math

import msgspec

from abeyance.cost.day import Day, Percentiles, burst_seconds, simulate
from abeyance.cost.demand import Demand
from abeyance.cost.limits import limits
from abeyance.cost.stations import DAY, Plan

#: A day is well if 99 of 100 results come within a minute, and the ledger is never an hour behind.
RESULT_WITHIN = 60.0
LEDGER_WITHIN = 3600.0


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """A limit, and the share of it in use: over the day, at its peak and in its burst. Above 1 it binds."""

    name: str
    full_at: float
    mean: float
    peak: float
    burst: float
    lever: str
    quota: str


class Waiting(msgspec.Struct, frozen=True):
    """A queue at its fullest: messages, and the age of the oldest in seconds."""

    most: float
    oldest: float


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """A day in numbers. Times are in seconds."""

    photos_a_day: float
    mean: float
    peak: float
    burst: float
    limits: tuple[Bound, ...]
    queues: dict[str, Waiting]
    latency: Percentiles
    in_burst: Percentiles
    lag: Percentiles
    gpu_hours: float
    #: The largest day that is well.
    largest_day: float
    sentence: str

    @property
    def first(self) -> Bound:
        """The limit that binds first."""
        return self.limits[0]


def forecast(plan: Plan, demand: Demand) -> Forecast:
    """The plan's day."""
    day = simulate(plan, demand)
    mean = plan.photos_a_day / DAY
    burst = float(day.arrivals[burst_seconds(plan)].mean())
    peak = burst / plan.burst
    bounds = tuple(
        Bound(
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
            name: Waiting(float(passed.waiting.max()), float(passed.oldest.max()))
            for name, passed in day.stations.items()
        },
        latency=day.latency,
        in_burst=day.in_burst,
        lag=day.lag,
        gpu_hours=day.gpu_hours,
        largest_day=largest,
        sentence=_sentence(day, bounds[0], largest),
    )


def well(day: Day) -> bool:
    """Whether results and the ledger come in time."""
    return day.latency.p99 <= RESULT_WITHIN and day.lag.most <= LEDGER_WITHIN


def largest_day(plan: Plan, demand: Demand, *, precision: float = 0.02) -> float:
    """Photos of the largest day of the plan's shape that is well; 0 if there is none from 100 000 up.

    An endpoint that goes to sleep makes small days worse than large ones, so every doubling is looked at before the
    last that is well is narrowed down.
    """

    def fits(photos: float) -> bool:
        changed = msgspec.structs.replace(plan, photos_a_day=photos)
        # Whoever waits longer than the ledger may is not well, and need not be waited for.
        return well(simulate(changed, demand, after=LEDGER_WITHIN))

    found = [photos for photos in (1e5 * 2.0**power for power in range(11)) if fits(photos)]
    if not found:
        return 0.0
    low, high = found[-1], 2 * found[-1]
    while high / low > 1 + precision:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _sentence(day: Day, first: Bound, largest: float) -> str:
    results = (
        f"Results: half within {seconds(day.latency.p50)}, 95 of 100 within {seconds(day.latency.p95)}, "
        f"99 within {seconds(day.latency.p99)}."
    )
    if day.ledger_spare < 0:
        ledger = (
            f"The ledger cannot keep up: each day leaves {-day.ledger_spare / 1e6:,.1f} million entries more "
            "unwritten, and its queue keeps a message for two weeks."
        )
    else:
        ledger = f"The ledger is at most {seconds(day.lag.most)} behind."
    most = f"Largest day that is well: {largest / 1e6:,.1f} million." if largest else "No day is well."
    return f"{results} {ledger} {most} First limit: {first.name}."


def seconds(value: float) -> str:
    """``1.3 s``, ``12 min``, ``3.4 h``."""
    if value == float("inf"):
        return "more than two weeks"
    if value < 90:
        return f"{value:.1f} s"
    return f"{value / 60:.0f} min" if value < 5400 else f"{value / 3600:.1f} h"
