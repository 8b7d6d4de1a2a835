"""The ledger: making entries, verifying a log, opening its fields, and proving one entry, in processor time."""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from abeyance.ledger.checkpoint import LATEST, LogCheckpoint, checkpoint_key
from abeyance.ledger.entry import LogEntry, Record, make_entry
from abeyance.ledger.identity import LOG, new_identity
from abeyance.ledger.indexer import Indexer
from abeyance.ledger.integrate import TreeEdge, integrate
from abeyance.ledger.lookup import Lookup
from abeyance.ledger.objects import DirectoryObjects
from abeyance.ledger.query import Query
from abeyance.ledger.receipts import make_receipt, read_checkpoint
from abeyance.ledger.signatures import SIGN, generate
from benchmarks.comparison import BenchmarkPart, Comparison, Figure, Progress, Spread
from benchmarks.process import BenchmarkError, Child

#: Entries of a batch, and of the checkpoints in between.
BATCH = 3_000
#: Entries of a segment of the lookup index: some more than the least.
SEGMENT = 6_000
OUTCOMES = ("permit", "deny")
ROUNDS = 3
#: Most memory of a verification, and most photos' entries that one writer has to make, by the objectives.
MEMORY_AIM_MIB = 32
ENTRIES_AIM = 3_000
KEY = generate("abeyance/benchmark", bytes(32))


def records(count: int) -> Iterator[Record]:
    """Yield the decisions of as many searches, every second one denied."""
    for number in range(count):
        body = {
            "action": "search",
            "as_of": "2020-06-10T00:00:00Z",
            "clause": "halt",
            "flags": [
                {"effect": "halt", "key": "amazon-2020-police", "reason": "One year without police use"}
            ],
            "human_review": 0,
            "jurisdiction": "US-OR",
            "min_similarity": 99.5 if number % 3 else None,
            "outcome": "deny" if number % 2 else "permit",
            "reason": "Halted — police use",
            "tenant": f"agency-{number % 50}",
        }
        yield Record(f"d-{number}", "decision", "2020-06-10T00:00:00Z", body)


def entries(count: int) -> Iterator[LogEntry]:
    """Yield their entries."""
    for number, record in enumerate(records(count)):
        yield make_entry(record, number.to_bytes(16, "big"))


def write_log(folder: Path, count: int) -> None:
    """Write a log of ``count`` entries with a signed checkpoint a batch."""
    objects, edge, made = DirectoryObjects(folder), TreeEdge(), entries(count)
    objects.put_new(LOG, new_identity("benchmark", datetime(2020, 6, 10, tzinfo=UTC)).canonical)
    while batch := [(one.leaf, one.opening) for one in itertools.islice(made, BATCH)]:
        edge = integrate(objects, edge, batch)
        note = LogCheckpoint(KEY.name, edge.size, edge.root())
        text = str(note.signed(KEY.sign(note))).encode()
        objects.put_new(checkpoint_key(edge.size), text)
    objects.replace(LATEST, text)


