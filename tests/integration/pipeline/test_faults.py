"""Whatever fails on the way to a decision: the answer is no or right, on the ledger, and no pixel was read."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from tests.ledgers import entries_of

from abeyance.aws.clients import client
from abeyance.aws.dynamodb import DynamoTable
from abeyance.deployment.parts import build_sequencer
from abeyance.gallery.search import Searcher
from abeyance.gallery.store import DynamoGallery
from abeyance.local.aws import LocalAws
from abeyance.moratorium.guard import Guard
from abeyance.moratorium.presets import new_deployment
from abeyance.moratorium.source import FileSource, Snapshot
from abeyance.moratorium.tenants import Tenant, TenantTable
from abeyance.moratorium.vocabulary import PURPOSE_FORM
from abeyance.pipeline import events, topology
from abeyance.pipeline.aws import EventBridgeBus, S3Objects
from abeyance.pipeline.batch import answer
from abeyance.pipeline.gate import Gate
from abeyance.pipeline.outbox import Outbox
from abeyance.pipeline.postpone import Postpone
from abeyance.pipeline.recognize import Recognize
from abeyance.pipeline.record import RecordDecisions
from abeyance.pipeline.upload_records import KEY as TABLE_KEY
from abeyance.pipeline.upload_records import UploadRecords

ACME = Tenant(
    id="acme",
    sector="commercial",
    jurisdiction="US-WA",
    actions=("index", "search"),
    purposes=("unspecified",),
)
KEY = "acme/search/staff/photo.jpg"


class Recording:
    """A boto3 client that notes which operations were called, and fails those that it is told to."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.called: list[str] = []
        self.failing: dict[str, Exception] = {}
        #: Of what is failing, only requests that name this.
        self.naming = ""

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._client, name)
        if not callable(attribute):
            return attribute

        def call(*args: Any, **kwargs: Any) -> Any:
            self.called.append(name)
            if name in self.failing and self.naming in str(kwargs):
                raise self.failing[name]
            return attribute(*args, **kwargs)

        return call


class World:
    """The gate and the recognizer over recording clients, with everything they need, and the ledger behind them."""

    def __init__(self, aws: LocalAws, folder: Path) -> None:
        self.aws = aws
        self.flags = folder / "flags.json"
        self.flags.write_text(json.dumps(new_deployment()))
        self.s3, self.dynamodb, self.bus = (
            Recording(aws.client(name)) for name in ("s3", "dynamodb", "events")
        )
        self.sqs = aws.client("sqs")
        settings = aws.settings
        self.tenants = TenantTable(DynamoTable(self.dynamodb, settings.tenants_table))
        self.source: Any = FileSource(self.flags)
        self.now: Callable[[], datetime] = lambda: datetime.now(UTC)
        self.objects = S3Objects(self.s3)
        table = DynamoTable(self.dynamodb, settings.uploads_table, partition=TABLE_KEY, sort="")
        self.records = UploadRecords(table, 1, time.time)

    def guard(self) -> Guard:
        return Guard(self.source, self.tenants, lambda: self.now(), max_age=300)

    def outbox(self, stage: str) -> Outbox:
        bus = EventBridgeBus(self.bus, self.aws.settings.event_bus)
        return Outbox(stage, self.records, bus, self.objects, self.aws.settings.results_bucket)

    def gate(self) -> dict[str, Any]:
        """Run the gate on what waits for it, as Lambda would."""
        return self.run(
            topology.GATE,
            Gate(
                self.guard(),
                self.objects,
                self.records,
                self.outbox("gate"),
                self.aws.settings.uploads_bucket,
            ),
        )

    def run(self, stage: topology.Stage, work: Any) -> dict[str, Any]:
        url = self.sqs.get_queue_url(QueueName=stage.queue)["QueueUrl"]
        found = self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, AttributeNames=["All"])
        messages = found.get("Messages", [])
        sqs_event = {
            "Records": [
                {"messageId": m["MessageId"], "body": m["Body"], "attributes": m["Attributes"]}
                for m in messages
            ]
        }
        said = answer(sqs_event, work)
        failed = {item["itemIdentifier"] for item in said["batchItemFailures"]}
        for message in messages:
            if message["MessageId"] in failed:
                self.sqs.change_message_visibility(
                    QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
                )
            else:
                self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return said

    def record(self) -> list[Any]:
        """Let the ledger take all that was said, and return its entries."""
        sequencer = build_sequencer(self.aws.settings, self.aws.client)
        self.run(topology.LEDGER, RecordDecisions(sequencer, b"sixteen bytes or more"))
        return entries_of(self.aws.client)

    def put(self, key: str = KEY, **metadata: str) -> None:
        self.aws.client("s3").put_object(Bucket="uploads", Key=key, Body=b"not read", Metadata=metadata)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    aws = LocalAws()
    aws.start()
    made = World(aws, tmp_path)
    made.tenants.add(ACME)
    yield made
    aws.stop()


