"""One contract for SQS, held to by moto's queue and by the one that stands in its place locally, through boto3."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto import mock_aws
from moto.sqs import models
from moto.sqs.models import Message, SQSBackend
from tests.tables import moto_client

from abeyance.local import sqs as stored


class Sqs:
    """A client, and a clock that stands until it is moved."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._now_s = 1.8e9
        monkeypatch.setattr(models, "unix_time", lambda: self._now_s)
        monkeypatch.setattr(models, "unix_time_millis", lambda: 1000 * self._now_s)
        self.client = moto_client("sqs")

    def wait(self, seconds: float) -> None:
        self._now_s += seconds

    def queue(self, name: str = "queue", **attributes: str) -> str:
        fifo = {"FifoQueue": "true"} if name.endswith(".fifo") else {}
        made = self.client.create_queue(QueueName=name, Attributes={**fifo, **attributes})
        return str(made["QueueUrl"])

    def send(self, url: str, body: str, **more: Any) -> str:
        return str(self.client.send_message(QueueUrl=url, MessageBody=body, **more)["MessageId"])

    def receive(self, url: str, most: int = 10, **more: Any) -> list[dict[str, Any]]:
        names: dict[str, Any] = {"AttributeNames": ["All"], "MessageAttributeNames": ["All"], **more}
        found = self.client.receive_message(QueueUrl=url, MaxNumberOfMessages=most, **names)
        self.wait(0.01)
        return list(found.get("Messages", []))

    def bodies(self, url: str, most: int = 10, **more: Any) -> list[str]:
        return [message["Body"] for message in self.receive(url, most, **more)]

    def delete(self, url: str, message: dict[str, Any]) -> None:
        self.client.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])

    def hide(self, url: str, message: dict[str, Any], seconds: int) -> None:
        self.client.change_message_visibility(
            QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=seconds
        )
        self.wait(0.01)

    def counts(self, url: str) -> tuple[int, int, int]:
        """Messages that are visible, in flight and delayed."""
        found = self.client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        names = ("", "NotVisible", "Delayed")
        visible, hidden, delayed = (int(found[f"ApproximateNumberOfMessages{name}"]) for name in names)
        return visible, hidden, delayed


def _install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("receive_message", "change_message_visibility", "purge_queue"):
        monkeypatch.setattr(SQSBackend, name, getattr(SQSBackend, name))
    monkeypatch.setattr(models, "Queue", models.Queue)
    monkeypatch.setattr(Message, "__new__", Message.__new__)
    stored.install()


@pytest.fixture(params=["moto", "ours"])
def sqs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sqs]:
    with mock_aws():
        if request.param == "ours":
            _install(monkeypatch)
        yield Sqs(monkeypatch)


@pytest.fixture
def ours(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sqs]:
    """Where moto differs from SQS."""
    with mock_aws():
        _install(monkeypatch)
        yield Sqs(monkeypatch)


def refused(call: Callable[[], Any]) -> str:
    with pytest.raises(ClientError) as error:
        call()
    return str(error.value.response["Error"]["Code"])


def test_a_received_message_is_hidden_until_its_timeout_and_then_in_its_old_place(sqs: Sqs) -> None:
    url = sqs.queue(VisibilityTimeout="30")
    for body in "abc":
        sqs.send(url, body)
    assert sqs.bodies(url, 2) == ["a", "b"]
    assert sqs.counts(url) == (1, 2, 0)
    assert sqs.bodies(url) == ["c"]
    assert sqs.bodies(url) == []
    sqs.wait(31)
    assert sqs.counts(url) == (3, 0, 0)
    again = sqs.receive(url)
    assert [message["Body"] for message in again] == ["a", "b", "c"]
    assert [message["Attributes"]["ApproximateReceiveCount"] for message in again] == ["2", "2", "2"]


def test_deleted_is_gone_and_deleting_again_is_no_error(sqs: Sqs) -> None:
    url = sqs.queue(VisibilityTimeout="5")
    sqs.send(url, "a")
    (first,) = sqs.receive(url)
    sqs.wait(6)
    (second,) = sqs.receive(url)
    assert first["ReceiptHandle"] != second["ReceiptHandle"]
    sqs.delete(url, first)
    sqs.delete(url, second)
    assert sqs.counts(url) == (0, 0, 0)
    assert "ReceiptHandleIsInvalid" in refused(lambda: sqs.delete(url, {"ReceiptHandle": "none"}))


