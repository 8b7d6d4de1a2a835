"""One tenant's flood: what the others wait, in one line and with fair queues."""

from __future__ import annotations

import pytest

from abeyance.cost.day import simulate
from abeyance.cost.demand import stored
from abeyance.cost.flood import PUTS_A_SECOND, simulate_flood
from abeyance.cost.stations import WAY, Plan, stations
from abeyance.pipeline.fairness import BACKLOG_S

PLAN = Plan(photos_a_day=1e6, burst=1.0)


def test_fair_queues_keep_the_others_waiting_short() -> None:
    demand = stored()
    line, fair = (simulate_flood(PLAN, demand, fair=fair) for fair in (False, True))
    # In one line, the last of the others waits about as long as the flood takes, less its own upload.
    slowest = min(stations(PLAN, demand)[name].rate for name in WAY)
    assert line.others.most == pytest.approx(1e6 / slowest - 1e6 / PUTS_A_SECOND, rel=0.05)
    assert fair.others.p50 < 2
    assert fair.others.most < BACKLOG_S + 5
    # The flood itself is hardly slower: what it loses is what the others need, and the sorting.
    assert line.flood_done <= fair.flood_done < 1.05 * line.flood_done


def test_without_a_flood_nothing_waits() -> None:
    demand = stored()
    day = simulate(PLAN, demand)
    for fair in (False, True):
        assert simulate_flood(PLAN, demand, 100.0, fair=fair).others.most < day.latency.most