def run(quick: bool, progress: Progress) -> BenchmarkPart:
    """Measure the ledger; every step on a log is a process of its own, because of its memory."""
    count = 100_000 if quick else 1_000_000
    progress("entries")
    making = [_making(20_000) for _ in range(ROUNDS)]
    with tempfile.TemporaryDirectory(prefix="abeyance-ledger-") as folder:
        progress(f"a log of {count} entries")
        write_log(Path(folder), count)
        progress("verification")
        rounds = [{what: _apart(folder, what) for what in ("verify", "hash")} for _ in range(ROUNDS)]
        progress("opening")
        opening = _apart(folder, "open")
        progress("proofs")
        proofs, requests = _proofs(Path(folder), count)
        progress("lookups")
        writing, lookups = _lookups(Path(folder), count)
    what = f"{count:,} entries".replace(",", " ")
    verify = [one["verify"]["seconds"] for one in rounds]
    alone = [one["hash"]["seconds"] for one in rounds]
    note = "processor time of one core"
    figures = [
        Figure(
            key="ledger.entries",
            what="entries that one core makes",
            unit="entries/s",
            value=Spread.of([1 / one for one in making]),
            aim=ENTRIES_AIM,
            more_is_better=True,
            note="checked, canonical, committed field by field",
        ),
        Figure(
            key="ledger.verify",
            what=f"verify {what}: signatures, order, tree",
            unit="s",
            value=Spread.of(verify),
            note=note,
        ),
        Figure(
            key="ledger.memory",
            what=f"verify {what}: most memory",
            unit="MiB",
            value=Spread.of([one["verify"]["mib"] for one in rounds]),
            aim=MEMORY_AIM_MIB,
            note="of the whole process, the interpreter included",
        ),
        Figure(
            key="ledger.open",
            what=f"open every field of {what}",
            unit="s",
            value=Spread.of([opening["seconds"]]),
            note=note,
        ),
        Figure(
            key="ledger.proof",
            what=f"a receipt from a log of {what}",
            unit="ms",
            value=Spread.of(proofs, 1000),
            note=f"{requests} reads of a disk; over a network, as many requests",
        ),
        Figure(
            key="ledger.index",
            what="entries that one core adds to the lookup index",
            unit="entries/s",
            value=Spread.of([1 / writing]),
            note=f"of a log of {what}, {SEGMENT} at a time",
        ),
        *(
            Figure(
                key=f"ledger.lookup.{key}",
                what=f"{asked}, looked up in a log of {what}",
                unit="ms",
                value=Spread.of(seconds, 1000),
                note=f"{min(reads)} to {max(reads)} reads of a disk; over a network, as many requests",
            )
            for key, (asked, seconds, reads) in lookups.items()
        ),
    ]
    compared = Comparison(
        key="ledger.verify.hashing",
        what=f"verify {what}",
        unit="s",
        ours=Spread.of(verify),
        other="SHA-256 of the same entries and nodes, nothing else",
        theirs=Spread.of(alone),
        ratio=Spread.of([floor / ours for floor, ours in zip(alone, verify, strict=True)]),
        note=rounds[0]["verify"]["result"],
    )
    return BenchmarkPart(name="ledger", comparisons=(compared,), figures=tuple(figures))


def _making(count: int) -> float:
    """Return the processor seconds of one entry."""
    given = list(records(count))
    start = time.process_time()
    for number, record in enumerate(given):
        make_entry(record, number.to_bytes(16, "big"))
    return (time.process_time() - start) / count


def _apart(folder: str, what: str) -> dict[str, Any]:
    """Do one step on a log in a process of its own; see :mod:`benchmarks.ledger_steps`."""
    with Child("the verification", [sys.executable, "-m", "benchmarks.ledger_steps"]) as child:
        return child.ask(within=400, folder=folder, what=what, key=str(KEY.verifier(SIGN)))


def _proofs(folder: Path, count: int) -> tuple[list[float], int]:
    """Return the seconds of some receipts, and the reads of one."""
    objects = _Counting(folder)
    seconds = []
    for index in range(0, count, count // 100):
        start = time.perf_counter()
        objects.reads = 0
        make_receipt(objects, read_checkpoint(objects), index)
        seconds.append(time.perf_counter() - start)
    return seconds, objects.reads


def _lookups(folder: Path, count: int) -> tuple[float, dict[str, tuple[str, list[float], list[int]]]]:
    """Return the processor seconds of indexing one entry, and of each kind of lookup the seconds and the reads."""
    objects, start = _Counting(folder), time.process_time()
    for size in range(SEGMENT, count + 1, SEGMENT):
        Indexer(lambda size=size: size, objects).index()  # type: ignore[misc]
    writing = (time.process_time() - start) / (count // SEGMENT * SEGMENT)
    numbers = range(0, count, count // 100)
    queries = {
        "id": ("an entry by its id", [Query(id=f"d-{number}") for number in numbers]),
        "tenant": (
            "50 entries by tenant, day and outcome",
            [
                Query(tenant=f"agency-{number % 50}", day="2020-06-10", outcome=OUTCOMES[number % 2])
                for number in range(100)
            ],
        ),
    }
    found = {}
    for key, (asked, some) in queries.items():
        seconds, reads = [], []
        for query in some:
            objects.reads, start = 0, time.perf_counter()
            page = Lookup(objects, count).page(query, before=count, limit=50, most=count)
            seconds.append(time.perf_counter() - start)
            reads.append(objects.reads)
            if not page.entries:
                raise BenchmarkError(f"{query} finds nothing")
        found[key] = (asked, seconds, reads)
    return writing, found


class _Counting(DirectoryObjects):
    """A log in a folder that counts what would be requests of S3: every read, and every page of a listing."""

    reads = 0

    def get(self, key: str, version: str | None = None) -> bytes | None:
        self.reads += 1
        return super().get(key, version)

    def part(self, key: str, first: int, length: int) -> bytes | None:
        self.reads += 1
        return super().part(key, first, length)

    def keys(self, prefix: str = "", after: str = "") -> Iterator[str]:
        for number, key in enumerate(super().keys(prefix, after)):
            self.reads += not number % 1000
            yield key