def test_visibility_is_changed_both_ways(sqs: Sqs) -> None:
    url = sqs.queue(VisibilityTimeout="5")
    sqs.send(url, "a")
    (message,) = sqs.receive(url)
    sqs.hide(url, message, 100)
    sqs.wait(50)
    assert sqs.bodies(url) == []
    sqs.hide(url, message, 0)
    (message,) = sqs.receive(url)
    assert "ReceiptHandleIsInvalid" in refused(lambda: sqs.hide(url, {"ReceiptHandle": "none"}, 1))
    assert "InvalidParameterValue" in refused(lambda: sqs.hide(url, message, 43_200))


def test_a_receive_without_a_timeout_hides_nothing(sqs: Sqs) -> None:
    url = sqs.queue()
    sqs.send(url, "a")
    assert sqs.bodies(url, VisibilityTimeout=0) == ["a"]
    assert sqs.bodies(url, VisibilityTimeout=0) == ["a"]
    assert sqs.counts(url) == (1, 0, 0)


def test_delays_of_queue_and_message(sqs: Sqs) -> None:
    url = sqs.queue(DelaySeconds="10")
    sqs.send(url, "as the queue")
    sqs.send(url, "own", DelaySeconds=20)
    sqs.send(url, "now", DelaySeconds=0)
    assert sqs.counts(url) == (1, 0, 2)
    assert sqs.bodies(url) == ["now"]
    sqs.wait(10)
    assert sqs.bodies(url) == ["as the queue"]
    sqs.wait(10)
    assert sqs.bodies(url) == ["own"]
    assert "InvalidParameterValue" in refused(lambda: sqs.send(url, "x", DelaySeconds=901))


def test_dead_letters(sqs: Sqs) -> None:
    dead = sqs.queue("dead")
    arn = sqs.client.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"][
        "QueueArn"
    ]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 2})
    url = sqs.queue(VisibilityTimeout="5", RedrivePolicy=policy)
    identity = sqs.send(url, "poison", MessageAttributes={"n": {"DataType": "Number", "StringValue": "1"}})
    for _ in range(2):
        assert sqs.bodies(url) == ["poison"]
        sqs.wait(6)
    sqs.send(url, "good")
    assert sqs.bodies(url) == ["good"]
    (found,) = sqs.receive(dead)
    assert (found["MessageId"], found["Body"]) == (identity, "poison")
    assert found["MessageAttributes"]["n"]["StringValue"] == "1"
    sqs.delete(dead, found)
    assert sqs.counts(dead) == (0, 0, 0)


def test_attributes_are_kept_and_filtered(sqs: Sqs) -> None:
    url = sqs.queue()
    kind = {"DataType": "String", "StringValue": "x"}
    sqs.send(url, "a", MessageAttributes={"one": kind, "two": kind})
    (message,) = sqs.receive(url, MessageAttributeNames=["one"], VisibilityTimeout=0)
    assert set(message["MessageAttributes"]) == {"one"}
    (message,) = sqs.receive(url)
    assert set(message["MessageAttributes"]) == {"one", "two"}
    assert {"SentTimestamp", "ApproximateFirstReceiveTimestamp", "SenderId"} <= set(message["Attributes"])


def test_batches(sqs: Sqs) -> None:
    url = sqs.queue()
    sent = sqs.client.send_message_batch(
        QueueUrl=url, Entries=[{"Id": name, "MessageBody": name} for name in "abc"]
    )
    assert [entry["Id"] for entry in sent["Successful"]] == ["a", "b", "c"]
    received = sqs.receive(url)
    entries = [{"Id": m["Body"], "ReceiptHandle": m["ReceiptHandle"]} for m in received]
    changed = sqs.client.change_message_visibility_batch(
        QueueUrl=url, Entries=[{**entries[0], "VisibilityTimeout": 0}]
    )
    assert [entry["Id"] for entry in changed["Successful"]] == ["a"]
    sqs.wait(0.01)
    deleted = sqs.client.delete_message_batch(
        QueueUrl=url, Entries=[*entries[1:], {"Id": "none", "ReceiptHandle": "none"}]
    )
    assert [entry["Id"] for entry in deleted["Successful"]] == ["b", "c"]
    assert [entry["Id"] for entry in deleted["Failed"]] == ["none"]
    assert sqs.bodies(url) == ["a"]


