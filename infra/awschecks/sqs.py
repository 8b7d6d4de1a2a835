"""Checks of SQS."""

from __future__ import annotations

import json
import time

from infra.awschecks.account import Account
from infra.awschecks.registry import check, expect, refused


@check("sqs.visibility")
def _visibility(account: Account) -> None:
    queue = account.queue("visibility", VisibilityTimeout="3")
    account.client("sqs").send_message(QueueUrl=queue, MessageBody="1")
    expect(len(account.receive(queue)) == 1, "the message did not come")
    expect(account.receive(queue, patience=1) == [], "it came again before its time")
    expect(len(account.receive(queue, patience=15)) == 1, "it did not come again")


@check("sqs.receive_count")
def _receive_count(account: Account) -> None:
    dead = account.queue("dead")
    redrive = json.dumps({"deadLetterTargetArn": account.arn(dead), "maxReceiveCount": 2})
    queue = account.queue("counted", VisibilityTimeout="1", RedrivePolicy=redrive)
    account.client("sqs").send_message(QueueUrl=queue, MessageBody="1")
    for wanted in ("1", "2"):
        (message,) = account.receive(queue, patience=20) or ({"Attributes": {}},)
        count = message["Attributes"].get("ApproximateReceiveCount")
        expect(count == wanted, f"delivery {wanted} counts {count}")
        time.sleep(1.5)
    expect(account.receive(queue, patience=3) == [], "it was delivered a third time")
    expect(len(account.receive(dead, patience=20)) == 1, "it is not in the dead-letter queue")


@check("sqs.sent_timestamp")
def _sent_timestamp(account: Account) -> None:
    queue = account.queue("plain")
    account.client("sqs").send_message(QueueUrl=queue, MessageBody="1")
    (message,) = account.receive(queue) or ({"Attributes": {}},)
    sent = int(message["Attributes"].get("SentTimestamp", 0)) / 1000
    expect(abs(sent - time.time()) < 60, f"it says {sent}")


@check("sqs.delay")
def _delay(account: Account) -> None:
    sqs, queue = account.client("sqs"), account.queue("delay")
    sqs.send_message(QueueUrl=queue, MessageBody="1", DelaySeconds=900)
    with refused():
        sqs.send_message(QueueUrl=queue, MessageBody="1", DelaySeconds=901)


@check("sqs.first_receive")
def _first_receive(account: Account) -> None:
    queue = account.queue("first")
    account.client("sqs").send_message(QueueUrl=queue, MessageBody="1")
    (message,) = account.receive(queue) or ({"Attributes": {}},)
    first = int(message["Attributes"].get("ApproximateFirstReceiveTimestamp", 0)) / 1000
    expect(abs(first - time.time()) < 60, f"it says {first}")
    expect(bool(message["Attributes"].get("SenderId")), "it has no sender")


@check("sqs.group_on_standard")
def _group_on_standard(account: Account) -> None:
    sqs, queue = account.client("sqs"), account.queue("grouped")
    entries = [{"Id": "0", "MessageBody": "1", "MessageGroupId": "acme"}]
    expect(not sqs.send_message_batch(QueueUrl=queue, Entries=entries).get("Failed"), "it was refused")
    (message,) = account.receive(queue) or ({"Attributes": {}},)
    group = message["Attributes"].get("MessageGroupId")
    expect(group == "acme", f"the group is {group}")
