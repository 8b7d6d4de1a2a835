"""AWS in memory: S3, SQS, EventBridge, AppConfig and Secrets Manager, as far as the product calls them."""

from __future__ import annotations

import hashlib
import io
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from botocore.exceptions import ClientError
from tests.appconfig import FakeAppConfig
from tests.office import ApiGateway
from tests.simulation.clock import VirtualClock
from tests.simulation.dynamodb import SimulatedDynamoDB
from tests.simulation.faults import Faults
from tests.simulation.model import DOOR_BUCKET

from abeyance.pipeline import topology

Call = Callable[[str, Callable[[], Any]], Any]


class NoSuchKey(ClientError):
    """As botocore raises it."""


@dataclass(frozen=True)
class Stored:
    """An object of a bucket."""

    body: bytes
    etag: str
    metadata: dict[str, str]


class SimulatedS3:
    """The low-level client of S3, without versions; metadata are tags too. ``notify`` is told of every change."""

    exceptions = SimpleNamespace(NoSuchKey=NoSuchKey)

    def __init__(self, call: Call) -> None:
        self.buckets: dict[str, dict[str, Stored]] = {}
        self.notify: Callable[[str, str, str, Stored | None], None] = lambda *_: None
        self.on_read: Callable[[str, str, Stored], None] = lambda *_: None
        self.on_head: Callable[[str, str], None] = lambda *_: None
        self._call = call

    def head_object(self, *, Bucket: str, Key: str, **how: Any) -> dict[str, Any]:
        def run() -> dict[str, Any]:
            found = self._find(Bucket, Key, how, "HeadObject")
            self.on_head(Bucket, Key)
            return {
                "Metadata": dict(found.metadata),
                "ETag": f'"{found.etag}"',
                "ContentLength": len(found.body),
            }

        return self._call("HeadObject", run)

    def get_object_tagging(self, *, Bucket: str, Key: str, **how: Any) -> dict[str, Any]:
        def run() -> dict[str, Any]:
            found = self._find(Bucket, Key, how, "GetObjectTagging")
            return {"TagSet": [{"Key": name, "Value": value} for name, value in found.metadata.items()]}

        return self._call("GetObjectTagging", run)

    def get_object(self, *, Bucket: str, Key: str, **how: Any) -> dict[str, Any]:
        def run() -> dict[str, Any]:
            found = self._find(Bucket, Key, how, "GetObject")
            self.on_read(Bucket, Key, found)
            first, _, last = str(how.get("Range", "bytes=0-")).removeprefix("bytes=").partition("-")
            return {
                "Body": io.BytesIO(found.body[int(first) : int(last) + 1 if last else None]),
                "ETag": f'"{found.etag}"',
                "Metadata": dict(found.metadata),
            }

        return self._call("GetObject", run)

    def put_object(self, *, Bucket: str, Key: str, Body: bytes, **how: Any) -> dict[str, Any]:
        def run() -> dict[str, Any]:
            if how.get("IfNoneMatch") == "*" and Key in self.buckets[Bucket]:
                raise ClientError({"Error": {"Code": "PreconditionFailed"}}, "PutObject")
            if match := how.get("IfMatch"):
                self._find(Bucket, Key, {"IfMatch": match}, "PutObject")
            return self.store(Bucket, Key, bytes(Body), how.get("Metadata", {}))

        return self._call("PutObject", run)

    def delete_object(self, *, Bucket: str, Key: str, **_: Any) -> dict[str, Any]:
        return self._call("DeleteObject", lambda: self.remove(Bucket, Key))

    def delete_objects(self, *, Bucket: str, Delete: dict[str, Any], **_: Any) -> dict[str, Any]:
        def run() -> dict[str, Any]:
            for one in Delete["Objects"]:
                self.remove(Bucket, one["Key"])
            return {}

        return self._call("DeleteObjects", run)

    def list_objects_v2(
        self, *, Bucket: str, Prefix: str = "", StartAfter: str = "", **_: Any
    ) -> dict[str, Any]:
        def run() -> dict[str, Any]:
            keys = sorted(key for key in self.buckets[Bucket] if key.startswith(Prefix) and key > StartAfter)
            return {"Contents": [{"Key": key} for key in keys], "KeyCount": len(keys)}

        return self._call("ListObjectsV2", run)

    def list_object_versions(self, *, Bucket: str, Prefix: str = "", **_: Any) -> dict[str, Any]:
        def run() -> dict[str, Any]:
            keys = sorted(key for key in self.buckets[Bucket] if key.startswith(Prefix))
            return {"Versions": [{"Key": key, "VersionId": ""} for key in keys]}

        return self._call("ListObjectVersions", run)

    def get_paginator(self, operation: str) -> Any:
        method = getattr(self, operation)
        return SimpleNamespace(paginate=lambda **arguments: iter([method(**arguments)]))

    def store(self, bucket: str, key: str, body: bytes, metadata: dict[str, str]) -> dict[str, Any]:
        """Write an object as its uploader does."""
        etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
        self.buckets[bucket][key] = found = Stored(body, etag, dict(metadata))
        self.notify("Object Created", bucket, key, found)
        return {"ETag": f'"{etag}"'}

    def remove(self, bucket: str, key: str) -> dict[str, Any]:
        """Delete an object as its owner does."""
        if self.buckets[bucket].pop(key, None) is not None:
            self.notify("Object Deleted", bucket, key, None)
        return {}

    def _find(self, bucket: str, key: str, how: dict[str, Any], operation: str) -> Stored:
        found = self.buckets[bucket].get(key)
        if how.get("VersionId"):
            raise ClientError({"Error": {"Code": "NoSuchVersion", "Message": "no versions"}}, operation)
        if found is None:
            if operation == "HeadObject":
                raise ClientError({"Error": {"Code": "404", "Message": "Not Found"}}, operation)
            raise NoSuchKey({"Error": {"Code": "NoSuchKey", "Message": "no such key"}}, operation)
        if (match := how.get("IfMatch")) and match != f'"{found.etag}"':
            raise ClientError({"Error": {"Code": "412", "Message": "Precondition Failed"}}, operation)
        return found


