"""A witness (C2SP tlog-witness): it remembers one checkpoint a log, and cosigns what extends it.

Run one on a machine that the log's operator has no hand on: ``abeyance witness serve``. Its memory is a SQLite file;
whoever rolls that file back makes the witness forget, so keep it like the key.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from abeyance.encoding import decode_base64
from abeyance.ledger.checkpoint import MAX_NOTE_BYTES, LogCheckpoint, parse_note, signature_lines
from abeyance.ledger.merkle import EMPTY_ROOT, verify_consistency
from abeyance.ledger.note import NoteError
from abeyance.ledger.signatures import SignerKey, VerifierKey, verify
from abeyance.ledger.witness import ADD_CHECKPOINT, MAX_PROOF_LINES, SIZE_TYPE

#: Largest body of a request, in bytes.
MAX_REQUEST_BYTES: Final = MAX_NOTE_BYTES + 8 * 1024
_TEXT: Final = "text/plain; charset=utf-8"
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS logs (
  origin TEXT PRIMARY KEY, size INTEGER NOT NULL, root BLOB NOT NULL, note TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS evidence (
  id INTEGER PRIMARY KEY, at TEXT NOT NULL, origin TEXT NOT NULL, why TEXT NOT NULL, note TEXT NOT NULL,
  UNIQUE (origin, note));
"""


class WitnessAnswer(NamedTuple):
    """The answer to a request: HTTP status, content type and body."""

    status: int
    kind: str
    body: bytes


class WitnessMemory:
    """The last checkpoint that was cosigned of every log, in a SQLite file; and the notes that contradicted one.

    Parameters
    ----------
    path
        The file, made if it is missing; ``:memory:`` for a test.
    """

    def __init__(self, path: Path | str) -> None:
        # One connection, one request at a time in this process; BEGIN IMMEDIATE keeps other processes out.
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
        self._database.execute("PRAGMA journal_mode=WAL")
        # An answer leaves only when what it promises is on the disk.
        self._database.execute("PRAGMA synchronous=FULL")
        self._database.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def last(self, origin: str) -> tuple[int, bytes]:
        """Return size and root of the last checkpoint of a log; those of the empty tree for one never seen."""
        row = self._database.execute("SELECT size, root FROM logs WHERE origin = ?", (origin,)).fetchone()
        return (row[0], bytes(row[1])) if row else (0, EMPTY_ROOT)

    def advance(
        self, note: LogCheckpoint, decide: Callable[[int, bytes], WitnessAnswer | None]
    ) -> WitnessAnswer | None:
        """Replace the last checkpoint by ``note`` in one transaction, unless ``decide`` answers otherwise.

        ``decide`` gets size and root of the last one. ``None`` returns once the new one is on the disk.
        """
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                answer = decide(*self.last(note.origin))
                if answer is None:
                    self._database.execute(
                        "INSERT OR REPLACE INTO logs VALUES (?, ?, ?, ?)",
                        (note.origin, note.size, note.root, str(note)),
                    )
                self._database.execute("COMMIT")
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            return answer

    def keep_evidence(self, at: datetime, note: LogCheckpoint, why: str) -> None:
        """Keep a note that the log signed and that contradicts what it signed before."""
        with self._lock:
            self._database.execute(
                "INSERT OR IGNORE INTO evidence (at, origin, why, note) VALUES (?, ?, ?, ?)",
                (at.isoformat(), note.origin, why, str(note)),
            )

    def evidence(self) -> list[dict[str, str]]:
        """Return what was kept, oldest first."""
        rows = self._database.execute("SELECT at, origin, why, note FROM evidence ORDER BY id").fetchall()
        return [dict(zip(("at", "origin", "why", "note"), row, strict=True)) for row in rows]


