"""The stages of a video, message by message: halts in the middle, messages twice, and a death at every call of AWS."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.videos import Clip, Shown, make

from abeyance.deployment import build
from abeyance.deployment.parts import build_tenants
from abeyance.deployment.settings import UNITS
from abeyance.deployment.videos import build_frames, build_jobs
from abeyance.local.aws import LocalAws
from abeyance.local.tenants import TENANTS
from abeyance.moratorium.presets import new_deployment
from abeyance.pipeline import topology
from abeyance.pipeline.batch import answer
from abeyance.pipeline.events import SegmentExamined, VideoSource
from abeyance.pipeline.jobs import VideoJob, new_id
from abeyance.pipeline.upload_records import KEY
from abeyance.pipeline.video_queue import VideoQueue
from abeyance.vision.video import decode

BUILDERS: dict[str, Callable[..., Any]] = {
    "gate": build.build_gate,
    "frames": build_frames,
    "recognize": build.build_recognize,
}
STAGES = {stage.name: stage for stage in topology.STAGES}
#: Three segments of a second.
SECONDS = 3


class Died(BaseException):
    """The end of a process."""


class Mortal:
    """An AWS client whose process dies before or after the call of a certain number."""

    def __init__(self, client: Any, world: World) -> None:
        self._client = client
        self._world = world

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._client, name)
        if not callable(attribute) or name in ("get_paginator",):
            return attribute

        def call(*args: Any, **kwargs: Any) -> Any:
            self._world.calls += 1
            dies = self._world.calls == self._world.dies_at
            if dies and not self._world.dies_after:
                raise Died
            done = attribute(*args, **kwargs)
            if dies:
                raise Died
            return done

        return call


class World:
    """The deployed stages over moto, run by hand."""

    def __init__(self, aws: LocalAws, flags: Path) -> None:
        self.aws, self.flags = aws, flags
        self.settings = aws.settings.replace(flags=f"file:{flags}")
        self.calls, self.dies_at, self.dies_after = 0, 0, False
        self.halt(on=False)
        self.start()

    def start(self) -> None:
        """Start every process anew."""
        clients = {name: Mortal(self.aws.client(name), self) for name in ("s3", "dynamodb", "events", "sqs")}
        self.stages = {name: make_(self._own(name), clients.__getitem__) for name, make_ in BUILDERS.items()}

    def _own(self, name: str) -> Any:
        read = set(UNITS[name].variables().values())
        return UNITS[name].of(**{key: value for key, value in self.settings.values().items() if key in read})

    def halt(self, *, on: bool) -> None:
        document = new_deployment()
        if on:
            document["flags"]["now"] = {"name": "now"}
            document["values"]["now"] = {
                "enabled": True,
                "effect": "halt",
                "actions": ["all"],
                "sectors": ["commercial"],
                "jurisdictions": ["all"],
                "starts": "2020-01-01T00:00:00Z",
                "on_expiry": "hold",
                "reason": "Halted in the middle.",
                "source": "test",
            }
        self.flags.write_text(json.dumps(document))

    def upload(self, key: str, body: bytes) -> None:
        self.aws.client("s3").put_object(Bucket="uploads", Key=key, Body=body)

    def take(self, name: str) -> list[dict[str, Any]]:
        """Take the messages of a stage's queue."""
        sqs = self.aws.client("sqs")
        url = sqs.get_queue_url(QueueName=STAGES[name].queue)["QueueUrl"]
        taken: list[dict[str, Any]] = []
        while found := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for message in found:
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                taken.append({"messageId": message["MessageId"], "body": message["Body"], "receives": 0})
        return taken

    def deliver(self, name: str, message: dict[str, Any]) -> bool:
        """Deliver a message once; return whether it is done with."""
        message["receives"] += 1
        record = {**message, "attributes": {"ApproximateReceiveCount": str(message["receives"])}}
        try:
            return answer({"Records": [record]}, self.stages[name]) == {"batchItemFailures": []}
        except Died:
            self.dies_at = 0
            self.start()
            return False

    def settle(self, *, twice: bool = False, between: Callable[[str, int], None] = lambda *_: None) -> None:
        """Run all stages until nothing waits; ``between`` is called after each message of a stage, with its number."""
        while waiting := [(name, message) for name in BUILDERS for message in self.take(name)]:
            for number, (name, message) in enumerate(waiting, 1):
                while not self.deliver(name, message):
                    assert message["receives"] < STAGES[name].max_receives
                if twice:
                    assert self.deliver(name, message)
                between(name, number)

    def result(self, key: str) -> dict[str, Any]:
        body = self.aws.client("s3").get_object(Bucket="results", Key=f"{key}.json")["Body"].read()
        found: dict[str, Any] = json.loads(body)
        return found

    def records(self) -> list[Any]:
        from abeyance.aws.dynamodb import DynamoTable
        from abeyance.pipeline.upload_records import UploadRecords

        table = DynamoTable(self.aws.client("dynamodb"), self.settings.uploads_table, partition=KEY, sort="")
        return [e for recorded in UploadRecords(table, 1, lambda: 0.0).all() for e in recorded.values()]

    def segments(self) -> list[SegmentExamined]:
        found = [event for event in self.records() if isinstance(event, SegmentExamined)]
        return sorted(found, key=lambda event: event.segment)

    def chips(self) -> list[str]:
        listed = self.aws.client("s3").list_objects_v2(Bucket="abeyance-chips")
        return sorted(found["Key"] for found in listed.get("Contents", ()))


