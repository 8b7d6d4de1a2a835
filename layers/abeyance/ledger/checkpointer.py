"""The checkpointer: signs what the tiles prove, and nothing that does not continue what it signed before.

It is a unit of its own, whose role may sign and may not sequence: the sequencer cannot sign what it likes, and this one
cannot write an entry. It recomputes the tree from the entries since its last checkpoint, so it signs no tile that does
not follow from them, and no history but one.

::

    checkpoints/<size, 20 digits>   written once, with the signatures of the log and of its witnesses
    checkpoint                      the same note again, the latest; written over, and nothing trusts it
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol

from abeyance.ledger.checkpoint import (
    CHECKPOINTS,
    COSIGNATURES,
    LATEST,
    LogCheckpoint,
    checkpoint_key,
    cosignature_key,
    parse_note,
    refusal_key,
)
from abeyance.ledger.errors import CheckpointConflict, LedgerCorrupt, LedgerError
from abeyance.ledger.heads import Head, HeadStore
from abeyance.ledger.integrate import DIGITS
from abeyance.ledger.merkle import CompactRange, leaf_hash
from abeyance.ledger.note import NoteError, Signature
from abeyance.ledger.objects import LogObjects
from abeyance.ledger.policy import Policy, WitnessEntry
from abeyance.ledger.signatures import cosigned_at
from abeyance.ledger.signers import Signer
from abeyance.ledger.tiles import ENTRIES, WIDTH, TileName, TileReader, decode_bundle, read_tile, split_hashes
from abeyance.ledger.witness import Post, ask_witness

log = logging.getLogger("abeyance")

_READ_AHEAD: Final = 64
#: Age at which a cosignature of the latest state is asked for again.
RENEW_S: Final = 6 * 3600


#: The line that is logged when a witness refuses; an alarm rings on it.
WITNESS_REFUSES: Final = "a witness refuses"


class Witness(Protocol):
    """Somebody who signs a checkpoint that extends what they saw before."""

    @property
    def key_id(self) -> bytes:
        """Id of the witness's key, 4 bytes."""
        ...

    def cosign(self, checkpoint: LogCheckpoint, old: int, tree: TileReader) -> Signature:
        """Return a cosignature. Raises ``LedgerError`` if the witness refuses or does not answer.

        ``old`` is the size that the witness is taken to have signed last, and ``tree`` proves from any.
        """
        ...


class HttpWitness:
    """A witness of the policy, asked over HTTP (C2SP tlog-witness)."""

    def __init__(self, witness: WitnessEntry, post: Post) -> None:
        self._witness = witness
        self._post = post

    @property
    def key_id(self) -> bytes:
        return self._witness.key.key_id

    def cosign(self, checkpoint: LogCheckpoint, old: int, tree: TileReader) -> Signature:
        return ask_witness(self._witness, checkpoint, old, tree.consistency, self._post)