@dataclass
class QueuedMessage:
    """A message in a queue, with its deliveries so far and the moment from which it is visible."""

    id: str
    body: str
    group: str = ""
    receives: int = 0
    visible_at_s: float = 0.0
    sent_at_s: float = 0.0
    first_received_s: float = 0.0


@dataclass
class SimulatedQueue:
    """A queue and its dead-letter queue."""

    name: str
    max_receives: int
    visibility_s: float
    messages: list[QueuedMessage] = field(default_factory=list)
    dead: list[QueuedMessage] = field(default_factory=list)


class SimulatedSQS:
    """The low-level client of SQS, for senders. Deliveries are the simulation's."""

    def __init__(self, call: Call, clock: VirtualClock) -> None:
        self.queues: dict[str, SimulatedQueue] = {}
        self._call = call
        self._clock = clock
        self._sent = 0

    def get_queue_url(self, *, QueueName: str) -> dict[str, Any]:
        return self._call("GetQueueUrl", lambda: {"QueueUrl": f"https://sqs.simulated/{QueueName}"})

    def send_message(self, *, QueueUrl: str, MessageBody: str, **how: Any) -> dict[str, Any]:
        def run() -> dict[str, Any]:
            name = QueueUrl.rsplit("/", 1)[-1]
            sent = self.enqueue(
                name,
                MessageBody,
                group=how.get("MessageGroupId", ""),
                delay_s=how.get("DelaySeconds", 0),
            )
            digest = hashlib.md5(MessageBody.encode(), usedforsecurity=False).hexdigest()
            return {"MessageId": sent, "MD5OfMessageBody": digest}

        return self._call("SendMessage", run)

    def enqueue(self, name: str, body: str, *, group: str = "", delay_s: float = 0) -> str:
        """Put a message into a queue."""
        queue = self.queues[name]
        self._sent += 1
        now_s = self._clock.now_s
        queue.messages.append(
            QueuedMessage(f"m{self._sent}", body, group, visible_at_s=now_s + delay_s, sent_at_s=now_s)
        )
        return f"m{self._sent}"