@pytest.fixture(scope="module")
def clip(portraits: dict[str, Path]) -> bytes:
    shown = [Shown("obama", portraits["obama2.jpg"], 0, SECONDS, 170)]
    return make(Clip(SECONDS, shown, size=(320, 180), rate=8), gop=8)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, portraits: dict[str, Path]) -> Iterator[World]:
    monkeypatch.setattr(decode, "SEGMENT_MS", 1_000)
    aws = LocalAws()
    aws.start()
    for tenant in TENANTS:
        build_tenants(aws.settings, aws.client).add(tenant)
    yield World(aws, tmp_path / "flags.json")
    aws.stop()


def told(document: dict[str, Any]) -> dict[str, Any]:
    """Return a result without times and versions of this run."""
    kept = {name: document[name] for name in ("event", "faces", "video") if name in document}
    kept.get("video", {}).pop("halt", None)
    return kept


def test_a_halt_in_the_middle_stops_it_there(world: World, clip: bytes) -> None:
    world.upload("acme/analyze/any/clip.mp4", clip)

    def flip(stage: str, number: int) -> None:
        # The first message of frames opens the video; the next ones are its segments.
        if stage == "frames" and len(world.segments()) == 1:
            world.halt(on=True)

    world.settle(between=flip)
    assert [one.outcome for one in world.segments()] == ["EXAMINED", "HALTED"]
    assert [one.decision.permitted for one in world.segments()] == [True, False]
    found = world.result("acme/analyze/any/clip.mp4")
    assert found["event"] == "Faces Analyzed"
    assert found["video"]["examined_ms"] == 1_000
    assert found["video"]["halt"]["reason"] == "Halted in the middle."
    (person,) = found["faces"]
    assert person["times"]["appearances"][-1]["last_ms"] < 1_000
    assert world.chips() == []