class Checkpointer:
    """Signs the log's integrated size, has it witnessed, and publishes it.

    Parameters
    ----------
    heads, objects
        The log, of which only checkpoints are written.
    signer
        The log's own key.
    witnesses
        Asked for cosignatures. One that does not answer holds up nothing, and ``verify`` says who is missing. One that
        has seen another history is logged for the alarm, and its word is kept beside the log, where ``verify`` reads
        it; unless the others fulfil the policy, nothing is published then.
    policy
        How many witnesses it takes.
    parallel
        Objects that are read at the same time.
    clock
        Epoch seconds.
    """

    def __init__(
        self,
        heads: HeadStore,
        objects: LogObjects,
        signer: Signer,
        witnesses: Sequence[Witness] = (),
        policy: Policy | None = None,
        parallel: int = 1,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._heads = heads
        self._objects = objects
        self._signer = signer
        self._witnesses = witnesses
        self._policy = policy or Policy()
        self._parallel = parallel

    def checkpoint(self) -> LogCheckpoint | None:
        """Return a checkpoint of all that is integrated: a new one, or the last if nothing came; ``None`` if empty.

        Raises
        ------
        LedgerCorrupt
            The entries, the tiles, the head and the last checkpoint contradict each other, and nothing was signed; or
            a witness has seen another history and the others are too few, and nothing was published.
        LedgerUnavailable
            AWS refused or did not answer.
        """
        head = self._heads.read()
        if head is None or head.integrated == 0:
            return None
        if (published := self._published(head)) is not None:
            self._renew(published)
            return published
        last = self.latest(head.origin)
        tree = TileReader(self._objects, head.integrated)
        self._require_growth(last, tree, head.root_bytes)
        made = LogCheckpoint(head.origin, tree.size, head.root_bytes)
        made = made.signed_with(self._signer.verifier(head.origin), self._signer.sign)
        signatures, refusals = self._ask(made, tree, last.size if last else 0)
        made = made.signed(*signatures)
        trust = self._policy.judge(made, made.origin, made.size)
        if refusals and not self._policy.witnessed(trust.cosigned):
            raise refusals[0]
        return self._publish(made)

    def _published(self, head: Head) -> LogCheckpoint | None:
        """Return the checkpoint of the head if it is published, so that nothing has to be signed."""
        data = self._objects.get(LATEST)
        if data is None or data != self._objects.get(checkpoint_key(head.integrated)):
            return None
        try:
            made = parse_note(data)
        except NoteError:
            return None
        return made if (made.origin, made.size, made.root) == _state(head) else None

    def latest(self, origin: str) -> LogCheckpoint | None:
        """Return the largest checkpoint with this log's own signature; ``None`` before the first.

        Raises
        ------
        LedgerCorrupt
            There is an object among the checkpoints that this log did not sign.
        """
        # Nothing trusts the pointer: it says where to begin to look, and the signature is verified.
        try:
            near = checkpoint_key(parse_note(self._objects.get(LATEST) or b"").size - 1)
        except NoteError:
            near = ""
        found = deque(self._objects.keys(f"{CHECKPOINTS}/", near), maxlen=1)
        if not found and near:
            found = deque(self._objects.keys(f"{CHECKPOINTS}/"), maxlen=1)
        return self._read(found[0], origin) if found else None

    def _read(self, key: str, origin: str) -> LogCheckpoint:
        stored = self._objects.get(key)
        try:
            made = parse_note(stored or b"")
        except NoteError:
            raise LedgerCorrupt(f"{key} is no checkpoint") from None
        if made.origin != origin or checkpoint_key(made.size) != key or not self._signer.signed(made):
            raise LedgerCorrupt(f"{key} is not a checkpoint that this log signed")
        return made

    def _require_growth(self, last: LogCheckpoint | None, tree: TileReader, root: bytes) -> None:
        """Require that the entries behind the last checkpoint make the tree of the head, tile by tile."""
        size = 0 if last is None else last.size
        if size > tree.size:
            raise LedgerCorrupt(f"the log has {tree.size} entries, and {size} were signed")
        grown = tree.compact(0, size) if size else CompactRange()
        if last is not None and grown.root() != last.root:
            raise LedgerCorrupt(f"the tiles of the first {size} entries are not those that were signed")
        at = size
        for leaves, hashes in self._bundles(size // WIDTH, tree.size):
            computed = [leaf_hash(leaf) for leaf in leaves]
            if computed != hashes:
                raise LedgerCorrupt(f"the entries behind entry {at} are not those that the tiles hold")
            grown.extend(computed[at % WIDTH :])
            at += len(computed) - at % WIDTH
        if not grown.root() == tree.root() == root:
            raise LedgerCorrupt(f"the entries up to {tree.size} have another root than the head")

    def _bundles(self, first: int, size: int) -> Iterable[tuple[list[bytes], list[bytes]]]:
        """Yield leaves and hashes of every bundle from ``first``, read some at a time."""

        def read(index: int) -> tuple[list[bytes], list[bytes]]:
            width = min(WIDTH, size - index * WIDTH)
            leaves = read_tile(self._objects, TileName(ENTRIES, index, width), decode_bundle)
            return leaves, read_tile(self._objects, TileName("tile/0", index, width), split_hashes)

        last = -(-size // WIDTH)
        if self._parallel < 2:
            yield from map(read, range(first, last))
            return
        with ThreadPoolExecutor(self._parallel) as pool:
            for start in range(first, last, _READ_AHEAD):
                yield from pool.map(read, range(start, min(last, start + _READ_AHEAD)))

    def _ask(
        self, made: LogCheckpoint, tree: TileReader, old: int
    ) -> tuple[list[Signature], list[LedgerCorrupt]]:
        """Return the cosignatures of all witnesses who gave one, and the errors of those who refused."""
        found, refusals = [], []
        for witness in self._witnesses:
            try:
                found.append(witness.cosign(made, old, tree))
            except LedgerCorrupt as error:
                log.error(WITNESS_REFUSES, extra={"what": str(error)})
                self._keep_refusal(witness.key_id, str(error))
                refusals.append(error)
            except LedgerError as error:
                log.warning("no cosignature", extra={"error": type(error).__name__})
        return found, refusals

    def _keep_refusal(self, key_id: bytes, what: str) -> None:
        """Write what a witness says, once in a while."""
        now = int(self._clock())
        since = refusal_key(key_id, max(0, now - RENEW_S))
        if next(self._objects.keys(refusal_key(key_id, 0)[:-12], since), None) is None:
            self._objects.put_new(refusal_key(key_id, now), f"{what}\n".encode())

    def _renew(self, made: LogCheckpoint) -> None:
        """Ask the witnesses again about a state that nothing came after: one is missing, or its word grows old.

        So a log that stands still differs from one that hides what came since.
        """
        newest = {one.key_id: cosigned_at(one) for one in made.signatures if cosigned_at(one)}
        for key in self._objects.keys(f"{COSIGNATURES}/{made.size:0{DIGITS}d}/"):
            name, _, seconds = key.rpartition("/")[2].partition("-")
            key_id = bytes.fromhex(name)
            newest[key_id] = max(newest.get(key_id, 0), int(seconds))
        old = self._clock() - RENEW_S
        if len(newest) >= len(self._witnesses) and all(at > old for at in newest.values()):
            return
        tree = TileReader(self._objects, made.size)
        for signature in self._ask(made, tree, made.size)[0]:
            if newest.get(signature.key_id, 0) <= old:
                key = cosignature_key(made.size, signature, cosigned_at(signature))
                self._objects.put_new(key, f"{signature}\n".encode())

    def _publish(self, made: LogCheckpoint) -> LogCheckpoint:
        """Write the checkpoint once, then the pointer. Of two that signed the same, the first stays."""
        key = checkpoint_key(made.size)
        try:
            self._objects.put_new(key, str(made).encode())
        except LedgerCorrupt:
            there = self._read(key, made.origin)
            if there.text != made.text:
                raise CheckpointConflict(
                    f"two checkpoints of size {made.size} differ; run: abeyance ledger verify"
                ) from None
            made = there
        self._objects.replace(LATEST, str(made).encode())
        return made


def _state(head: Head) -> tuple[str, int, bytes]:
    return head.origin, head.integrated, head.root_bytes