def throttled(operation: str) -> ClientError:
    return ClientError(
        {"Error": {"Code": "ProvisionedThroughputExceededException", "Message": "slow down"}}, operation
    )


def down() -> EndpointConnectionError:
    return EndpointConnectionError(endpoint_url="http://127.0.0.1")


class Aged:
    """A source whose flags were confirmed a while ago."""

    def __init__(self, source: Any, age: timedelta) -> None:
        self._source = source
        self._age = age

    def current(self) -> Snapshot:
        fresh: Snapshot = self._source.current()
        return msgspec.structs.replace(fresh, fetched_at=fresh.fetched_at - self._age)


class Raising:
    """A source that fails in a way nobody thought of."""

    def current(self) -> Snapshot:
        raise RuntimeError("unexpected")


def flags_of(**changes: Any) -> str:
    document = new_deployment()
    document["values"]["police_halt"] |= changes
    return json.dumps(document)


def halt_of_everybody(**changes: Any) -> str:
    document = json.loads(flags_of(sectors=["all"], **changes))
    for exemption in ("exempt_tenants", "exempt_purposes"):
        del document["values"]["police_halt"][exemption]
    return json.dumps(document)


def spoil(text: str | bytes) -> Callable[[World], None]:
    return lambda world: world.flags.write_bytes(text if isinstance(text, bytes) else text.encode()) and None


def set_attribute(name: str, value: Callable[[World], Any]) -> Callable[[World], None]:
    return lambda world: setattr(world, name, value(world))


def fail(client: str, operation: str, error: Exception) -> Callable[[World], None]:
    return lambda world: getattr(world, client).failing.update({operation: error})


def lose_tenants(error: Exception) -> Callable[[World], None]:
    def lose(world: World) -> None:
        world.dynamodb.naming = world.aws.settings.tenants_table
        world.dynamodb.failing |= {"get_item": error, "batch_get_item": error}

    return lose


#: What goes wrong -> how. Each must end in Upload Halted with a fault.
DENIED: dict[str, Callable[[World], None]] = {
    "flags missing": lambda world: world.flags.unlink(),
    "flags empty": spoil(""),
    "flags blank": spoil(" \n"),
    "flags truncated": spoil(flags_of()[:200]),
    "flags not JSON": spoil("halt: true"),
    "flags not UTF-8": spoil(b"\xff\xfe{}"),
    "flags an array": spoil("[]"),
    "flags null": spoil("null"),
    "flags with a repeated key": spoil('{"a": {"enabled": false}, "a": {"enabled": false}}'),
    "flags of another schema version": spoil(json.dumps({**new_deployment(), "version": "2"})),
    "flags without values": spoil(json.dumps({k: v for k, v in new_deployment().items() if k != "values"})),
    "flag defined but without a value": spoil(json.dumps({**new_deployment(), "values": {}})),
    "enabled a string": spoil(flags_of(enabled="true")),
    "effect unknown": spoil(flags_of(effect="allow")),
    "action unknown": spoil(flags_of(actions=["guess"])),
    "sector misspelt": spoil(flags_of(sectors=["law_enforcment"])),
    "jurisdiction misspelt": spoil(flags_of(jurisdictions=["USA"])),
    "starts not a time": spoil(flags_of(starts="June")),
    "starts without a zone": spoil(flags_of(starts="2020-06-10T00:00:00")),
    "ends before starts": spoil(flags_of(ends="2019-01-01T00:00:00Z")),
    "an attribute too many": spoil(flags_of(exempt="everybody")),
    "reason a number": spoil(flags_of(reason=7)),
    "min_similarity above the scale": spoil(flags_of(effect="restrict", min_similarity=120)),
    "flags older than the limit": set_attribute("source", lambda w: Aged(w.source, timedelta(seconds=301))),
    "flags from the future": set_attribute("source", lambda w: Aged(w.source, timedelta(hours=-1))),
    "source raises": set_attribute("source", lambda w: Raising()),
    "clock without a zone": set_attribute("now", lambda w: lambda: datetime(2026, 1, 1)),  # noqa: DTZ001
    "clock an hour ahead": set_attribute("now", lambda w: lambda: datetime.now(UTC) + timedelta(hours=1)),
    "clock raises": set_attribute("now", lambda w: Raising().current),
    "tenants throttled": lose_tenants(throttled("GetItem")),
    "tenants out of reach": lose_tenants(down()),
    "tenants forbidden": lose_tenants(
        ClientError({"Error": {"Code": "AccessDeniedException", "Message": ""}}, "GetItem")
    ),
}


