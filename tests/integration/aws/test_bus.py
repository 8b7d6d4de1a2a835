"""One contract for the bus and its rules, held to by the simulated EventBridge and S3 and by moto's."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest
from botocore.exceptions import ClientError, ParamValidationError
from tests.simulation.aws import SimulatedAws
from tests.simulation.clock import VirtualClock
from tests.simulation.faults import Faults

from abeyance.deployment.settings import DeploymentSettings
from abeyance.local.aws import LocalAws
from abeyance.pipeline import topology
from abeyance.pipeline.aws import EventBridgeBus
from abeyance.pipeline.events import EVENTS, Upload

NAMES = tuple(stage.name for stage in topology.STAGES)
DETAIL_TYPES = tuple(event.detail_type for event in EVENTS)


class Deployed(NamedTuple):
    """An account with the system's buckets, bus, rules and queues."""

    client: Callable[[str], Any]
    settings: DeploymentSettings
    #: Returns and deletes what waits for a stage: the envelopes, in order.
    take: Callable[[str], list[dict[str, Any]]]


@pytest.fixture(scope="module", params=["simulated", "moto"])
def deployed(request: pytest.FixtureRequest) -> Iterator[Deployed]:
    if request.param == "simulated":
        yield _simulated()
        return
    aws = LocalAws()
    aws.start()
    yield Deployed(aws.client, aws.settings, lambda name: _received(aws.client("sqs"), name))
    aws.stop()


def _simulated() -> Deployed:
    chance = random.Random(1)
    faults, settings = Faults(random=chance), DeploymentSettings()
    faults.active = False
    aws = SimulatedAws(VirtualClock(), faults, chance)
    aws.create(settings)

    def take(name: str) -> list[dict[str, Any]]:
        queue = aws.sqs.queues[_stage(name).queue]
        taken, queue.messages = queue.messages, []
        return [json.loads(message.body) for message in taken]

    return Deployed(aws.client, settings, take)


def _received(sqs: Any, name: str) -> list[dict[str, Any]]:
    url = sqs.get_queue_url(QueueName=_stage(name).queue)["QueueUrl"]
    taken: list[dict[str, Any]] = []
    while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
        for message in messages:
            taken.append(json.loads(message["Body"]))
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return taken


def _stage(name: str) -> topology.Stage:
    return next(stage for stage in topology.STAGES if stage.name == name)


def entry(detail_type: str, number: int = 0, *, bus: str, source: str = topology.SOURCE) -> dict[str, Any]:
    detail = json.dumps({"number": number, "action": "search", "reviewers": 1, "media": "photo"})
    return {"EventBusName": bus, "Source": source, "DetailType": detail_type, "Detail": detail}


def reached(deployed: Deployed, entries: list[dict[str, Any]]) -> dict[str, list[int]]:
    """Send entries; return the numbers of those that came, by stage."""
    answer = deployed.client("events").put_events(Entries=entries)
    assert answer["FailedEntryCount"] == 0
    assert all(one["EventId"] for one in answer["Entries"])
    found = {name: deployed.take(name) for name in NAMES}
    return {name: [one["detail"]["number"] for one in taken] for name, taken in found.items() if taken}


#: The stages that each of our events goes to, beside the ledger.
GOES_TO = {
    "Upload Permitted": ["detect"],
    "Upload Halted": ["recognize"],
    "Upload Rejected": ["recognize"],
    "Upload Withdrawn": ["recognize"],
    "Recognition Halted": ["recognize"],
    "Faces Detected": ["recognize"],
    "Faces Matched": ["review"],
}


@pytest.mark.parametrize("detail_type", DETAIL_TYPES)
def test_an_event_of_ours_reaches_the_queues_of_its_rules(deployed: Deployed, detail_type: str) -> None:
    found = reached(deployed, [entry(detail_type, 7, bus=deployed.settings.event_bus)])
    assert found == {name: [7] for name in (*GOES_TO.get(detail_type, []), "ledger")}