class SimulatedBus:
    """The low-level client of EventBridge: rules are those of the topology.

    Events may be delivered twice, and ``refuses`` says whether an entry of a call is not taken.
    """

    def __init__(
        self,
        call: Call,
        deliver: Callable[[dict[str, Any]], None],
        clock: VirtualClock,
        refuses: Callable[[], bool] = lambda: False,
    ) -> None:
        self._call = call
        self._refuses = refuses
        self._deliver = deliver
        self._clock = clock
        self._sent = 0

    def put_events(self, *, Entries: list[dict[str, Any]]) -> dict[str, Any]:
        def run() -> dict[str, Any]:
            if not 0 < len(Entries) <= 10:
                raise ClientError({"Error": {"Code": "ValidationException"}}, "PutEvents")
            answers = []
            for entry in Entries:
                self._sent += 1
                if self._refuses():
                    answers.append({"ErrorCode": "InternalFailure", "ErrorMessage": "try again"})
                    continue
                answers.append({"EventId": f"e{self._sent}"})
                self._deliver(
                    {
                        "id": f"e{self._sent}",
                        "source": entry["Source"],
                        "detail-type": entry["DetailType"],
                        "time": f"{entry.get('Time') or self._now():%Y-%m-%dT%H:%M:%SZ}",
                        "detail": json.loads(entry["Detail"]),
                    }
                )
            return {"FailedEntryCount": sum("ErrorCode" in one for one in answers), "Entries": answers}

        return self._call("PutEvents", run)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now_s, UTC)


class SimulatedScheduler:
    """The low-level client of EventBridge Scheduler: schedules by name, which never fire here."""

    exceptions = SimpleNamespace(
        ConflictException=type("ConflictException", (ClientError,), {}),
        ResourceNotFoundException=type("ResourceNotFoundException", (ClientError,), {}),
    )
    meta = SimpleNamespace(region_name="eu-central-1")

    def __init__(self, call: Call) -> None:
        self.schedules: dict[str, Any] = {}
        self._call = call

    def list_schedules(self, **_: Any) -> dict[str, Any]:
        return self._call(
            "ListSchedules", lambda: {"Schedules": [{"Name": name} for name in sorted(self.schedules)]}
        )

    def get_paginator(self, operation: str) -> Any:
        method = getattr(self, operation)
        return SimpleNamespace(paginate=lambda **arguments: iter([method(**arguments)]))

    def create_schedule(self, *, Name: str, **schedule: Any) -> dict[str, Any]:
        def run() -> dict[str, Any]:
            if Name in self.schedules:
                raise self.exceptions.ConflictException({"Error": {"Code": "ConflictException"}}, "Create")
            self.schedules[Name] = schedule
            return {}

        return self._call("CreateSchedule", run)

    def delete_schedule(self, *, Name: str, **_: Any) -> dict[str, Any]:
        def run() -> dict[str, Any]:
            if self.schedules.pop(Name, None) is None:
                error = {"Error": {"Code": "ResourceNotFoundException"}}
                raise self.exceptions.ResourceNotFoundException(error, "Delete")
            return {}

        return self._call("DeleteSchedule", run)


