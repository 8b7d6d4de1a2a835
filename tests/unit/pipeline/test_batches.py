"""A batch asks together where it can, and a message that fails loses nothing of its own and nothing of another's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import pytest
from tests.fakes import MemoryTable

from abeyance.aws.eventbridge import MAX_BYTES, MAX_ENTRIES
from abeyance.aws.table import Item, Key, Operation, Update
from abeyance.pipeline import events
from abeyance.pipeline.aws import EventBridgeBus
from abeyance.pipeline.batch import Batch, Message
from abeyance.pipeline.events import Event, Upload
from abeyance.pipeline.outbox import Outbox, RecordedEvent, rejected
from abeyance.pipeline.upload_records import KEY, UploadRecords


class Table(MemoryTable):
    """A table of uploads that counts batch reads, and refuses to update one upload's record."""

    def __init__(self) -> None:
        super().__init__(partition=KEY, sort="")
        self.reads = 0
        self.failing = ""

    def get_many(self, keys: Iterable[Key], **how: Any) -> dict[Key, Item]:
        self.reads += 1
        return super().get_many(keys, **how)

    def transact(self, operations: Sequence[Operation]) -> None:
        if any(isinstance(one, Update) and one.key[0] == self.failing for one in operations):
            raise ConnectionError
        super().transact(operations)


class World:
    """An outbox with records, a bus and a bucket of results, all in memory."""

    def __init__(self) -> None:
        self.table = Table()
        self.records = UploadRecords(self.table, 1, lambda: 1e9)
        self.calls: list[list[str]] = []
        self.results: dict[str, str] = {}
        self.bus_is_down = False
        self.after_put: Callable[[str], None] = lambda key: None
        self.outbox = Outbox("gate", self.records, self, self, "results")  # type: ignore[arg-type]

    def arrive(self, arrived: Upload) -> Upload:
        assert self.records.claim(arrived)
        return arrived

    def record(self, *outcomes: Event | RecordedEvent) -> tuple[list[str], list[Upload]]:
        """Record the outcomes of a batch; return the messages that failed, and the uploads that were overtaken."""
        own = [one.event if isinstance(one, RecordedEvent) else one for one in outcomes]
        batch = Batch(zip((Message(event.upload.key, 1, {}) for event in own), outcomes, strict=True))
        published = self.outbox.record_outcomes(batch)
        return batch.failures, [ended.event.upload for ended in published if not ended.is_latest]

    def emit(self, emitted: Sequence[Event]) -> None:
        if self.bus_is_down:
            raise ConnectionError
        self.calls.append([event.upload.key for event in emitted])

    def put(self, bucket: str, key: str, body: bytes, content_type: str) -> None:
        self.results[key] = msgspec.json.decode(body)["id"]
        self.after_put(key)

    def delete(self, bucket: str, key: str) -> None:
        self.results.pop(key, None)


def upload(key: str, sequencer: str = "1") -> Upload:
    return Upload(bucket="uploads", key=key, version="v" + sequencer, sequencer=sequencer, tenant="acme")


def end(of: Upload) -> Event:
    return rejected("gate", of, "NO_FACE", "No face was found in the image.")


@pytest.fixture
def world() -> World:
    return World()


def test_a_batch_is_emitted_at_once_and_its_keys_are_read_once(world: World) -> None:
    ends = [end(world.arrive(upload(key))) for key in "abcde"]
    assert world.record(*ends) == ([], [])
    assert world.calls == [list("abcde")]
    assert world.results == {f"{event.upload.key}.json": event.id for event in ends}
    assert world.table.reads == 1


def test_an_outcome_that_cannot_be_recorded_holds_up_no_other(world: World) -> None:
    ends = [end(world.arrive(upload(key))) for key in "abc"]
    world.table.failing = f"upload#{ends[1].upload.identity}"
    assert world.record(*ends) == (["b"], [])
    assert world.calls == [["a", "c"]]
    assert sorted(world.results) == ["a.json", "c.json"]


def test_an_event_that_could_not_be_emitted_has_no_result_and_is_emitted_again_as_recorded(
    world: World,
) -> None:
    first = end(world.arrive(upload("a")))
    world.bus_is_down = True
    assert world.record(first) == (["a"], [])
    assert world.results == {}
    world.bus_is_down = False
    world.record(msgspec.structs.replace(first, reason="UNPROCESSABLE"))
    assert world.records.recorded(first.upload.identity) == {"gate": first}
    assert world.calls == [["a"]]
    (state,) = world.records.read_states([first.upload])
    recorded = world.outbox.already_recorded(state)
    assert recorded is not None
    world.record(recorded)
    assert world.calls == [["a"], ["a"]]


def test_a_later_upload_that_comes_while_a_result_is_written_has_the_last_result(world: World) -> None:
    first, second = world.arrive(upload("a", "1")), upload("a", "2")
    other = end(world.arrive(upload("b")))

    def overtake(key: str) -> None:
        if key == "a.json":
            world.arrive(second)
            world.records.record("gate", end(second))

    world.after_put = overtake
    assert world.record(end(first), other) == ([], [first])
    assert world.results == {"a.json": end(second).id, "b.json": other.id}


def test_an_upload_that_was_replaced_before_writes_no_result(world: World) -> None:
    first = upload("a", "1")
    world.arrive(upload("a", "2"))
    assert world.record(end(first)) == ([], [first])
    assert world.results == {}
    assert world.calls == [["a"]]


def test_an_outcome_outside_a_batch_raises_its_failure(world: World) -> None:
    first = end(world.arrive(upload("a")))
    world.bus_is_down = True
    with pytest.raises(ConnectionError):
        world.outbox.record_outcome(first)
    world.bus_is_down = False
    assert world.outbox.record_outcome(msgspec.structs.replace(first, reason="UNPROCESSABLE")) == first
    assert world.results == {"a.json": first.id}


def numbers(count: int) -> Batch[int]:
    return Batch((Message(str(number), 1, {}), number) for number in range(count))


def test_a_step_that_fails_together_fails_for_each() -> None:
    def fail(values: list[int]) -> list[int]:
        raise ConnectionError

    batch = numbers(3)
    assert list(batch.map_together(fail)) == []
    assert batch.failures == ["0", "1", "2"]
    assert list(numbers(0).map_together(fail)) == []
    with pytest.raises(ConnectionError):
        numbers(3).map_together(fail, raises=ConnectionError)


def test_a_message_that_fails_is_in_no_later_step() -> None:
    batch = numbers(3)
    assert list(batch.map(lambda number: 1 // number).map(lambda number: number + 1)) == [2, 1]
    assert batch.failures == ["0"]


def test_groups_keep_their_messages() -> None:
    batch = numbers(4)
    odd = batch.group_by(lambda number: number % 2)[1]
    assert list(odd) == [1, 3]
    odd.map(lambda number: 1 // (number - 3))
    assert batch.failures == ["3"]
    assert [message.id for message in odd.messages] == ["1", "3"]


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
        assert len(call) <= MAX_ENTRIES
        assert sum(len(entry["Detail"]) for entry in call) <= max(MAX_BYTES, size + 1000)
