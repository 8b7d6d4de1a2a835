"""Batches are cut by chips, across requests; everybody gets his own back, in order."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedder.batcher import Batcher, ModelFailed, Overloaded


def marked(*marks: int) -> np.ndarray:
    """Chips whose every pixel is its mark."""
    return np.stack([np.full((112, 112, 3), mark, np.uint8) for mark in marks])


class Model:
    """Gives each chip its mark back; keeps the sizes of its runs; waits at the gate."""

    def __init__(self) -> None:
        self.runs: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.fails_on = -1

    def __call__(self, chips: np.ndarray) -> np.ndarray:
        self.runs.append(len(chips))
        assert self.gate.wait(10)
        if (chips == self.fails_on).all():
            raise RuntimeError("device lost")
        return chips[:, 0, 0, :2].astype(np.float32)


class Runs:
    """An observer that notes how many chips each run starts with."""

    def __init__(self) -> None:
        self.started_with: list[int] = []

    def started(self, chips: int, waited: float) -> None:
        self.started_with.append(chips)

    def ended(self, chips: int, seconds: float, error: BaseException | None) -> None:
        """Note nothing."""


def run(work: Callable[[Model, Batcher], Coroutine[Any, Any, None]], **how: Any) -> Model:
    model = Model()

    async def main() -> None:
        batcher = Batcher(model, 2, **({"batch": 4, "workers": 1, "capacity": 1000} | how))
        try:
            await work(model, batcher)
        finally:
            model.gate.set()
            batcher.close()

    asyncio.run(main())
    return model


def test_what_waits_is_cut_into_full_batches_across_requests() -> None:
    async def work(model: Model, batcher: Batcher) -> None:
        model.gate.clear()
        futures = [
            batcher.submit(marked(*marks)) for marks in ([1], [2, 3, 4], [5, 6], [7], [8, 9, 10, 11, 12])
        ]
        model.gate.set()
        answers = await asyncio.gather(*futures)
        assert [list(answer[:, 0]) for answer in answers] == [[1], [2, 3, 4], [5, 6], [7], [8, 9, 10, 11, 12]]

    # The first goes at once; then full batches, whatever the borders of the requests.
    assert run(work).runs == [1, 4, 4, 3]


def test_few_chips_are_spread_over_idle_workers() -> None:
    async def work(model: Model, batcher: Batcher) -> None:
        model.gate.clear()
        future = batcher.submit(marked(1, 2, 3, 4))
        model.gate.set()
        assert list((await future)[:, 0]) == [1, 2, 3, 4]

    assert run(work, workers=2, spread=True).runs == [2, 2]


def test_an_incomplete_batch_waits_for_company_only_while_others_are_served() -> None:
    runs = Runs()

    async def work(model: Model, batcher: Batcher) -> None:
        model.gate.clear()
        first = batcher.submit(marked(1))
        assert runs.started_with == [1]  # alone: at once
        rest = [batcher.submit(marked(mark)) for mark in (2, 3)]
        assert runs.started_with == [1]
        while len(runs.started_with) < 2:
            await asyncio.sleep(0.001)
        assert runs.started_with == [1, 2]
        model.gate.set()
        await asyncio.gather(first, *rest)

    run(work, workers=2, linger=0.05, observer=runs)


def test_no_chips_need_no_model() -> None:
    async def work(model: Model, batcher: Batcher) -> None:
        assert (await batcher.submit(np.empty((0, 112, 112, 3), np.uint8))).shape == (0, 2)

    assert run(work).runs == []


def test_past_its_capacity_it_says_when_to_come_again() -> None:
    async def work(model: Model, batcher: Batcher) -> None:
        batcher.reserve(6)
        with pytest.raises(Overloaded) as refused:
            batcher.reserve(5)
        assert 1 <= refused.value.retry_after <= 30
        batcher.release(6)
        batcher.reserve(10)
        assert batcher.pending == 10

    run(work, capacity=10)


def test_a_failed_run_fails_those_who_were_in_it_and_nobody_else() -> None:
    async def work(model: Model, batcher: Batcher) -> None:
        model.fails_on = 1
        futures = [batcher.submit(marked(*[mark] * 4)) for mark in (1, 2)]
        with pytest.raises(ModelFailed, match="RuntimeError"):
            await futures[0]
        assert list((await futures[1])[:, 0]) == [2] * 4
        assert list((await batcher.submit(marked(3)))[:, 0]) == [3]

    run(work)


@pytest.mark.parametrize("answer", [np.full((1, 2), np.nan, np.float32), np.zeros((2, 2), np.float32)])
def test_an_answer_that_is_no_template_is_a_failure(answer: np.ndarray) -> None:
    async def main() -> None:
        batcher = Batcher(lambda chips: answer, 2, batch=4, workers=1, capacity=9)
        with pytest.raises(ModelFailed):
            await batcher.submit(marked(1))
        batcher.close()

    asyncio.run(main())


def test_what_nobody_waits_for_is_not_run() -> None:
    async def work(model: Model, batcher: Batcher) -> None:
        model.gate.clear()
        first, second, third = (batcher.submit(marked(*[mark] * 4)) for mark in (1, 2, 3))
        second.cancel()
        model.gate.set()
        assert list((await first)[:, 0]) == [1] * 4
        assert list((await third)[:, 0]) == [3] * 4

    assert run(work).runs == [4, 4]


def test_a_stuck_run_is_noticed_and_those_who_wait_are_told() -> None:
    now = [100.0]

    async def work(model: Model, batcher: Batcher) -> None:
        model.gate.clear()
        futures = [batcher.submit(marked(mark)) for mark in (1, 2)]
        now[0] += 30
        assert batcher.longest_run() == 30
        batcher.fail(ModelFailed("stuck"))
        for future in futures:
            with pytest.raises(ModelFailed, match="stuck"):
                await future
        model.gate.set()
        while batcher.longest_run():
            await asyncio.sleep(0.001)

    run(work, clock=lambda: now[0])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 9), max_size=25),
    st.integers(1, 7),
    st.integers(1, 3),
    st.booleans(),
    st.sampled_from([0.0, 0.001]),
)
def test_everybody_gets_his_own_back(
    sizes: list[int], batch: int, workers: int, spread: bool, linger: float
) -> None:
    async def work(model: Model, batcher: Batcher) -> None:
        sent = [
            marked(*[number] * size) if size else np.empty((0, 112, 112, 3), np.uint8)
            for number, size in enumerate(sizes)
        ]
        answers = await asyncio.gather(*(batcher.submit(chips) for chips in sent))
        for number, (size, answer) in enumerate(zip(sizes, answers, strict=True)):
            assert answer.shape == (size, 2)
            assert (answer == number).all()

    model = run(work, batch=batch, workers=workers, spread=spread, linger=linger)
    assert sum(model.runs) == sum(sizes)
    assert max(model.runs, default=0) <= batch
