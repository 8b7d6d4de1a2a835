"""The embedding endpoint's instances, by the rules of infra/constructs/ecs.py and sagemaker.py, minute by minute."""

from __future__ import annotations

import math

from abeyance.cost.stations import DAY, Latencies, Plan

#: SageMaker's target: concurrent requests of one copy.
_TARGET = 20
_COOLDOWN = {"ecs": 15, "sagemaker": 10}
#: Minutes without anything, after which no instance is kept.
_QUIET = 15


class Endpoint:
    """How many instances serve, one step a minute. Begins with one that is warm, as on any day but the first."""

    def __init__(self, plan: Plan, known: Latencies) -> None:
        self._plan = plan
        self._start = math.ceil(known.seconds[f"gpu_start_{plan.embedder}"] / 60)
        self._ready = 1
        #: Minutes at which those serve that are starting.
        self._coming: list[int] = []
        self._changed = -_COOLDOWN[plan.embedder]
        self._quiet = 0
        #: Minutes of instances, on the day itself.
        self.minutes = 0

    def minute(self, now: int, waiting: float, rate: float, busy: float) -> int:
        """Instances that serve in minute ``now``; ``busy`` is the number of requests at the same time."""
        self._ready += sum(when <= now for when in self._coming)
        self._coming = [when for when in self._coming if when > now]
        self._quiet = 0 if waiting or rate else self._quiet + 1
        wanted = (
            self._by_load(busy, waiting) if self._plan.embedder == "sagemaker" else self._by_queue(waiting)
        )
        have = self._ready + len(self._coming)
        if wanted > have:
            self._coming += [now + self._start] * (wanted - have)
            self._changed = now
        elif wanted < have and now - self._changed >= _COOLDOWN[self._plan.embedder]:
            self._ready, self._coming, self._changed = wanted, [], now
        if now < DAY // 60:
            # What is starting is paid for as well.
            self.minutes += self._ready + len(self._coming)
        return self._ready

    def _by_queue(self, waiting: float) -> int:
        """What waits and what was received; down to nothing after a quiet quarter of an hour."""
        if waiting >= 1000:
            return self._plan.max_gpus
        return 0 if self._quiet >= _QUIET else 1

    def _by_load(self, busy: float, waiting: float) -> int:
        if self._ready + len(self._coming) == 0:
            return 1 if waiting else 0
        least = 0 if self._quiet >= _QUIET else 1
        return max(least, min(self._plan.max_gpus, math.ceil(busy / _TARGET - 1e-9)))