@pytest.mark.parametrize("fault", DENIED)
def test_a_decision_that_cannot_be_made_is_a_denial_on_the_ledger(world: World, fault: str) -> None:
    DENIED[fault](world)
    world.put()
    assert world.gate() == {"batchItemFailures": []}
    (entry,) = world.record()
    assert entry.type == "Upload Halted"
    decision = entry.body["decision"]
    assert decision["outcome"] == "deny"
    assert decision["fault"]
    assert decision["reason"]
    assert "get_object" not in world.s3.called
    assert messages_for_detect(world) == 0


def messages_for_detect(world: World) -> int:
    url = world.sqs.get_queue_url(QueueName=topology.DETECT.queue)["QueueUrl"]
    return len(world.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []))


#: What goes wrong for a while -> how. The upload waits, and is settled once when the trouble is over.
WAITING: dict[str, Callable[[World], None]] = {
    "metadata out of reach": fail("s3", "head_object", down()),
    "metadata throttled": fail(
        "s3", "head_object", ClientError({"Error": {"Code": "503", "Message": "slow down"}}, "HeadObject")
    ),
    "bus out of reach": fail("bus", "put_events", down()),
    "result not written": fail("s3", "put_object", down()),
}


@pytest.mark.parametrize("trouble", WAITING)
@pytest.mark.parametrize("tenant", ["acme", "nobody"])
def test_trouble_on_the_way_loses_nothing_and_doubles_nothing(
    world: World, trouble: str, tenant: str
) -> None:
    WAITING[trouble](world)
    world.put(f"{tenant}/search/staff/photo.jpg")
    first = world.gate()
    if first["batchItemFailures"]:
        for client in (world.s3, world.bus):
            client.failing.clear()
        assert world.gate() == {"batchItemFailures": []}
    entries = world.record()
    assert [entry.type for entry in entries] == ["Upload Permitted" if tenant == "acme" else "Upload Halted"]
    assert "get_object" not in world.s3.called
    assert messages_for_detect(world) == (1 if tenant == "acme" else 0)


def test_redelivery_after_the_flags_changed_emits_the_recorded_event(world: World) -> None:
    """One upload has one decision of the gate, however often its event comes."""
    world.bus.failing["put_events"] = down()
    world.put()
    assert world.gate()["batchItemFailures"]
    world.bus.failing.clear()
    world.flags.write_text(halt_of_everybody())
    world.gate()
    assert [entry.type for entry in world.record()] == ["Upload Permitted"]


