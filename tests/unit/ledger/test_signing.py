"""The checkpointer may die at any call, and signs no state but one of a size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.fakes import MemoryTable
from tests.log_objects import MemoryLogObjects

from abeyance.ledger.checkpoint import CHECKPOINTS, LATEST, LogCheckpoint, parse_note
from abeyance.ledger.checkpointer import Checkpointer
from abeyance.ledger.entry import LogEntry, Record, make_entry
from abeyance.ledger.errors import CheckpointConflict, LedgerCorrupt
from abeyance.ledger.heads import Head, HeadStore
from abeyance.ledger.sequencer import Sequencer
from abeyance.ledger.signers import LocalSigner


class Killed(BaseException):
    """The end of the process."""


class System:
    """A log with entries, and its signer."""

    def __init__(self, objects: MemoryLogObjects | None = None) -> None:
        self.heads, self.objects = HeadStore(MemoryTable()), objects or MemoryLogObjects()
        self.signer = LocalSigner(b"sixteen bytes or more")
        self.grow(3)

    def head(self) -> Head:
        found = self.heads.read()
        assert found is not None
        return found

    def grow(self, count: int) -> None:
        size = head.size if (head := self.heads.read()) else 0
        Sequencer(self.heads, self.objects).append([_entry(size + n) for n in range(count)], 0.0)

    def checkpoint(self) -> LogCheckpoint:
        made = Checkpointer(self.heads, self.objects, self.signer).checkpoint()
        assert made is not None
        return made


def _entry(number: int) -> LogEntry:
    record = Record(f"d{number}", "decision", "2026-01-01T00:00:00Z", {"value": number})
    return make_entry(record, number.to_bytes(16, "big"))


@pytest.mark.parametrize("prefix", ["tile/entries", "tile/0"])
def test_tiles_that_do_not_follow_from_the_entries_are_not_signed(prefix: str) -> None:
    system = System()
    (key,) = [one for one in system.objects.stored if one.startswith(prefix)]
    (data,) = system.objects.stored[key]
    system.objects.stored[key] = [data[:-1] + bytes([data[-1] ^ 1])]
    with pytest.raises(LedgerCorrupt):
        system.checkpoint()
    assert not list(system.objects.keys(f"{CHECKPOINTS}/"))


def test_another_checkpoint_of_the_same_size_is_a_conflict() -> None:
    system = System()
    made = system.checkpoint()
    forged = LogCheckpoint(made.origin, made.size, bytes(32))
    forged = forged.signed_with(system.signer.verifier(made.origin), system.signer.sign)
    (key,) = system.objects.keys(f"{CHECKPOINTS}/")
    system.objects.stored[key] = [str(forged).encode()]
    with pytest.raises((CheckpointConflict, LedgerCorrupt)):
        system.checkpoint()


def test_it_may_die_at_any_call() -> None:
    """Between any two of its calls: the next one signs the same state, and nothing is signed twice differently."""
    calls = 1
    while True:
        system = System()
        dying = _Dying(system.objects, calls)
        try:
            Checkpointer(system.heads, dying, system.signer).checkpoint()  # type: ignore[arg-type]
        except Killed:
            made = system.checkpoint()
            assert (made.size, made.root) == (3, system.head().root_bytes)
            assert parse_note(system.objects.stored[LATEST][-1]) == made
            calls += 1
            continue
        break
    assert calls > 4


class _Dying:
    """Objects whose user dies after a number of calls."""

    def __init__(self, objects: MemoryLogObjects, calls: int) -> None:
        self._objects, self._left = objects, calls

    def __getattr__(self, name: str) -> Callable[..., Any]:
        found = getattr(self._objects, name)

        def call(*arguments: Any) -> Any:
            answer = found(*arguments)
            self._left -= 1
            if self._left == 0:
                raise Killed
            return answer

        return call
