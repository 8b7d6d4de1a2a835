"""A batch asks together what it can, and of each message that fails nothing is lost and nothing of another's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import pytest

from abeyance.pipeline import events
from abeyance.pipeline.aws import BYTES_PER_CALL, ENTRIES_PER_CALL, EventBridgeBus
from abeyance.pipeline.events import Event, Upload
from abeyance.pipeline.ports import Standing
from abeyance.pipeline.stage import Message, Outbox, each, rejected, together


class Records:
    """Records of uploads in memory."""

    def __init__(self) -> None:
        self.on_key: dict[tuple[str, str], str] = {}
        self.stages: dict[str, dict[str, Event]] = {}
        self.reads = 0
        self.failing = ""

    def come(self, upload: Upload) -> Upload:
        self.on_key[upload.bucket, upload.key] = upload.identity
        return upload

    def look(self, uploads: Sequence[Upload]) -> list[Standing]:
        self.reads += 1
        return [
            Standing(self.on_key[one.bucket, one.key] == one.identity, self.settled(one.identity))
            for one in uploads
        ]

    def still_latest(self, uploads: Sequence[Upload]) -> list[bool]:
        return [standing.latest for standing in self.look(uploads)]

    def latest(self, bucket: str, key: str) -> str:
        self.reads += 1
        return self.on_key[bucket, key]

    def settled(self, identity: str) -> Mapping[str, Event]:
        return self.stages.get(identity, {})

    def settle(self, stage: str, event: Event) -> Event:
        if event.upload.key == self.failing:
            raise ConnectionError
        return self.stages.setdefault(event.upload.identity, {}).setdefault(stage, event)


class World:
    """An outbox with records, a bus and a bucket of results, all in memory."""

    def __init__(self) -> None:
        self.records = Records()
        self.calls: list[list[str]] = []
        self.results: dict[str, str] = {}
        self.bus_is_down = False
        self.after_put: Callable[[str], None] = lambda key: None
        self.outbox = Outbox("gate", self.records, self, self, "results")  # type: ignore[arg-type]

    def emit(self, told: Sequence[Event]) -> None:
        if self.bus_is_down:
            raise ConnectionError
        self.calls.append([event.upload.key for event in told])

    def put(self, bucket: str, key: str, body: bytes, content_type: str) -> None:
        self.results[key] = msgspec.json.decode(body)["id"]
        self.after_put(key)

    def delete(self, bucket: str, key: str) -> None:
        self.results.pop(key, None)


def upload(key: str, sequencer: str = "1") -> Upload:
    return Upload(bucket="uploads", key=key, version="v" + sequencer, sequencer=sequencer, tenant="acme")


def end(of: Upload) -> Event:
    return rejected("gate", of, "NO_FACE", "No face was found in the image.")


def messages(ends: Sequence[Event]) -> list[tuple[Message, Event]]:
    return [(Message(event.upload.key, 1, {}), event) for event in ends]


@pytest.fixture
def world() -> World:
    return World()


def test_a_batch_is_told_at_once_and_looked_at_twice(world: World) -> None:
    ends = [end(world.records.come(upload(key))) for key in "abcde"]
    failed: list[str] = []
    assert world.outbox.settle_all(messages(ends), failed) == []
    assert failed == []
    assert world.calls == [list("abcde")]
    assert world.results == {f"{event.upload.key}.json": event.id for event in ends}
    assert world.records.reads == 2


def test_one_that_cannot_be_settled_holds_up_no_other(world: World) -> None:
    ends = [end(world.records.come(upload(key))) for key in "abc"]
    world.records.failing = "b"
    failed: list[str] = []
    world.outbox.settle_all(messages(ends), failed)
    assert failed == ["b"]
    assert world.calls == [["a", "c"]]
    assert sorted(world.results) == ["a.json", "c.json"]


def test_what_could_not_be_told_has_no_result_and_comes_again_as_it_was(world: World) -> None:
    first = end(world.records.come(upload("a")))
    world.bus_is_down = True
    failed: list[str] = []
    world.outbox.settle_all(messages([first]), failed)
    assert (failed, world.results) == (["a"], {})
    world.bus_is_down = False
    later = msgspec.structs.replace(first, reason="UNPROCESSABLE")
    world.outbox.settle_all(messages([later]), failed)
    assert world.records.settled(first.upload.identity) == {"gate": first}
    assert world.calls == [["a"]]
    assert world.outbox.repeat(first.upload)
    assert world.calls == [["a"], ["a"]]


def test_a_later_upload_that_comes_while_a_result_is_written_has_the_last_word(world: World) -> None:
    first, second = upload("a", "1"), upload("a", "2")
    world.records.come(first)
    other = end(world.records.come(upload("b")))

    def overtake(key: str) -> None:
        if key == "a.json":
            world.records.come(second)
            world.records.stages[second.identity] = {"gate": end(second)}

    world.after_put = overtake
    failed: list[str] = []
    overtaken = world.outbox.settle_all(messages([end(first), other]), failed)
    assert [event.upload for _, event in overtaken] == [first]
    assert world.results == {"a.json": end(second).id, "b.json": other.id}
    assert failed == []


def test_an_upload_that_was_replaced_before_writes_no_result(world: World) -> None:
    first = upload("a", "1")
    world.records.come(upload("a", "2"))
    overtaken = world.outbox.settle_all(messages([end(first)]), [])
    assert [event.upload for _, event in overtaken] == [first]
    assert world.results == {}
    assert world.calls == [["a"]]


def test_what_fails_for_all_fails_for_each() -> None:
    pairs = [(Message(str(number), 1, {}), number) for number in range(3)]

    def fail(numbers: list[int]) -> list[int]:
        raise ConnectionError

    failed: list[str] = []
    assert together(pairs, fail, failed) == []
    assert failed == ["0", "1", "2"]
    assert together([], fail, failed) == []
    with pytest.raises(ConnectionError):
        together(pairs, fail, failed, let=ConnectionError)
    failed = []
    assert [result for _, result in each(pairs, lambda number: 1 // number, failed)] == [1, 0]
    assert failed == ["0"]


class EventBridge:
    def __init__(self) -> None:
        self.calls: list[list[dict[str, Any]]] = []

    def put_events(self, Entries: list[dict[str, Any]]) -> dict[str, Any]:
        self.calls.append(Entries)
        return {"FailedEntryCount": 0, "Entries": []}


@pytest.mark.parametrize(
    ("size", "calls"), [(10, [10, 10, 3]), (100_000, [2] * 11 + [1]), (230_000, [1] * 23)]
)
def test_the_bus_is_handed_no_more_than_it_takes_at_once(size: int, calls: list[int]) -> None:
    eventbridge = EventBridge()
    sent = [
        events.UploadRejected(
            id=f"{number}",
            time="2026-01-01T00:00:00Z",
            upload=upload("a"),
            stage="gate",
            reason="X",
            message="y" * size,
        )
        for number in range(23)
    ]
    EventBridgeBus(eventbridge, "bus").emit(sent)
    assert [len(call) for call in eventbridge.calls] == calls
    assert [msgspec.json.decode(entry["Detail"])["id"] for call in eventbridge.calls for entry in call] == [
        event.id for event in sent
    ]
    for call in eventbridge.calls:
        assert len(call) <= ENTRIES_PER_CALL
        assert sum(len(entry["Detail"]) for entry in call) <= max(BYTES_PER_CALL, size + 1000)