class NoModel:
    """Stands where an embedder would be; nobody must ask it."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError("a halted upload must not reach the embedder")


def test_a_flag_flipped_between_gate_and_recognize_halts_before_a_template_is_made(world: World) -> None:
    world.put()
    world.gate()
    url = world.sqs.get_queue_url(QueueName=topology.DETECT.queue)["QueueUrl"]
    envelope = json.loads(world.sqs.receive_message(QueueUrl=url)["Messages"][0]["Body"])
    permitted = events.parse(envelope["detail-type"], envelope["detail"])
    assert isinstance(permitted, events.UploadPermitted)
    detected = events.FacesDetected(
        id=events.FacesDetected.identify(permitted.upload),
        time=permitted.time,
        upload=permitted.upload,
        permitted=permitted,
        width=100,
        height=100,
        chips="acme/none.npy",
        faces=(),
    )
    world.records.record("detect", detected)
    EventBridgeBus(world.bus, world.aws.settings.event_bus).emit([detected])
    world.flags.write_text(halt_of_everybody())
    dynamodb = world.aws.client("dynamodb")
    gallery = DynamoGallery(dynamodb, "abeyance-gallery", world.s3, "abeyance-gallery")
    recognize = Recognize(
        world.guard(),
        world.objects,
        world.outbox("recognize"),
        gallery,
        Searcher(gallery),
        NoModel,
        NoModel,
        Postpone(world.sqs, topology.RECOGNIZE.queue),
        chips_bucket=world.aws.settings.chips_bucket,
        threshold=80.0,
        max_candidates=10,
    )
    assert world.run(topology.RECOGNIZE, recognize) == {"batchItemFailures": []}
    entries = {entry.type: entry for entry in world.record()}
    assert sorted(entries) == ["Faces Detected", "Recognition Halted", "Upload Permitted"]
    assert entries["Recognition Halted"].body["decision"]["fault"] == ""
    assert "get_object" not in world.s3.called


def test_an_event_that_is_not_ours_does_not_hold_up_the_ledger(world: World) -> None:
    world.bus.put_events(
        Entries=[
            {
                "EventBusName": world.aws.settings.event_bus,
                "Source": topology.SOURCE,
                "DetailType": "Upload Permitted",
                "Detail": json.dumps({"hello": "world"}),
            }
        ]
    )
    world.put()
    world.gate()
    assert sorted(entry.type for entry in world.record()) == ["Unreadable Event", "Upload Permitted"]


def test_a_decision_is_emitted_even_if_the_photo_is_replaced_meanwhile(world: World) -> None:
    world.bus.failing["put_events"] = down()
    world.put("nobody/search/staff/photo.jpg")
    assert world.gate()["batchItemFailures"]
    world.bus.failing.clear()
    world.put("nobody/search/staff/photo.jpg")
    while world.gate()["batchItemFailures"]:
        pass
    entries = world.record()
    assert [entry.type for entry in entries] == ["Upload Halted", "Upload Halted"]
    assert len({entry.id for entry in entries}) == 2


def test_a_collection_cannot_be_named_so_that_its_decisions_are_not_recorded(world: World) -> None:
    for name in ("wanted.jpg", "x" * 200):
        world.put(f"acme/search/{name}/photo.jpg")
    world.gate()
    entries = world.record()
    assert [entry.type for entry in entries] == ["Upload Permitted", "Upload Permitted"]
    assert all(len(entry.body["collection_sha256"]) == 64 for entry in entries)
    assert all(entry.body["decision"]["outcome"] == "permit" for entry in entries)


def test_a_decision_in_words_that_the_ledger_does_not_take_is_recorded_without_them(world: World) -> None:
    world.flags.write_text(halt_of_everybody(source="poster.jpg"))
    world.put()
    world.gate()
    (entry,) = world.record()
    assert entry.type == "Upload Halted"
    assert entry.body["decision"]["outcome"] == "deny"
    assert entry.body["decision"]["flags"] == [{"key": "police_halt"}]
    assert entry.body["shortened"]


def test_a_key_too_long_for_its_result_does_not_hide_a_halt(world: World) -> None:
    key = "nobody/search/staff/" + "k" * (1024 - 20)
    world.put(key)
    assert world.gate() == {"batchItemFailures": []}
    assert [entry.type for entry in world.record()] == ["Upload Halted"]
    results = world.aws.client("s3").list_objects_v2(Bucket="results")["Contents"]
    assert [len(found["Key"].encode()) <= 1024 for found in results] == [True]


def test_a_message_that_is_no_json_does_not_hold_up_the_ledger(world: World) -> None:
    url = world.sqs.get_queue_url(QueueName=topology.LEDGER.queue)["QueueUrl"]
    for body in ("not json", "[]", json.dumps({"detail-type": "Upload Halted"})):
        world.sqs.send_message(QueueUrl=url, MessageBody=body, MessageGroupId="ledger")
    world.put()
    world.gate()
    types = [entry.type for entry in world.record()]
    assert types == ["Unreadable Event"] * 3 + ["Upload Permitted"]


#: S3's own events of a bucket with versions, as its user guide shows them, with our names in them.
VERSIONED: dict[str, dict[str, Any]] = {
    "marker": {
        "object": {"etag": "d41d8cd98f00b204e9800998ecf8427e", "version-id": "marker-1"},
        "type": "Delete Marker Created",
    },
    "one version": {
        "object": {"etag": "6805f2cfc46c0f04559748bb039d69ae", "version-id": "v0"},
        "type": "Permanently Deleted",
    },
}


@pytest.mark.parametrize("kind", VERSIONED)
def test_deletions_in_a_bucket_with_versions(world: World, kind: str) -> None:
    world.put()
    world.gate()
    shape = VERSIONED[kind]
    envelope = {
        "detail-type": "Object Deleted",
        "source": "aws.s3",
        "detail": {
            "version": "0",
            "bucket": {"name": "uploads"},
            "object": {"key": KEY, "sequencer": "F" * 16, **shape["object"]},
            "reason": "DeleteObject",
            "deletion-type": shape["type"],
        },
    }
    gate_url = world.sqs.get_queue_url(QueueName=topology.GATE.queue)["QueueUrl"]
    world.sqs.send_message(QueueUrl=gate_url, MessageBody=json.dumps(envelope))
    photo = events.Upload(bucket="uploads", key=KEY, version="", sequencer="")
    latest = world.records.latest([photo])
    assert world.gate() == {"batchItemFailures": []}
    withdrawn = next(entry for entry in world.record() if entry.type == "Upload Withdrawn")
    assert withdrawn.body["action"] == "search"
    assert (world.records.latest([photo]) == latest) is (kind == "one version")


def test_clients_that_a_decision_waits_for_give_up_before_the_function_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    for service in ("appconfigdata", "sqs", "dynamodb"):
        config = client.__wrapped__(service).meta.config
        worst = (config.connect_timeout + config.read_timeout) * config.retries["total_max_attempts"]
        assert worst <= 15, service
    assert topology.GATE.timeout >= 60


@pytest.mark.parametrize(("status", "reason"), [("403", "OBJECT_DENIED"), ("400", "OBJECT_ENCRYPTED")])
def test_an_object_that_s3_denies_is_rejected_at_the_last_delivery(
    world: World, status: str, reason: str
) -> None:
    world.put()
    world.s3.failing["head_object"] = ClientError({"Error": {"Code": status}}, "HeadObject")
    for _ in range(topology.GATE.max_receives - 1):
        assert len(world.gate()["batchItemFailures"]) == 1
    assert world.gate() == {"batchItemFailures": []}
    (entry,) = world.record()
    assert (entry.type, entry.body["reason"], entry.body["tenant"]) == ("Upload Rejected", reason, "acme")
    result = world.aws.client("s3").get_object(Bucket="results", Key=f"{KEY}.json")
    assert json.loads(result["Body"].read())["reason"] == reason


def test_an_object_that_s3_denies_for_a_moment_is_decided_on(world: World) -> None:
    world.put()
    world.s3.failing["head_object"] = ClientError({"Error": {"Code": "403"}}, "HeadObject")
    assert len(world.gate()["batchItemFailures"]) == 1
    world.s3.failing.clear()
    assert world.gate() == {"batchItemFailures": []}
    assert [entry.type for entry in world.record()] == ["Upload Permitted"]


@pytest.mark.parametrize("storage", ["GLACIER", "DEEP_ARCHIVE"])
def test_an_archived_object_is_rejected_by_its_head_alone(world: World, storage: str) -> None:
    world.aws.client("s3").put_object(Bucket="uploads", Key=KEY, Body=b"not read", StorageClass=storage)
    assert world.gate() == {"batchItemFailures": []}
    (entry,) = world.record()
    assert (entry.type, entry.body["reason"]) == ("Upload Rejected", "OBJECT_ARCHIVED")
    assert "get_object" not in world.s3.called


@pytest.mark.parametrize(
    "purpose", ["Not A Purpose", "x", "missing-children", "9lives", "Missing_Children", " "]
)
def test_a_badly_written_purpose_is_the_uploaders_mistake(world: World, purpose: str) -> None:
    world.put(purpose=purpose)
    assert world.gate() == {"batchItemFailures": []}
    (entry,) = world.record()
    assert (entry.type, entry.body["reason"]) == ("Upload Rejected", "INVALID_METADATA")
    assert entry.body["message"].endswith(PURPOSE_FORM)
    assert "decision" not in entry.body
