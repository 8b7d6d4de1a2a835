"""While there is a backlog, the gate's messages go back once, under their tenant's group; otherwise none does."""

from __future__ import annotations

import json
from typing import Any

import pytest

from abeyance.pipeline.batch import Batch, Message, answer
from abeyance.pipeline.fairness import BACKLOG_S, NO_TENANT, SORT_S, GroupByTenant, group_of

NOW = 1_800_000_000.0


class Sqs:
    def __init__(self) -> None:
        self.calls: list[list[dict[str, Any]]] = []
        self.failed: list[dict[str, Any]] = []

    def get_queue_url(self, QueueName: str) -> dict[str, str]:
        return {"QueueUrl": f"https://sqs/{QueueName}"}

    def send_message_batch(self, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:
        assert QueueUrl == "https://sqs/abeyance-gate"
        assert len(Entries) <= 10
        self.calls.append(Entries)
        return {"Failed": self.failed}


def envelope(key: str) -> dict[str, Any]:
    return {"detail-type": "Object Created", "detail": {"bucket": {"name": "b"}, "object": {"key": key}}}


def run(sqs: Sqs, *messages: Message) -> tuple[list[str], list[str]]:
    """The ids that reached the stage, and those that failed."""
    reached: list[str] = []
    stage = GroupByTenant(
        lambda batch: reached.extend(message.id for message in batch),
        lambda: sqs,
        "abeyance-gate",
        "b",
        lambda: NOW,
    )
    batch = Batch.of(messages)
    stage(batch)
    return reached, batch.failures


def test_what_waits_goes_back_under_its_tenant() -> None:
    sqs = Sqs()
    old = [
        Message(str(n), 1, envelope(f"{tenant}/index/c/{n}"), NOW - BACKLOG_S - 1)
        for n, tenant in enumerate(["acme", "globex", "Not A Tenant"])
    ]
    assert run(sqs, Message("fresh", 1, envelope("acme/index/c/x"), NOW - BACKLOG_S + 1)) == (["fresh"], [])
    assert run(sqs, *old) == ([], [])
    (entries,) = sqs.calls
    assert [entry["MessageGroupId"] for entry in entries] == ["acme", "globex", NO_TENANT]
    back = [Message(entry["Id"], 1, json.loads(entry["MessageBody"]), NOW - 999) for entry in entries]
    assert [message.envelope["detail"] for message in back] == [message.envelope["detail"] for message in old]
    # Each goes back once, however long it waits in its group.
    assert run(sqs, *back) == (["0", "1", "2"], [])
    assert len(sqs.calls) == 1


def test_a_message_that_failed_before_keeps_its_count() -> None:
    sqs = Sqs()
    assert run(sqs, Message("a", 2, envelope("acme/index/c/x"), NOW - 999)) == (["a"], [])
    assert run(sqs, Message("a", 1, envelope("acme/index/c/x"))) == (["a"], [])
    assert sqs.calls == []


def test_what_sqs_does_not_take_has_failed() -> None:
    sqs = Sqs()
    sqs.failed = [{"Id": "0", "Code": "InternalError"}]
    again = Message("b", 2, envelope("k"), NOW - 999)
    assert run(sqs, Message("a", 1, envelope("acme/index/c/x"), NOW - 999), again) == (["b"], ["a"])


def test_once_there_is_a_backlog_fresh_messages_are_sorted_too_for_a_while() -> None:
    sqs, moments, reached = Sqs(), [NOW], []
    stage = GroupByTenant(reached.extend, lambda: sqs, "abeyance-gate", "b", lambda: moments[0])
    stage(Batch.of([Message("old", 1, envelope("acme/index/c/x"), NOW - BACKLOG_S - 1)]))
    for passed, behind in ((SORT_S - 1, 0), (SORT_S + 1, 1)):
        moments[0] = NOW + passed
        stage(Batch.of([Message("fresh", 1, envelope("globex/index/c/x"), moments[0])]))
        assert len(reached) == behind
    assert [call[0]["MessageGroupId"] for call in sqs.calls] == ["acme", "globex"]


def test_more_messages_than_one_call_takes() -> None:
    sqs = Sqs()
    run(sqs, *(Message(str(n), 1, envelope("acme/index/c/x"), NOW - 999) for n in range(25)))
    assert [len(call) for call in sqs.calls] == [10, 10, 5]


@pytest.mark.parametrize(
    ("detail", "group"),
    [
        ({"upload": {"tenant": "acme", "key": "globex/index/c/x"}}, "acme"),
        ({"upload": {"tenant": ""}}, NO_TENANT),
        ({"object": {"key": "acme/search/c/x"}}, "acme"),
        ({"object": {"key": "acme"}}, "acme"),
        ({"object": {"key": "../x"}}, NO_TENANT),
        ({"bucket": {"name": "uploads"}, "object": {"key": "acme/search/c/x"}}, "acme"),
        ({"bucket": {"name": "doors"}, "object": {"key": "acme/search/c/x"}}, "bucket/doors"),
        ({}, NO_TENANT),
    ],
)
def test_group(detail: dict[str, Any], group: str) -> None:
    assert group_of({"detail": detail}, "uploads") == group


def test_age_is_read_from_the_record() -> None:
    seen: list[Message] = []
    record = {"messageId": "1", "body": "{}", "attributes": {"SentTimestamp": "1700000000500"}}
    answer({"Records": [record, {**record, "attributes": {}}]}, seen.extend)
    assert [message.sent for message in seen] == [1_700_000_000.5, 0.0]