class SimulatedAws:
    """All services of one account. :meth:`client` is what the composition root takes in the place of botocore's."""

    def __init__(self, clock: VirtualClock, faults: Faults, chance: random.Random) -> None:
        def calls_of(service: str) -> Call:
            return lambda operation, run: faults.call(service, operation, run)

        self.clock = clock
        self._chance = chance
        self.dynamodb = SimulatedDynamoDB(calls_of("dynamodb"))
        self.s3 = SimulatedS3(calls_of("s3"))
        self.sqs = SimulatedSQS(calls_of("sqs"), clock)
        self.events = SimulatedBus(calls_of("events"), self.route, clock, self._refuses)
        self.appconfig = FakeAppConfig(lambda: clock.now_s, calls_of("appconfigdata"))
        #: Answers what API Gateway hands on to the change service.
        self.change_service: Callable[[dict[str, Any]], Any] = lambda event: None
        self.gateway = ApiGateway(lambda event: self.change_service(event))
        self.scheduler = SimulatedScheduler(calls_of("scheduler"))
        self._clients = {
            "dynamodb": self.dynamodb,
            "s3": self.s3,
            "sqs": self.sqs,
            "events": self.events,
            "appconfigdata": self.appconfig,
            "appconfig": self.appconfig,
            "execute-api": self.gateway,
            "scheduler": self.scheduler,
        }
        self._sequence = 0
        self.s3.notify = self._notify
        #: Probability that a standard queue or a rule delivers an event twice.
        self.duplicate = 0.0
        #: Probability that EventBridge refuses one of the entries of a call.
        self.refusal = 0.0
        self._faults = faults

    def _refuses(self) -> bool:
        return self._faults.active and self._chance.random() < self.refusal

    def client(self, service: str) -> Any:
        """Return the client of a service."""
        return self._clients[service]

    def create(self, settings: Any) -> None:
        """Create what the topology describes."""
        self.uploads_bucket = settings.uploads_bucket
        for table in topology.TABLES:
            self.dynamodb.create(getattr(settings, table.setting), table.partition_key, table.sort_key)
        for bucket in topology.BUCKETS:
            self.s3.buckets[getattr(settings, bucket.setting)] = {}
        self.s3.buckets[DOOR_BUCKET] = {}
        for stage in topology.STAGES:
            self.sqs.queues[stage.queue] = SimulatedQueue(
                stage.queue, stage.max_receives, stage.visibility_timeout
            )
        self._rules = [
            (stage, subscription.pattern(settings))
            for stage in topology.STAGES
            for subscription in stage.consumes
        ]

    def route(self, envelope: dict[str, Any]) -> None:
        """Deliver an event to the queues of the rules that match it; now and then twice."""
        for stage, pattern in self._rules:
            if _matches(envelope, pattern):
                body = json.dumps(envelope)
                for _ in range(2 if self._chance.random() < self.duplicate else 1):
                    self.sqs.enqueue(stage.queue, body)

    def _notify(self, detail_type: str, bucket: str, key: str, stored: Stored | None) -> None:
        if bucket not in (self.uploads_bucket, DOOR_BUCKET):
            return
        self._sequence += 1
        thing: dict[str, Any] = {"key": key, "sequencer": f"{self._sequence:016X}"}
        if stored is not None:
            thing |= {"size": len(stored.body), "etag": stored.etag}
        deletion = {} if stored is not None else {"deletion-type": "Permanently Deleted"}
        self.route(
            {
                "id": f"s{self._sequence}",
                "source": "aws.s3",
                "detail-type": detail_type,
                "time": f"{datetime.fromtimestamp(self.clock.now_s, UTC):%Y-%m-%dT%H:%M:%SZ}",
                "detail": {"bucket": {"name": bucket}, "object": thing, **deletion},
            }
        )


def _matches(envelope: Any, pattern: dict[str, Any]) -> bool:
    """Return whether every field of the pattern lists the envelope's value, as EventBridge matches."""
    if not isinstance(envelope, dict):
        return False
    return all(
        _matches(envelope.get(name), wanted) if isinstance(wanted, dict) else envelope.get(name) in wanted
        for name, wanted in pattern.items()
    )


def objects_under(bucket: dict[str, Stored], prefix: str) -> Iterator[Stored]:
    """Yield the objects whose key begins with ``prefix``."""
    return (stored for key, stored in bucket.items() if key.startswith(prefix))
