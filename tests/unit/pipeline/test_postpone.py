"""A message that waits for an endpoint goes back into its queue uncounted, but not for ever."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from abeyance.pipeline.batch import Batch, Message
from abeyance.pipeline.postpone import MAX_DELAY_S, Postpone, delay_s

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Sqs:
    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.failing = False

    def get_queue_url(self, QueueName: str) -> dict[str, str]:
        return {"QueueUrl": f"https://sqs/{QueueName}"}

    def send_message(self, **message: Any) -> None:
        if self.failing:
            raise ConnectionError
        self.sent.append(message)


def message(number: int, age: timedelta) -> Message:
    time = (NOW - age).isoformat().replace("+00:00", "Z")
    return Message(str(number), 3, {"time": time, "detail-type": "Faces Detected", "detail": {"n": number}})


def failures(postpone: Postpone, *messages: Message, least_s: float = 1.0) -> list[str]:
    batch = Batch.of(messages)
    postpone(batch, least_s)
    return batch.failures


def test_a_message_is_sent_again_as_it_came() -> None:
    sqs = Sqs()
    given = message(7, timedelta(seconds=4))
    assert failures(Postpone(sqs, "abeyance-recognize", now=lambda: NOW), given, least_s=15.0) == []
    (sent,) = sqs.sent
    assert sent["QueueUrl"] == "https://sqs/abeyance-recognize"
    assert json.loads(sent["MessageBody"]) == given.envelope
    assert 11 <= sent["DelaySeconds"] <= 19


def test_a_message_that_cannot_be_sent_or_is_too_old_fails() -> None:
    sqs = Sqs()
    postpone = Postpone(sqs, "q", give_up=timedelta(days=1), now=lambda: NOW)
    odd = Message("9", 1, {"detail": {}})
    assert failures(postpone, message(1, timedelta(days=2)), message(2, timedelta(0)), odd) == ["1", "9"]
    sqs.failing = True
    assert failures(postpone, message(3, timedelta(0))) == ["3"]


@pytest.mark.parametrize(
    ("age", "low", "high"), [(0, 1, 2), (60, 11, 19), (1200, 225, 375), (86400, 900, MAX_DELAY_S)]
)
def test_the_delay_grows_with_the_age(age: int, low: int, high: int) -> None:
    for _ in range(50):
        assert low <= delay_s(timedelta(seconds=age), 1.0) <= high
