"""Instances of the embedding endpoint, minute by minute, by the scaling rules of infra/constructs."""

from __future__ import annotations

import math

from abeyance.cost.stations import DAY_S, Plan, latencies

#: SageMaker's target: concurrent requests of one copy.
_TARGET = 20
_COOLDOWN_MIN = {"ecs": 15, "sagemaker": 10}
#: After so many minutes without messages no instance is kept.
_QUIET_MIN = 15


class GpuFleet:
    """The instances that serve, one step a minute. The first minute has a warm one, as on any day but the first."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._start = math.ceil(latencies().seconds[f"gpu_start_{plan.embedder}"] / 60)
        self._ready = 1
        #: Minutes at which the starting ones begin to serve.
        self._starting: list[int] = []
        self._changed = -_COOLDOWN_MIN[plan.embedder]
        self._quiet = 0
        #: Paid minutes of instances, on the day itself.
        self.minutes = 0

    def minute(self, now: int, waiting: float, rate: float, busy: float) -> int:
        """Return the instances that serve in minute ``now``; ``busy`` is the number of concurrent requests."""
        self._ready += sum(when <= now for when in self._starting)
        self._starting = [when for when in self._starting if when > now]
        self._quiet = 0 if waiting or rate else self._quiet + 1
        wanted = (
            self._by_load(busy, waiting) if self._plan.embedder == "sagemaker" else self._by_queue(waiting)
        )
        have = self._ready + len(self._starting)
        if wanted > have:
            self._starting += [now + self._start] * (wanted - have)
            self._changed = now
        elif wanted < have and now - self._changed >= _COOLDOWN_MIN[self._plan.embedder]:
            self._ready, self._starting, self._changed = wanted, [], now
        if now < DAY_S // 60:
            # Starting instances are paid as well.
            self.minutes += self._ready + len(self._starting)
        return self._ready

    def _by_queue(self, waiting: float) -> int:
        """Scale by waiting and received messages, down to nothing after a quiet quarter of an hour."""
        if waiting >= 1000:
            return self._plan.max_gpus
        return 0 if self._quiet >= _QUIET_MIN else 1

    def _by_load(self, busy: float, waiting: float) -> int:
        if self._ready + len(self._starting) == 0:
            return 1 if waiting else 0
        least = 0 if self._quiet >= _QUIET_MIN else 1
        return max(least, min(self._plan.max_gpus, math.ceil(busy / _TARGET - 1e-9)))
