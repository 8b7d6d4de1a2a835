"""Workers shared between callers: one whose requests take long makes no other wait."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from abeyance.local.lanes import COSTLY_S, Lanes, TooManyRequests

#: A moment for threads to come to where they wait; only a test that fails depends on it.
_MOMENT_S = 0.2
_WITHIN_S = 20.0


class StubWorker:
    """A warm worker whose events cost what the test says."""

    def __init__(self, background: bool) -> None:
        self.background = background
        self.seconds = 0.0
        self.answered = 100


@pytest.fixture
def lanes() -> Lanes:
    start: Any = StubWorker
    return Lanes(start, 2)


def send(lanes: Lanes, caller: str, seconds: float) -> bool:
    """Send a request that costs so much; return True if it was served in the background."""
    with lanes.take(caller) as worker:
        worker.seconds = seconds
        return bool(worker.background)  # type: ignore[attr-defined]


def test_a_caller_is_in_the_background_until_its_cost_is_known(lanes: Lanes) -> None:
    assert [send(lanes, "acme", 0.1) for _ in range(3)] == [True, False, False]
    assert send(lanes, "globex", 0.1)


def test_a_costly_caller_stays_there_and_returns_when_it_has_changed(lanes: Lanes) -> None:
    assert [send(lanes, "globex", 3 * COSTLY_S) for _ in range(5)] == [True] * 5
    found = [send(lanes, "globex", COSTLY_S / 10) for _ in range(10)]
    assert found[0]
    assert not found[-1]
    assert sorted(found, reverse=True) == found


def test_a_caller_that_becomes_costly_leaves_the_foreground(lanes: Lanes) -> None:
    send(lanes, "acme", 0.1)
    found = [send(lanes, "acme", 3 * COSTLY_S) for _ in range(3)]
    assert found == [False, False, True]


def test_cold_starts_are_no_cost_of_the_caller(lanes: Lanes) -> None:
    for worker in lanes.workers:
        worker.answered = 1
    assert all(send(lanes, "acme", 10 * COSTLY_S) for _ in range(3))
    for worker in lanes.workers:
        worker.answered = 100
    assert [send(lanes, "acme", 0.1), send(lanes, "acme", 0.1)] == [True, False]


def test_costly_requests_hold_nobody_up(lanes: Lanes) -> None:
    send(lanes, "acme", 0.1)
    send(lanes, "globex", 3 * COSTLY_S)
    end, order = threading.Event(), list[str]()

    def costly() -> None:
        with lanes.take("globex"):
            order.append("globex")
            end.wait(_WITHIN_S)

    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(costly) for _ in range(6)]
        assert [send(lanes, "acme", 0.1) for _ in range(20)] == [False] * 20
        new = pool.submit(lambda: order.append("new") if send(lanes, "initech", 0.1) else None)
        threading.Event().wait(_MOMENT_S)
        end.set()
        new.result(_WITHIN_S)
        for one in waiting:
            one.result(_WITHIN_S)
    assert order == ["globex", "new", *["globex"] * 5]


def test_costly_requests_leave_room_for_others(lanes: Lanes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("abeyance.local.lanes._MAX_REQUESTS", 3)
    monkeypatch.setattr("abeyance.local.lanes._MAX_COSTLY", 1)
    send(lanes, "acme", 0.1)
    send(lanes, "globex", 3 * COSTLY_S)
    with lanes.take("globex"):
        with pytest.raises(TooManyRequests):
            send(lanes, "globex", 0.1)
        with lanes.take("acme"), lanes.take("acme"), pytest.raises(TooManyRequests):
            send(lanes, "acme", 0.1)
        assert not send(lanes, "acme", 0.1)


def test_a_burst_of_a_new_caller_leaves_the_background_when_its_cost_is_known(lanes: Lanes) -> None:
    start, served = threading.Barrier(40), list[bool]()

    def one(_: int) -> None:
        start.wait()
        served.append(send(lanes, "acme", 0.1))

    with ThreadPoolExecutor(40) as pool:
        list(pool.map(one, range(40)))
    assert len(served) == 40
    assert served.count(True) == 1


def test_a_wait_has_an_end() -> None:
    start: Any = StubWorker
    lanes = Lanes(start, 1, max_wait_s=0.01)
    with lanes.take("acme"), pytest.raises(TooManyRequests):
        send(lanes, "acme", 0.1)
    assert not send(lanes, "acme", 0.1)


def test_a_request_that_fails_gives_its_worker_back(lanes: Lanes) -> None:
    for _ in range(40):
        with pytest.raises(ValueError, match="failed"), lanes.take("acme"):
            raise ValueError("failed")
    assert not send(lanes, "acme", 0.1)
