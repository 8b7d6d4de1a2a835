"""Photos whose bytes detect does not get, or does not ask for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import msgspec
import pytest
from tests.fakes import MemoryTable

from abeyance.aws.objects import UNREADABLE, ObjectUnreadable
from abeyance.moratorium.decide import Clause, Decision
from abeyance.pipeline import events, topology
from abeyance.pipeline.batch import Batch, Message
from abeyance.pipeline.detect import Detect
from abeyance.pipeline.outbox import Outbox
from abeyance.pipeline.upload_records import KEY, UploadRecords
from abeyance.vision.image import DEFAULT_LIMITS

DECISION = Decision(outcome="permit", clause=Clause.PERMITTED, reason="ok", tenant="acme", action="index")
REASONS = sorted(set(UNREADABLE.values()))


def permitted(size: int = 3) -> events.UploadPermitted:
    upload = events.Upload(
        bucket="uploads",
        key="acme/index/staff/a.jpg",
        version="e",
        etag="e",
        sequencer="0A",
        tenant="acme",
        action="index",
        collection="staff",
        size=size,
    )
    return events.UploadPermitted.of(upload, decision=DECISION, purpose="unspecified")


def detect(event: events.UploadPermitted, receives: int, objects: Any) -> tuple[list[str], list[Any]]:
    """Run detect on one delivery; return the messages that failed and the events that were emitted."""
    records = UploadRecords(MemoryTable(partition=KEY, sort=""), 1, lambda: 1e9)
    records.claim(event.upload)
    records.record("gate", event)
    emitted: list[Any] = []
    bus = SimpleNamespace(emit=emitted.extend)
    guard: Any = SimpleNamespace(decide=lambda *_: DECISION, read_along=lambda _: [], for_batch=lambda: guard)
    analyzer: Any = SimpleNamespace(limits=DEFAULT_LIMITS)
    outbox = Outbox("detect", records, bus, objects, "results")
    envelope = {"detail-type": event.detail_type, "detail": msgspec.to_builtins(event)}
    batch = Batch.of([Message("m", receives, envelope)])
    Detect(guard, objects, outbox, analyzer, "chips")(batch)
    return batch.failures, emitted


@pytest.mark.parametrize(("reason", "may_pass"), REASONS)
@pytest.mark.parametrize("receives", [1, topology.DETECT.max_receives])
def test_a_photo_that_s3_does_not_give_ends_or_comes_again(
    reason: str, may_pass: bool, receives: int
) -> None:
    objects = Mock(**{"read.side_effect": ObjectUnreadable(reason, may_pass=may_pass)})
    failed, emitted = detect(permitted(), receives, objects)
    if may_pass and receives == 1:
        assert (failed, emitted) == (["m"], [])
        return
    assert failed == []
    assert [(one.reason, one.stage) for one in emitted] == [(reason, "detect")]
    assert "result" in str(objects.put.call_args)


@pytest.mark.parametrize("size", [5 * 2**40, 2**63, 10**30])
def test_a_photo_that_is_announced_too_large_is_not_read(size: int) -> None:
    objects = Mock()
    failed, emitted = detect(permitted(size), 1, objects)
    assert (failed, [one.reason for one in emitted]) == ([], ["TOO_MANY_BYTES"])
    assert str(size) in emitted[0].message
    objects.read.assert_not_called()
