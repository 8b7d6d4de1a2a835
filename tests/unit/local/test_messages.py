"""A backlog costs no more a message than a few do, and a random history ends as in a plain model."""

from __future__ import annotations

import random

import pytest
from moto.sqs.models import Message
from tests.effort import counted

from abeyance.local.messages import MessageStore


def message(name: str, group: str | None = None) -> Message:
    made = Message(name, "body")
    made.group_id = group
    made.sent_timestamp = 1  # type: ignore[assignment]
    return made


def take(store: MessageStore, most: int, now: float, visibility_s: int = 30) -> list[Message]:
    received, dead = store.take(most, now, visibility_s=visibility_s, max_receives=0, retained_ms=1e15)
    assert dead == []
    return received


@pytest.mark.parametrize("fifo", [False, True])
def test_the_effort_of_a_message_does_not_grow_with_the_backlog(
    fifo: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moto.sqs.models.unix_time_millis", lambda: 1000.0)
    calls = []
    for backlog in (20, 20_000):
        store = MessageStore(fifo=fifo)
        for number in range(backlog):
            store.add(message(str(number), f"group-{number % 7}"), 1000.0)
        with counted() as effort:
            for number in range(20):
                store.add(message(f"more-{number}", "group-0"), 1000.0)
                (received,) = take(store, 1, 1000.0)
                assert store.visible(1000.0) + store.not_visible(1000.0) == len(store)
                store.delete(received)
        calls.append(effort.calls)
        assert len(store) == backlog
    few, many = calls
    # The depth of a heap is all that may grow.
    assert many < 1.5 * few


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("fifo", [False, True])
def test_a_random_history_ends_as_in_a_plain_model(
    seed: int, fifo: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model walks over all messages, as moto does."""
    now = [1000.0]
    monkeypatch.setattr("moto.sqs.models.unix_time_millis", lambda: now[0])
    chance, store = random.Random(seed), MessageStore(fifo=fifo)
    model: list[Message] = []
    pending: set[str] = set()
    for step in range(300):
        now[0] += chance.choice([0, 1, 500, 5000])
        pending = {one.id for one in model if one.id in pending and one.visible_at > now[0]}
        action = chance.choice("aattdh")
        if action == "a":
            made = message(f"m{step}", chance.choice("xyz"))
            made.delayed_until = now[0] + chance.choice([0, 0, 3000])
            store.add(made, now[0])
            model.append(made)
        elif action == "t":
            pending = {one.id for one in model if one.id in pending and one.visible_at > now[0]}
            blocked = {one.group_id for one in model if one.id in pending} if fifo else set()
            free = [
                one.id
                for one in model
                if max(one.visible_at, one.delayed_until) <= now[0] and one.group_id not in blocked
            ]
            received = take(store, most := chance.randint(1, 4), now[0], chance.choice([1, 10]))
            assert len(received) == min(most, len(free))
            if fifo:
                for group in "xyz":
                    ids = [one.id for one in received if one.group_id == group]
                    wanted = [one.id for one in model if one.id in free and one.group_id == group]
                    assert ids == wanted[: len(ids)]
            else:
                assert [one.id for one in received] == free[:most]
            pending |= {one.id for one in received}
        elif model and (flying := [one for one in model if one.receipt_handle]):
            one = chance.choice(flying)
            assert store.find(str(one.receipt_handle)) is one
            if action == "d":
                store.delete(one)
                model.remove(one)
            else:
                store.visible(now[0])
                one.change_visibility(chance.choice([0, 2, 20]))
                store.hide(one, now[0])
                pending = {one.id for one in model if one.id in pending and one.visible_at > now[0]}
        assert len(store) == len(model)
        assert store.delayed(now[0]) + store.visible(now[0]) + store.not_visible(now[0]) == len(model)
