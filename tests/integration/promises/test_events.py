"""Every event that docs/events promises is emitted by stages that ``deployment.build`` makes, and fits its schema."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import jsonschema
import pytest
from tests.videos import Clip, make

from abeyance.console.roles import Person, Role
from abeyance.deployment import build
from abeyance.deployment.settings import UNITS, ConsoleSettings
from abeyance.deployment.videos import build_frames, build_jobs
from abeyance.moratorium.presets import new_deployment
from abeyance.pipeline import topology
from abeyance.pipeline.batch import answer
from abeyance.pipeline.events import VideoSource
from abeyance.pipeline.jobs import VideoJob, new_id
from abeyance.pipeline.review_cases import Ground, Verdict
from abeyance.pipeline.video_queue import VideoQueue

from .conftest import Deployment

SCHEMAS = {
    path.stem: json.loads(path.read_text())
    for path in (Path(__file__).parents[3] / "docs" / "events").glob("*.json")
}
BUILDERS = {
    "gate": build.build_gate,
    "detect": build.build_detect,
    "frames": build_frames,
    "recognize": build.build_recognize,
    "review": build.build_review,
}
REVIEWED = {
    "enabled": True,
    "effect": "restrict",
    "actions": ["search"],
    "sectors": ["commercial"],
    "jurisdictions": ["all"],
    "starts": "2020-01-01T00:00:00Z",
    "on_expiry": "lift",
    "human_review": 1,
    "reason": "People look at every match.",
    "source": "Test",
}
ORDERED = {
    **{name: value for name, value in REVIEWED.items() if name != "human_review"},
    "effect": "halt",
    "exempt_purposes": ["missing_children"],
    "authorization_required": True,
    "authorization_due_within_hours": 1,
}
REVIEWER = Person(principal="ada@local", name="Ada", roles=(Role.REVIEWER,))


class Pipeline:
    """The stages of a deployment, run by hand, and a queue that hears every event."""

    def __init__(self, deployment: Deployment, flags: Path) -> None:
        self.aws = deployment.aws
        self.flags = flags
        self.put_flags()
        self.settings = self.aws.settings.replace(flags=f"file:{flags}")
        self.stages = {name: make(self._own(UNITS[name]), self.aws.client) for name, make in BUILDERS.items()}
        self.sqs = self.aws.client("sqs")
        self.heard = self.sqs.create_queue(QueueName="heard")["QueueUrl"]
        arn = self.sqs.get_queue_attributes(QueueUrl=self.heard, AttributeNames=["QueueArn"])["Attributes"]
        bus, events = self.settings.event_bus, self.aws.client("events")
        events.put_rule(
            Name="heard", EventBusName=bus, EventPattern=json.dumps({"source": [topology.SOURCE]})
        )
        events.put_targets(Rule="heard", EventBusName=bus, Targets=[{"Id": "heard", "Arn": arn["QueueArn"]}])

    def _own(self, unit: Any) -> Any:
        names = set(unit.variables().values())
        return unit.of(**{name: value for name, value in self.settings.values().items() if name in names})

    def put_flags(self, **moratoria: Any) -> None:
        document = new_deployment()
        for key, value in moratoria.items():
            document["flags"][key], document["values"][key] = {"name": key}, value
        self.flags.write_text(json.dumps(document))

    def upload(self, key: str, body: bytes, **metadata: str) -> None:
        s3 = self.aws.client("s3")
        s3.put_object(Bucket=self.settings.uploads_bucket, Key=key, Body=body, Metadata=metadata)

    def settle_late_searches(self, later: timedelta) -> None:
        """Run the task for searches whose authorisation was to follow, as if that much time had passed."""
        with patch("abeyance.aws.timestamps.utc_now", lambda: datetime.now(UTC) + later):
            task = build.build_lapse(self._own(UNITS["recognize"]), self.aws.client)
        assert task() == {"lapsed": 1}

    def start_job(self) -> None:
        """Start a job on a stored video, as the API does."""
        body = make(Clip(2))
        bucket = self.settings.uploads_bucket
        put = self.aws.client("s3").put_object(Bucket=bucket, Key="acme/films/clip.mp4", Body=body)
        etag = put["ETag"].strip('"')
        job = VideoJob(
            id=new_id(),
            operation="StartFaceDetection",
            tenant="acme",
            action="analyze",
            collection="-",
            source=VideoSource(
                bucket=bucket, key="acme/films/clip.mp4", version=etag, etag=etag, size=len(body)
            ),
            purpose="unspecified",
            started=0.0,
            search="api:1",
        )
        build_jobs(self.settings, self.aws.client).create(job)
        VideoQueue(self.sqs, topology.FRAMES.queue).request(job.upload)

    def run(self, *names: str) -> None:
        """Let the stages work off their queues, in order."""
        for name in names or tuple(BUILDERS):
            stage = next(one for one in topology.STAGES if one.name == name)
            url = self.sqs.get_queue_url(QueueName=stage.queue)["QueueUrl"]
            # The stage frames sends messages to itself.
            while messages := self._take(url):
                for message in messages:
                    record = {"messageId": message["MessageId"], "body": message["Body"]}
                    assert answer({"Records": [record]}, self.stages[name]) == {"batchItemFailures": []}

    def events(self) -> list[dict[str, Any]]:
        """Take the events that were emitted since the last call."""
        return [json.loads(message["Body"]) for message in self._take(self.heard)]

    def forge(self, detail_type: str, detail: dict[str, Any]) -> None:
        """Put an event on the bus that no stage emitted."""
        entry = {"EventBusName": self.settings.event_bus, "Source": topology.SOURCE}
        self.aws.client("events").put_events(
            Entries=[{**entry, "DetailType": detail_type, "Detail": json.dumps(detail)}]
        )

    def review(self, verdict: Verdict) -> None:
        console = build.build_console(
            ConsoleSettings.of(flags=f"file:{self.flags}", console_identity="loopback"), self.aws.client
        )
        found = console.reviews.next_comparison(REVIEWER)
        assert found
        console.reviews.judge(REVIEWER, found.review.identity, found.case.number, verdict, Ground.FEATURES)

    def _take(self, url: str) -> list[Any]:
        taken: list[Any] = []
        while found := self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for message in found:
                self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            taken += found
        return taken


@pytest.fixture(scope="module")
def pipeline(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return Pipeline(deployment, tmp_path_factory.mktemp("events") / "flags.json")


def test_every_promised_event_is_emitted_and_fits_its_schema(
    pipeline: Pipeline, photos: Callable[[str], bytes]
) -> None:
    obama, again = photos("obama.jpg"), photos("obama2.jpg")
    pipeline.upload("acme/index/staff/one.jpg", obama)
    pipeline.upload("acme/analyze/any/one.jpg", obama)
    pipeline.upload("acme/index/staff/bad.jpg", b"not an image")
    pipeline.upload("acme/analyze/any/clip.mp4", make(Clip(2)))
    pipeline.start_job()
    pipeline.upload("springfield-police/search/staff/one.jpg", obama)
    pipeline.run()
    pipeline.upload("acme/search/staff/now.jpg", again)
    pipeline.run("gate", "detect")
    unreviewed = {key: value for key, value in REVIEWED.items() if key != "human_review"}
    pipeline.put_flags(everybody={**unreviewed, "effect": "halt", "actions": ["all"]})
    pipeline.run("recognize")
    pipeline.put_flags(reviewed=REVIEWED)
    for name, verdict in (("yes", Verdict.SAME), ("no", Verdict.DIFFERENT)):
        pipeline.upload(f"acme/search/staff/{name}.jpg", again)
        pipeline.run()
        pipeline.review(verdict)
    pipeline.put_flags(ordered=ORDERED)
    pipeline.upload("acme/search/staff/late.jpg", again, purpose="missing_children", authorization="late")
    pipeline.run()
    pipeline.settle_late_searches(timedelta(hours=2))
    s3 = pipeline.aws.client("s3")
    s3.delete_object(Bucket=pipeline.settings.uploads_bucket, Key="acme/index/staff/one.jpg")
    pipeline.run()

    heard = pipeline.events()
    (halted,) = [one["detail"] for one in heard if one["detail-type"] == "Upload Halted"]
    pipeline.forge("Upload Permitted", {**halted, "purpose": "unspecified", "media": "photo"})
    pipeline.run()

    seen: dict[str, dict[str, Any]] = {}
    analyzed: list[tuple[str, dict[str, Any]]] = []
    for event in heard + pipeline.events():
        name = event["detail-type"].lower().replace(" ", "-")
        jsonschema.validate(event["detail"], SCHEMAS[name])
        seen[name] = event["detail"]
        if name == "faces-analyzed":
            analyzed.append((event["detail"]["upload"]["key"], event["detail"]))
    assert seen.keys() == SCHEMAS.keys()
    (photo,) = [one for name, one in analyzed if name.endswith(".jpg")]
    attributes = photo["faces"][0]["attributes"]
    assert attributes["gender"]["value"] == "Male"
    assert attributes["age_range"][0] < attributes["age_range"][1]
    assert attributes["emotions"]
    assert {"smile", "mouth_open"} <= attributes.keys()
