"""A small ledger to break, and its export."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.chains import chain

from abeyance.ledger.chain import Entry, Header, Record, new_header
from abeyance.ledger.export import write_export
from abeyance.ledger.merkle import CompactRange, leaf_hash
from abeyance.ledger.note import Checkpoint


def decision(number: int, **more: Any) -> dict[str, Any]:
    """A body as a moratorium's decision has it."""
    return {
        "outcome": "deny" if number % 2 else "permit",
        "tenant": f"agency-{number % 3}",
        "action": "search",
        "min_similarity": 99.5 if number % 2 else None,
        "reason": "Halted — until further notice",
        "flags": [{"key": "amazon-2020", "version": "3", "clause": "halt"}] if number % 2 else [],
        **more,
    }


def records(count: int) -> list[Record]:
    """Records with ids d1, d2, …"""
    return [
        Record(f"d{n}", "decision", f"2020-06-10T00:00:{n % 60:02d}Z", decision(n))
        for n in range(1, count + 1)
    ]


def checkpoint_of(header: Header, entries: Sequence[Entry]) -> Checkpoint:
    """The checkpoint after these entries."""
    tree = CompactRange()
    tree.extend(leaf_hash(bytes.fromhex(entry.hash)) for entry in entries)
    return Checkpoint(header.origin, tree.size, tree.root(), entries[-1].hash if entries else header.genesis)


def export_of(header: Header, entries: Iterable[Entry], checkpoints: Iterable[Checkpoint] = ()) -> bytes:
    """The bytes of an export."""
    out = io.BytesIO()
    write_export(out, header, (entry.canonical for entry in entries), checkpoints)
    return out.getvalue()


@pytest.fixture(scope="session")
def header() -> Header:
    return new_header("unit-test", datetime(2020, 6, 10, tzinfo=UTC))


@pytest.fixture(scope="session")
def entries(header: Header) -> list[Entry]:
    return list(chain(header, records(12)))


@pytest.fixture(scope="session")
def exported(header: Header, entries: list[Entry]) -> bytes:
    """Header, 5 entries, a checkpoint, 7 entries, a checkpoint."""
    return export_of(header, entries, [checkpoint_of(header, entries[:5])])


@pytest.fixture(scope="session")
def make() -> Callable[..., bytes]:
    return export_of


@pytest.fixture(scope="session")
def at() -> Callable[..., Checkpoint]:
    return checkpoint_of