def test_a_purge_empties_what_waits_and_what_is_in_flight(sqs: Sqs) -> None:
    url = sqs.queue()
    for body in "ab":
        sqs.send(url, body)
    sqs.receive(url, 1)
    sqs.client.purge_queue(QueueUrl=url)
    assert sqs.counts(url) == (0, 0, 0)
    sqs.send(url, "c")
    assert sqs.bodies(url) == ["c"]


def fifo(group: str, identity: str) -> dict[str, str]:
    return {"MessageGroupId": group, "MessageDeduplicationId": identity}


def test_a_group_keeps_its_order_and_waits_for_its_messages_in_flight(sqs: Sqs) -> None:
    url = sqs.queue("q.fifo", VisibilityTimeout="30")
    for body in ("a1", "a2", "b1", "a3"):
        sqs.send(url, body, **fifo(body[0], body))
    (first,) = sqs.receive(url, 1)
    assert first["Body"] == "a1"
    assert first["Attributes"]["MessageGroupId"] == "a"
    (other,) = sqs.receive(url)
    assert other["Body"] == "b1"
    assert sqs.bodies(url) == []
    sqs.delete(url, first)
    rest = sqs.receive(url)
    assert [message["Body"] for message in rest] == ["a2", "a3"]
    sqs.hide(url, rest[1], 0)
    assert sqs.bodies(url) == []
    sqs.delete(url, rest[0])
    assert sqs.bodies(url) == ["a3"]


def test_a_group_goes_on_where_a_consumer_ran_out_of_time(sqs: Sqs) -> None:
    url = sqs.queue("q.fifo", VisibilityTimeout="30")
    for body in ("a1", "a2"):
        sqs.send(url, body, **fifo("a", body))
    assert sqs.bodies(url, 1) == ["a1"]
    sqs.wait(31)
    assert sqs.bodies(url) == ["a1", "a2"]


def test_a_fifo_queue_takes_a_message_once(sqs: Sqs) -> None:
    url = sqs.queue("q.fifo", ContentBasedDeduplication="true")
    for body in ("a", "a", "b"):
        sqs.send(url, body, MessageGroupId="g")
    sqs.send(url, "c", MessageGroupId="g", MessageDeduplicationId="same")
    sqs.send(url, "d", MessageGroupId="g", MessageDeduplicationId="same")
    assert sqs.counts(url) == (3, 0, 0)
    sqs.wait(301)
    sqs.send(url, "a", MessageGroupId="g")
    assert sqs.bodies(url) == ["a", "b", "c", "a"]


def test_what_a_fifo_queue_refuses(sqs: Sqs) -> None:
    url = sqs.queue("q.fifo")
    assert refused(lambda: sqs.send(url, "a", MessageGroupId="g"))
    assert refused(lambda: sqs.send(url, "a", DelaySeconds=1, **fifo("g", "a")))
    assert refused(lambda: sqs.queue("no-suffix", FifoQueue="true"))


def test_a_message_is_lost_after_its_retention(sqs: Sqs) -> None:
    url = sqs.queue(MessageRetentionPeriod="60")
    sqs.send(url, "old")
    sqs.wait(61)
    assert sqs.bodies(url) == []


def test_a_duplicate_of_a_deleted_message_is_still_a_duplicate(ours: Sqs) -> None:
    url = ours.queue("q.fifo")
    ours.send(url, "a", **fifo("g", "same"))
    (message,) = ours.receive(url)
    ours.delete(url, message)
    ours.send(url, "a", **fifo("g", "same"))
    assert ours.counts(url) == (0, 0, 0)
    ours.wait(301)
    ours.send(url, "a", **fifo("g", "same"))
    assert ours.bodies(url) == ["a"]


def test_the_scope_of_deduplication_can_be_the_group(ours: Sqs) -> None:
    scope = {"DeduplicationScope": "messageGroup", "FifoThroughputLimit": "perMessageGroupId"}
    url = ours.queue("q.fifo", **scope)
    for group in "gh":
        ours.send(url, group, **fifo(group, "same"))
    assert sorted(ours.bodies(url)) == ["g", "h"]


def test_a_lost_message_does_not_hide_the_next(ours: Sqs) -> None:
    url = ours.queue(MessageRetentionPeriod="60")
    ours.send(url, "old")
    ours.wait(61)
    ours.send(url, "new")
    assert ours.bodies(url) == ["new"]
    assert ours.counts(url) == (0, 1, 0)