def test_an_event_of_another_source_reaches_nobody(deployed: Deployed) -> None:
    assert reached(deployed, [entry("Upload Permitted", bus=deployed.settings.event_bus, source="x")]) == {}


def test_an_event_that_nobody_knows_reaches_the_ledger_alone(deployed: Deployed) -> None:
    assert reached(deployed, [entry("Nonsense", 3, bus=deployed.settings.event_bus)]) == {"ledger": [3]}


def test_ten_entries_a_call_and_no_more(deployed: Deployed) -> None:
    entries = [entry("Upload Permitted", number, bus=deployed.settings.event_bus) for number in range(11)]
    found = reached(deployed, entries[:10])
    assert sorted(found["detect"]) == list(range(10))
    for wrong in (entries, []):
        with pytest.raises((ClientError, ParamValidationError)):
            deployed.client("events").put_events(Entries=wrong)
    assert deployed.take("detect") == []


def test_the_envelope_has_what_stages_read(deployed: Deployed) -> None:
    upload = Upload(bucket="uploads", key="acme/index/staff/a.jpg", version="v", sequencer="0A")
    event = next(one for one in EVENTS if one.detail_type == "Upload Rejected").of(
        upload, stage="gate", reason="NO_FACE", message="Zażółć 张伟"
    )
    EventBridgeBus(deployed.client("events"), deployed.settings.event_bus).emit([event])
    (envelope,), (recorded,) = deployed.take("recognize"), deployed.take("ledger")
    assert envelope["detail"] == recorded["detail"]
    assert envelope["detail"]["message"] == "Zażółć 张伟"
    assert envelope["detail"]["upload"]["key"] == upload.key
    assert (envelope["source"], envelope["detail-type"]) == (topology.SOURCE, "Upload Rejected")
    assert envelope["id"] == recorded["id"]
    moment = datetime.fromisoformat(envelope["time"])
    assert abs((moment - datetime.fromisoformat(event.time)).total_seconds()) <= 1
    assert moment.tzinfo == UTC


def test_a_photo_is_announced_when_it_is_created_replaced_and_deleted(deployed: Deployed) -> None:
    s3, bucket = deployed.client("s3"), deployed.settings.uploads_bucket
    key = "acme/index/staff/张伟 a+b.jpg"
    etags = [s3.put_object(Bucket=bucket, Key=key, Body=body)["ETag"].strip('"') for body in (b"one", b"two")]
    s3.delete_object(Bucket=bucket, Key=key)
    s3.put_object(Bucket=deployed.settings.results_bucket, Key=key, Body=b"not announced")
    found = deployed.take("gate")
    assert [one["detail-type"] for one in found] == ["Object Created", "Object Created", "Object Deleted"]
    assert {one["source"] for one in found} == {"aws.s3"}
    assert {one["detail"]["bucket"]["name"] for one in found} == {bucket}
    objects = [one["detail"]["object"] for one in found]
    assert {one["key"] for one in objects} == {key}
    assert [one.get("etag") for one in objects] == [*etags, None]
    assert [one.get("size") for one in objects] == [3, 3, None]
    sequencers = [one["sequencer"] for one in objects]
    assert sequencers == sorted(set(sequencers))
    assert found[2]["detail"]["deletion-type"] == "Permanently Deleted"
    assert not any("version-id" in one for one in objects)
    assert [name for name in NAMES if deployed.take(name)] == []


def test_a_bucket_without_versions_has_no_version_of_a_photo(deployed: Deployed) -> None:
    s3, bucket = deployed.client("s3"), deployed.settings.uploads_bucket
    etag = s3.put_object(Bucket=bucket, Key="acme/index/staff/b.jpg", Body=b"one")["ETag"]
    named = {"Bucket": bucket, "Key": "acme/index/staff/b.jpg"}
    assert s3.get_object(**named, IfMatch=etag)["Body"].read() == b"one"
    with pytest.raises(ClientError):
        s3.get_object(**named, VersionId=etag.strip('"'))
    deployed.take("gate")
