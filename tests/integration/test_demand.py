"""What a photo asks of each stage, counted on the real handlers."""

from __future__ import annotations

import os

import pytest

from abeyance.cost.demand import EVENT_PUT
from abeyance.pipeline import topology
from benchmarks.counting import size_of
from benchmarks.demand import measure
from benchmarks.pipeline import sample_photos


@pytest.mark.slow
def test_calls_are_counted_and_the_environment_is_left_alone() -> None:
    before = dict(os.environ)
    found = measure(sample_photos(topology.RECOGNIZE.batch_size), rounds=1)
    assert dict(os.environ) == before
    assert found.faces >= 0.8
    for name in ("gate", "detect", "recognize"):
        needs = found.stages[name]
        # Each message says one thing, all of a batch with one call, and each takes time of its own.
        assert needs.message_calls[EVENT_PUT] == 1
        assert (needs.message_calls | needs.invocation_calls)["events.PutEvents"] == 1
        assert needs.message_ms > 0
        assert needs.write_units >= 1
    # The gate never asks for a photo's bytes.
    assert not any("GetObject" in call for call in found.stages["gate"].message_calls)
    ledger = found.stages["ledger"]
    # The head is read, moved, and marked, once for a whole batch; an entry takes a share of its bundles and tile.
    assert ledger.invocation_calls["dynamodb.GetItem"] == 1
    assert ledger.invocation_calls["dynamodb.PutItem"] == 2
    assert ledger.message_calls.keys() == {"s3.PutObject"}
    assert ledger.message_calls["s3.PutObject"] < 0.05
    assert ledger.write_units < 0.1
    assert found.left["ledger_bucket"] > 1000
    assert found.message_bytes > 1000
    assert not any(found.stages["review"].message_calls)


@pytest.mark.parametrize(
    ("item", "size"),
    [
        ({"pk": {"S": "head"}}, 6),
        ({"a": {"N": "12"}, "b": {"B": b"xyz"}}, 1 + 2 + 1 + 3),
        ({"l": {"L": [{"S": "ab"}]}, "m": {"M": {"k": {"BOOL": True}}}}, 1 + 3 + 3 + 1 + 3 + 2),
        ({"s": {"SS": ["a", "bc"]}}, 4),
    ],
)
def test_items_are_as_large_as_dynamodb_counts_them(item: dict[str, object], size: int) -> None:
    assert size_of(item) == size  # type: ignore[arg-type]