class CheckpointWitness:
    """The decisions of a witness, and its signature.

    Parameters
    ----------
    signer
        Its key, which no other service uses.
    logs
        Public keys of the logs that it serves; the name of a key is the log's origin. A log that rotates its key has
        two for a while.
    memory
        See :class:`WitnessMemory`.
    clock
        Now, with a time zone, for the cosignature.
    """

    def __init__(
        self,
        signer: SignerKey,
        logs: Iterable[VerifierKey],
        memory: WitnessMemory,
        clock: Callable[[], datetime],
    ) -> None:
        self._signer = signer
        self._memory = memory
        self._clock = clock
        self._logs: dict[str, list[VerifierKey]] = {}
        for key in logs:
            self._logs.setdefault(key.name, []).append(key)

    def add_checkpoint(self, body: bytes) -> WitnessAnswer:
        """Return the answer to an ``add-checkpoint`` request.

        200 with the cosignature; 400 for what is no request; 403 for a checkpoint that no known key of the log has
        signed; 404 for an unknown log; 409 with the size that was signed last if the request starts from another, and
        for another tree of the same size; 422 for a proof that does not show an extension.
        """
        try:
            old, proof, note = parse_request(body)
        except (ValueError, NoteError):
            return _say(400, "not an add-checkpoint request (c2sp.org/tlog-witness)")
        keys = self._logs.get(note.origin)
        if keys is None:
            return _say(404, "this witness does not know the log")
        if not any(verify(note, signature, key) for signature in note.signatures for key in keys):
            return _say(403, "no known key of the log has signed the checkpoint")
        if old > note.size:
            return _say(400, "the old size is larger than the checkpoint")
        answer = self._memory.advance(note, lambda size, root: _refusal(old, proof, note, size, root))
        if answer is None:
            return WitnessAnswer(200, _TEXT, signature_lines([self._signer.countersign(note, self._clock())]))
        if answer.kind != SIZE_TYPE:
            self._memory.keep_evidence(self._clock(), note, answer.body.decode().strip())
        return answer

    def wsgi(self, environ: Mapping[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        """Serve ``POST …/add-checkpoint`` as a WSGI application."""
        answer = self._route(environ)
        headers = [("Content-Type", answer.kind), ("Content-Length", str(len(answer.body)))]
        start_response(f"{answer.status} {_REASONS[answer.status]}", headers)
        return [answer.body]

    def _route(self, environ: Mapping[str, Any]) -> WitnessAnswer:
        if environ.get("PATH_INFO", "").rpartition("/")[2] != ADD_CHECKPOINT:
            return _say(404, f"POST to /{ADD_CHECKPOINT}")
        if environ.get("REQUEST_METHOD") != "POST":
            return _say(405, "use POST")
        length = environ.get("CONTENT_LENGTH") or ""
        if not length.isdecimal():
            return _say(411, "a request needs its length")
        if int(length) > MAX_REQUEST_BYTES:
            return _say(413, f"a request has at most {MAX_REQUEST_BYTES} bytes")
        return self.add_checkpoint(environ["wsgi.input"].read(int(length)))


def parse_request(body: bytes) -> tuple[int, list[bytes], LogCheckpoint]:
    """Return old size, proof and checkpoint of an ``add-checkpoint`` request.

    Raises
    ------
    ValueError
        Not one.
    """
    head, blank, note = body.partition(b"\n\n")
    first, *lines = head.decode("ascii").split("\n")
    word, _, size = first.partition(" ")
    if not blank or word != "old" or str(int(size)) != size or int(size) < 0 or len(lines) > MAX_PROOF_LINES:
        raise ValueError("not an add-checkpoint request")
    proof = [decode_base64(line) for line in lines]
    if any(len(node) != 32 for node in proof):
        raise ValueError("a node of a proof has 32 bytes")
    return int(size), proof, parse_note(note)


def _refusal(
    old: int, proof: list[bytes], note: LogCheckpoint, size: int, root: bytes
) -> WitnessAnswer | None:
    """Return why a checkpoint is not cosigned after the last one; ``None`` if it is."""
    if old != size:
        return WitnessAnswer(409, SIZE_TYPE, f"{size}\n".encode())
    if size == note.size:
        if root != note.root:
            return _say(409, "another tree of this size was signed: the log has two histories")
        return None if not proof else _say(422, "between equal sizes the proof is empty")
    if size == 0:
        return None if not proof else _say(422, "from size 0 the proof is empty")
    if not verify_consistency(size, note.size, root, note.root, proof):
        return _say(422, "the proof does not show that the log extends what was signed")
    return None


def _say(status: int, text: str) -> WitnessAnswer:
    return WitnessAnswer(status, _TEXT, f"{text}\n".encode())


_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    411: "Length Required",
    413: "Content Too Large",
    422: "Unprocessable Entity",
}