def test_nothing_of_a_segment_that_was_running_is_kept(
    world: World, clip: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.upload("acme/search/any/clip.mp4", clip)
    whole = decode.VideoReader.frames

    def frames(video: decode.VideoReader, start_ms: int, end_ms: int, **more: Any) -> Iterator[Any]:
        for frame in whole(video, start_ms, end_ms, **more):
            yield frame
            if start_ms == 1_000:
                world.halt(on=True)

    monkeypatch.setattr(decode.VideoReader, "frames", frames)
    world.settle()
    assert [one.outcome for one in world.segments()] == ["EXAMINED", "HALTED"]
    found = world.result("acme/search/any/clip.mp4")
    # Matching would be a search after the halt.
    assert found["event"] == "Recognition Halted"
    assert found["video"]["examined_ms"] == 1_000
    assert not [key for key in world.chips() if "segment" in key]


def test_a_halt_before_the_first_segment_keeps_nothing(world: World, clip: bytes) -> None:
    world.upload("acme/analyze/any/clip.mp4", clip)
    world.settle(between=lambda stage, _: world.halt(on=True) if stage == "gate" else None)
    assert world.segments() == []
    assert world.result("acme/analyze/any/clip.mp4")["event"] == "Recognition Halted"
    assert world.chips() == []


def test_messages_twice_change_nothing(world: World, clip: bytes, portraits: dict[str, Path]) -> None:
    world.upload("acme/index/once/clip.mp4", clip)
    world.settle()
    world.upload("acme/index/twice/clip.mp4", clip)
    world.settle(twice=True)
    one, two = (world.result(f"acme/index/{name}/clip.mp4") for name in ("once", "twice"))
    assert one["event"] == "Faces Indexed"
    assert len(one["faces"]) == 1
    assert [face["face"] for face in one["faces"]] == [face["face"] for face in two["faces"]]
    assert len(world.segments()) == 2 * SECONDS
    assert not [key for key in world.chips() if "segment" in key]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_job_survives_a_death_at_every_call(world: World, clip: bytes, after: bool) -> None:
    world.dies_after = after
    s3 = world.aws.client("s3")
    head = s3.put_object(Bucket="uploads", Key="acme/films/clip.mp4", Body=clip)
    etag = head["ETag"].strip('"')
    source = VideoSource(bucket="uploads", key="acme/films/clip.mp4", version=etag, etag=etag, size=len(clip))

    def run(dies_at: int) -> dict[str, Any]:
        job = VideoJob(
            id=new_id(),
            operation="StartFaceDetection",
            tenant="acme",
            action="analyze",
            collection="-",
            source=source,
            purpose="unspecified",
            started=0.0,
        )
        build_jobs(world.settings, world.aws.client).create(job)
        VideoQueue(world.aws.client("sqs"), topology.FRAMES.queue).request(job.upload)
        world.calls, world.dies_at = 0, dies_at
        world.settle()
        return told(world.result(job.upload.key))

    clean = run(0)
    assert clean["event"] == "Faces Analyzed"
    assert len(clean["faces"]) == 1
    total = world.calls
    assert total > 20
    for dies_at in range(1 + 3 * after, total + 1, 7):
        assert run(dies_at) == clean, dies_at
    assert not [key for key in world.chips() if "segment" in key]


def test_a_segment_that_ends_every_process_is_left_out(
    world: World, clip: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.upload("acme/analyze/any/clip.mp4", clip)
    whole = decode.VideoReader.frames

    def frames(video: decode.VideoReader, start_ms: int, end_ms: int, **more: Any) -> Iterator[Any]:
        if start_ms == 1_000:
            raise MemoryError
        return whole(video, start_ms, end_ms, **more)

    monkeypatch.setattr(decode.VideoReader, "frames", frames)
    monkeypatch.setattr(World, "deliver", _patiently(World.deliver))
    world.settle()
    assert [one.outcome for one in world.segments()] == ["EXAMINED", "UNREADABLE", "EXAMINED"]
    found = world.result("acme/analyze/any/clip.mp4")
    assert (found["video"]["examined_ms"], found["video"]["unreadable_ms"]) == (3_000, 1_000)


def _patiently(deliver: Callable[..., bool]) -> Callable[..., bool]:
    """Deliver up to the last time that SQS would."""

    def until_done(world: World, name: str, message: dict[str, Any]) -> bool:
        return any(deliver(world, name, message) for _ in range(STAGES[name].max_receives))

    return until_done


def test_a_pointer_to_nothing_does_nothing(world: World, clip: bytes) -> None:
    world.upload("acme/analyze/any/clip.mp4", clip)
    world.settle()
    (opened,) = [event for event in world.records() if type(event).__name__ == "VideoOpened"]
    queue = VideoQueue(world.aws.client("sqs"), topology.FRAMES.queue)
    queue.send(opened.upload, [SECONDS, -1])
    queue.send(msgspec.structs.replace(opened.upload, tenant="icmec"), [0])
    before = world.result("acme/analyze/any/clip.mp4")
    for message in world.take("frames"):
        world.deliver("frames", message)
    assert world.result("acme/analyze/any/clip.mp4") == before
    assert len(world.segments()) == SECONDS
