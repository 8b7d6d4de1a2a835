"""Logs for tests: entries, tiles, signed and witnessed checkpoints, all in memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from tests.log_objects import MemoryLogObjects

from abeyance.ledger.batches import Bundled, batch_key, encode_batch, half_digest
from abeyance.ledger.checkpoint import LATEST, LogCheckpoint, checkpoint_key, cosignature_key
from abeyance.ledger.entry import LogEntry, Record, blob_key, make_entry
from abeyance.ledger.identity import LOG, new_identity
from abeyance.ledger.integrate import TreeEdge, integrate
from abeyance.ledger.objects import LogObjects
from abeyance.ledger.policy import Policy, WitnessEntry, parse_policy
from abeyance.ledger.signatures import COSIGN, SIGN, SignerKey, cosigned_at, generate
from abeyance.ledger.tiles import TileReader
from abeyance.ledger.witness import ask_witness
from abeyance.ledger.witness_server import CheckpointWitness, WitnessMemory

LOG_ID = "unit-test"
ORIGIN = f"abeyance/{LOG_ID}"
BEGUN = datetime(2020, 6, 10, tzinfo=UTC)


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


def entries(first: int, count: int, kind: str = "decision", prefix: str = "d") -> list[LogEntry]:
    """Entries with ids d0, d1, … and seeds that follow from their numbers."""
    return [
        make_entry(
            Record(f"{prefix}{n}", kind, f"2020-06-10T00:00:{n % 60:02d}Z", decision(n)),
            n.to_bytes(16, "big"),
        )
        for n in range(first, first + count)
    ]


def signer(name: str, number: int) -> SignerKey:
    """A key that is the same in every run."""
    return generate(name, number.to_bytes(32, "big"))


class Witness:
    """A witness on the same machine, which a test may switch off."""

    def __init__(self, name: str, number: int, logs: Sequence[SignerKey]) -> None:
        self.key = signer(name, number)
        self.memory = WitnessMemory(":memory:")
        self.now = BEGUN
        self.online = True
        keys = [log.verifier(SIGN) for log in logs]
        self.server = CheckpointWitness(self.key, keys, self.memory, lambda: self.now)
        self.entry = WitnessEntry(name, self.key.verifier(COSIGN), f"https://{name}/")

    def post(self, url: str, body: bytes) -> tuple[int, str, bytes]:
        """Answer a request of the client's."""
        if not self.online:
            raise ConnectionError
        assert url == f"https://{self.entry.name}/add-checkpoint"
        return self.server.add_checkpoint(body)


class Log:
    """A log with its key and its witnesses, written as the deployed parts write it."""

    def __init__(self, objects: LogObjects | None = None, witnesses: int = 0, key: int = 1) -> None:
        self.objects = MemoryLogObjects() if objects is None else objects
        self.key = signer(ORIGIN, key)
        self.edge = TreeEdge()
        self.now = BEGUN
        self.witnesses = [Witness(f"w{n}.example", 100 + n, [self.key]) for n in range(witnesses)]
        self.entries: list[LogEntry] = []
        self.signed = 0
        self.objects.put_new(LOG, new_identity(LOG_ID, BEGUN).canonical)

    @property
    def memory(self) -> MemoryLogObjects:
        """The objects, for a test that changes them."""
        assert isinstance(self.objects, MemoryLogObjects)
        return self.objects

    def policy(self, more: str = "") -> Policy:
        """The policy that believes the key and demands every witness."""
        lines = [f"log {self.key.verifier(SIGN)}"]
        lines += [f"witness {w.entry.name} {w.entry.key} {w.entry.url}" for w in self.witnesses]
        names = " ".join(w.entry.name for w in self.witnesses)
        lines += [f"group all-of-them all {names}", "quorum all-of-them"] if names else ["quorum none"]
        return parse_policy("\n".join([*lines, more]))

    def append(self, new: Sequence[LogEntry]) -> None:
        """Sequence and integrate a batch."""
        self.objects.put_all((blob_key(digest), content) for one in new for digest, content in one.blobs)
        bundled = [
            Bundled(one.leaf, one.opening, half_digest(one.id.encode()), one.content[:16]) for one in new
        ]
        data = encode_batch(ORIGIN, self.edge.size, "", 0.0, bundled)
        self.objects.put_new(batch_key(self.edge.size, sha256(data).hexdigest()), data)
        self.edge = integrate(self.objects, self.edge, [(one.leaf, one.opening) for one in new])
        self.entries += new

    def grow(self, count: int) -> None:
        """Append entries that follow."""
        self.append(entries(self.edge.size, count))

    def checkpoint(self, *, cosign: bool = True) -> LogCheckpoint:
        """Sign the present state, have it witnessed, and publish it."""
        self.now += timedelta(minutes=1)
        note = LogCheckpoint(ORIGIN, self.edge.size, self.edge.root())
        note = note.signed(self.key.sign(note))
        later = []
        for witness in self.witnesses if cosign else []:
            witness.now = self.now
            if witness.online:
                later.append(self.ask(witness, note))
        self.objects.put_new(checkpoint_key(note.size), str(note).encode())
        for signature in later:
            key = cosignature_key(note.size, signature, cosigned_at(signature))
            self.objects.put_new(key, f"{signature}\n".encode())
        self.objects.replace(LATEST, str(note.signed(*later)).encode())
        self.signed = note.size
        return note.signed(*later)

    def ask(self, witness: Witness, note: LogCheckpoint) -> Any:
        """Ask one witness for its cosignature."""
        reader = TileReader(self.objects, note.size)
        return ask_witness(witness.entry, note, self.signed, reader.consistency, witness.post)


def grown(*batches: int, witnesses: int = 0, tail: int = 0) -> Log:
    """A log of batches, each under a checkpoint, and a tail that has none."""
    log = Log(witnesses=witnesses)
    for count in batches:
        log.grow(count)
        log.checkpoint()
    if tail:
        log.grow(tail)
    return log
