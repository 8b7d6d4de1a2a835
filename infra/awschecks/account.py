"""Small resources in an AWS account for :mod:`infra.awscheck`, all under one new name, and their removal."""

from __future__ import annotations

import contextlib
import datetime
import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

#: Seconds to wait for an event, a message, or a table.
_PATIENCE_S = 90.0
#: Object Lock of the one object that is locked.
LOCK_S = 45


class DoesNotHold(Exception):
    """A behaviour that is not as assumed; the message says what was seen."""


class CannotCheck(Exception):
    """A check that needs something that is not here."""


class Account:
    """Small resources in an account, made when a check first needs them and taken away by :meth:`close`."""

    def __init__(self) -> None:
        self.name = f"abeyance-check-{uuid.uuid4().hex[:10]}"
        self.session = boto3.Session()
        self.region = str(self.session.region_name)
        #: What AWS does not let go, for the user to know.
        self.left: list[str] = []
        self._clients: dict[str, Any] = {}
        self._made: dict[str, Any] = {}
        self._cleanup = contextlib.ExitStack()

    def client(self, service: str) -> Any:
        """Return the client of a service."""
        if service not in self._clients:
            config = Config(connect_timeout=5, read_timeout=30, parameter_validation=False)
            self._clients[service] = self.session.client(service, config=config)
        return self._clients[service]

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """Return what ``make`` makes, made once."""
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    def later(self, what: str, undo: Callable[[], Any]) -> None:
        """Take something away at the end; name it if AWS refuses."""

        def attempt() -> None:
            try:
                undo()
            except (ClientError, BotoCoreError) as error:
                self.left.append(f"{what}: {error}")

        self._cleanup.callback(attempt)

    def close(self) -> None:
        """Take everything away."""
        self._cleanup.close()

    def table(self) -> str:
        """Return the name of a table with the keys ``pk`` and ``sk``."""
        return str(self.once("table", self._make_table))

    def bucket(self) -> str:
        """Return the name of a bucket with Object Lock, whose events go to EventBridge."""
        return str(self.once("bucket", self._make_bucket))

    def queue(self, suffix: str, **attributes: str) -> str:
        """Return the URL of a queue; FIFO if the suffix ends so."""
        return str(self.once(suffix, lambda: self._make_queue(suffix, attributes)))

    def receive(self, queue: str, wanted: int = 1, patience: float = _PATIENCE_S) -> list[dict[str, Any]]:
        """Return so many messages with all their attributes, or those that came in time."""
        found: list[dict[str, Any]] = []
        until = time.monotonic() + patience
        while len(found) < wanted and time.monotonic() < until:
            wait = max(0, min(5, int(until - time.monotonic())))
            answer = self.client("sqs").receive_message(
                QueueUrl=queue, AttributeNames=["All"], MaxNumberOfMessages=10, WaitTimeSeconds=wait
            )
            found += answer.get("Messages", [])
            time.sleep(0.2)
        return found

    def route(self, suffix: str, bus: str, pattern: dict[str, Any], **target: Any) -> str:
        """Return the URL of a queue that a rule of its own feeds."""
        return str(self.once(f"route-{suffix}", lambda: self._make_route(suffix, bus, pattern, target)))

    def _make_table(self) -> str:
        dynamodb = self.client("dynamodb")
        dynamodb.create_table(
            TableName=self.name,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[
                {"AttributeName": "pk", "KeyType": "HASH"},
                {"AttributeName": "sk", "KeyType": "RANGE"},
            ],
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in ("pk", "sk")],
        )
        self.later(f"table {self.name}", lambda: dynamodb.delete_table(TableName=self.name))
        dynamodb.get_waiter("table_exists").wait(TableName=self.name, WaiterConfig={"Delay": 2})
        return self.name

    def _make_bucket(self) -> str:
        s3 = self.client("s3")
        place = {"CreateBucketConfiguration": {"LocationConstraint": self.region}}
        s3.create_bucket(
            Bucket=self.name,
            ObjectLockEnabledForBucket=True,
            **({} if self.region == "us-east-1" else place),
        )
        self.later(f"bucket {self.name}", self._empty_bucket)
        s3.put_bucket_notification_configuration(
            Bucket=self.name, NotificationConfiguration={"EventBridgeConfiguration": {}}
        )
        return self.name

    def _empty_bucket(self) -> None:
        s3 = self.client("s3")
        for page in s3.get_paginator("list_object_versions").paginate(Bucket=self.name):
            for one in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
                s3.delete_object(Bucket=self.name, Key=one["Key"], VersionId=one["VersionId"])
        s3.delete_bucket(Bucket=self.name)

    def _make_queue(self, suffix: str, attributes: dict[str, str]) -> str:
        sqs, name = self.client("sqs"), f"{self.name}-{suffix}"
        url = str(sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"])
        self.later(f"queue {name}", lambda: sqs.delete_queue(QueueUrl=url))
        return url

    def arn(self, queue: str) -> str:
        """Return a queue's ARN."""
        answer = self.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
        return str(answer["Attributes"]["QueueArn"])

    def _make_route(self, suffix: str, bus: str, pattern: dict[str, Any], target: dict[str, Any]) -> str:
        events, url, rule = self.client("events"), self.queue(suffix), f"{self.name}-{suffix}"
        arn = self.arn(url)
        policy = {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"Service": "events.amazonaws.com"},
                    "Action": "sqs:SendMessage",
                    "Resource": arn,
                }
            ],
        }
        self.client("sqs").set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps(policy)})
        events.put_rule(Name=rule, EventBusName=bus, EventPattern=json.dumps(pattern))
        self.later(f"rule {rule}", lambda: events.delete_rule(Name=rule, EventBusName=bus))
        events.put_targets(Rule=rule, EventBusName=bus, Targets=[{"Id": "queue", "Arn": arn, **target}])
        self.later(
            f"target of {rule}", lambda: events.remove_targets(Rule=rule, EventBusName=bus, Ids=["queue"])
        )
        return url


def now() -> datetime.datetime:
    """Return the moment, aware."""
    return datetime.datetime.now(datetime.UTC)
