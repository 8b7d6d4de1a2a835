"""The requests to AWS that a photo costs, by stage, action and batch: counted on the real handlers, and held here.

A request takes 1 to 2.5 ms of processor time, a round trip, and most of them a price. Whoever needs one more changes a
number here, and says why.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from abeyance.pipeline import topology
from benchmarks.counting import CallCounter
from benchmarks.demand import local_stages, pass_through
from benchmarks.pipeline import sample_photos

#: Requests of an invocation by action and stage: of one message, and of a full batch.
REQUESTS = {
    # Read states and registration, claim, head, record, emit.
    ("index", "gate"): (5, 2 + 3 * topology.GATE.batch_size),
    # Read states and registration, get the photo, put the chips, record, emit. Its batches are of one.
    ("index", "detect"): (5, 5),
    # Read states and registrations; get the chips; read META and write in one transaction; record; emit; put the
    # result; read the latest uploads.
    ("index", "recognize"): (8, 5 + 3 * topology.RECOGNIZE.batch_size),
    ("search", "gate"): (5, 2 + 3 * topology.GATE.batch_size),
    ("search", "detect"): (5, 5),
    # As above, but read META and the names of the candidates.
    ("search", "recognize"): (8, 5 + 3 * topology.RECOGNIZE.batch_size),
    # Read states.
    ("search", "review"): (1, 1),
}


@pytest.fixture(scope="module")
def counted() -> Iterator[dict[str, CallCounter]]:
    """Counts by action, after a photo of each has gone through."""
    photos = sample_photos(topology.RECOGNIZE.batch_size)
    with local_stages() as (aws, stages):
        counters = {}
        for action in ("index", "search"):
            pass_through(aws, stages, photos[:1], "warm", False, lambda _, invoke: invoke(), action)
            counters[action] = counter = CallCounter(aws)
            pass_through(aws, stages, photos[:1], "one", False, counter.run, action)
            pass_through(aws, stages, photos, "full", True, counter.run, action)
        yield counters


@pytest.mark.parametrize(("action", "stage"), REQUESTS)
def test_a_photo_costs_no_more_requests_than_are_written_here(
    counted: dict[str, CallCounter], action: str, stage: str
) -> None:
    found = tuple(counted[action].requests(stage, full) for full in (False, True))
    assert found == REQUESTS[action, stage]
