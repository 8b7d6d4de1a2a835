"""Checkpoints in S3, each written once: what the ledger was, where its own writer cannot change it (Object Lock).

::

    checkpoints/<origin>/<size, 20 digits>                                 the checkpoint; its compact range as metadata
    countersignatures/<origin>/<size, 20 digits>/<key id>-<time>           one signature line each

A checkpoint needs only the entries since the one before: the compact range of the tree lies with the object as
metadata, and is used only if it has the root that the checkpoint states.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from abeyance.encoding import decode_base64, encode_base64
from abeyance.ledger.chain import EntrySource, Head
from abeyance.ledger.errors import CheckpointConflict, LedgerCorrupt
from abeyance.ledger.findings import BadLine
from abeyance.ledger.lines import read_entry
from abeyance.ledger.merkle import CompactRange, leaf_hash
from abeyance.ledger.note import Checkpoint, NoteError, Signature, parse_checkpoint, parse_signature

_RANGE: Final = "compact-range"
_BLOCK: Final = 4096
_DIGITS: Final = 20


class Checkpointer:
    """The checkpoints of a ledger in a bucket.

    Parameters
    ----------
    s3
        A boto3 ``s3`` client.
    bucket
        Bucket of the ledger; in AWS with Object Lock.
    retain
        How long each object is locked; ``None`` leaves it to the bucket's default retention, or to none.
    mode
        ``COMPLIANCE``: nobody can shorten the lock, not even the account's root. ``GOVERNANCE``: who has the right can.
    sign
        Makes the ledger's own signature; without it, checkpoints are unsigned until somebody countersigns.
    clock
        Now, for the end of the retention.
    """

    def __init__(
        self,
        s3: Any,
        bucket: str,
        *,
        retain: timedelta | None = None,
        mode: Literal["COMPLIANCE", "GOVERNANCE"] = "COMPLIANCE",
        sign: Callable[[Checkpoint], Signature] | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._retain = retain
        self._mode = mode
        self._sign = sign
        self._clock = clock

    def checkpoint(
        self, store: EntrySource, progress: Callable[[int], None] | None = None
    ) -> Checkpoint | None:
        """Write the checkpoint of the present head; the last one if nothing was appended since; ``None`` if empty.

        The entries since the last checkpoint are verified on the way, so a checkpoint never covers a broken chain up.

        Raises
        ------
        LedgerCorrupt
            The entries do not follow from the last checkpoint, or the chain is shorter than it.
        CheckpointConflict
            A checkpoint of this size exists and says something else.
        """
        head = store.head()
        if head is None:
            return None
        origin = head.header.origin
        last, tree = self._last(origin, head)
        if last is not None and last.size == head.seq:
            if last.head != head.hash:
                raise CheckpointConflict(
                    f"the checkpoint of size {last.size} names another entry than the head"
                )
            return last
        self._extend(tree, store, head, last, progress)
        checkpoint = Checkpoint(origin, tree.size, tree.root(), head.hash)
        if self._sign is not None:
            checkpoint = checkpoint.signed(self._sign(checkpoint))
        return self._put_checkpoint(checkpoint, tree)

    def latest(self, origin: str, near: int = 0) -> Checkpoint | None:
        """Return the largest checkpoint; ``near`` is the size of the chain, which saves listing all of them."""
        size = self._largest(origin, near)
        return None if size is None else self.get(origin, size)

    def get(self, origin: str, size: int) -> Checkpoint:
        """Return one checkpoint with its countersignatures.

        Raises
        ------
        LedgerCorrupt
            There is none of this size, or the object is not one.
        """
        return self._countersigned(self._get(origin, size)[0])

    def all(self, origin: str) -> Iterator[Checkpoint]:
        """Yield every checkpoint with its countersignatures, sizes ascending."""
        for key in self._keys(f"checkpoints/{origin}/"):
            yield self.get(origin, _size(key))

    def countersign(self, checkpoint: Checkpoint, signature: Signature, at: datetime) -> None:
        """Add a countersignature to a stored checkpoint. The caller has verified what it signs."""
        stamp = at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
        name = f"{_digits(checkpoint.size)}/{signature.key_id.hex()}-{stamp}"
        self._put(f"countersignatures/{checkpoint.origin}/{name}", f"{signature}\n", {})

    def _extend(
        self,
        tree: CompactRange,
        store: EntrySource,
        head: Head,
        last: Checkpoint | None,
        progress: Callable[[int], None] | None,
    ) -> None:
        """Add the entries up to ``head`` to the tree, verifying each."""
        # Where the compact range was lost the walk starts at entry 1, and has to come by the last checkpoint.
        known = {} if last is None or tree.size == last.size else {last.size: last}
        previous = last.head if last is not None and tree.size == last.size else head.header.genesis
        leaves: list[bytes] = []
        for seq, line in enumerate(store.lines(tree.size, head.seq), tree.size + 1):
            try:
                entry = read_entry(line)
            except BadLine as bad:
                raise _corrupt(seq, bad.what) from None
            if entry.seq != seq or entry.prev.hex() != previous or entry.computed != entry.stated:
                raise _corrupt(seq, "it does not follow from the one before")
            previous = entry.computed.hex()
            leaves.append(leaf_hash(entry.computed))
            if len(leaves) == _BLOCK or seq in known:
                tree.extend(leaves)
                leaves.clear()
                if progress:
                    progress(seq)
            if seq in known and (tree.root(), previous) != (known[seq].root, known[seq].head):
                raise _corrupt(seq, "the entries up to it are not those of the last checkpoint")
        tree.extend(leaves)
        if (tree.size, previous) != (head.seq, head.hash):
            raise _corrupt(tree.size + 1, f"the head says that the chain ends with entry {head.seq}")

    def _last(self, origin: str, head: Head) -> tuple[Checkpoint | None, CompactRange]:
        """Return the largest checkpoint and its tree, which is empty where the compact range is not usable."""
        size = self._largest(origin, head.seq)
        if size is None:
            return None, CompactRange()
        if size > head.seq:
            raise _corrupt(head.seq + 1, f"there is a checkpoint of {size} entries")
        last, stored = self._get(origin, size)
        try:
            nodes = [decode_base64(node) for node in stored.split(",") if node]
            tree = CompactRange(size, nodes)
        except ValueError:
            return self._countersigned(last), CompactRange()
        return self._countersigned(last), tree if tree.root() == last.root else CompactRange()

    def _largest(self, origin: str, near: int) -> int | None:
        """Size of the largest checkpoint. S3 lists upwards only, so look from ever further below the head."""
        prefix, step = f"checkpoints/{origin}/", 1024
        while True:
            start = max(near - step, 0)
            if keys := deque(self._keys(prefix, f"{prefix}{_digits(start)}" if start else ""), maxlen=1):
                return _size(keys[0])
            if start == 0:
                return None
            step *= 32

    def _get(self, origin: str, size: int) -> tuple[Checkpoint, str]:
        key = f"checkpoints/{origin}/{_digits(size)}"
        try:
            answer = self._s3.get_object(Bucket=self._bucket, Key=key)
            checkpoint = parse_checkpoint(answer["Body"].read().decode())
        except self._s3.exceptions.NoSuchKey:
            raise LedgerCorrupt(f"there is no checkpoint of {size} entries") from None
        except (NoteError, UnicodeDecodeError) as error:
            raise LedgerCorrupt(f"the object of the checkpoint of size {size} is damaged: {error}") from None
        if (checkpoint.origin, checkpoint.size) != (origin, size):
            raise LedgerCorrupt(f"the object of the checkpoint of size {size} holds another checkpoint")
        return checkpoint, answer.get("Metadata", {}).get(_RANGE, "")

    def _countersigned(self, checkpoint: Checkpoint) -> Checkpoint:
        prefix = f"countersignatures/{checkpoint.origin}/{_digits(checkpoint.size)}/"
        signatures = []
        for key in self._keys(prefix):
            line = self._s3.get_object(Bucket=self._bucket, Key=key)["Body"].read().decode("utf-8", "replace")
            try:
                signatures.append(parse_signature(line.removesuffix("\n")))
            except NoteError as error:
                raise LedgerCorrupt(
                    f"a countersignature of size {checkpoint.size} is damaged: {error}"
                ) from None
        return checkpoint.signed(*signatures)

    def _put_checkpoint(self, checkpoint: Checkpoint, tree: CompactRange) -> Checkpoint:
        metadata = {_RANGE: ",".join(map(encode_base64, tree.nodes))}
        if self._put(
            f"checkpoints/{checkpoint.origin}/{_digits(checkpoint.size)}", str(checkpoint), metadata
        ):
            return checkpoint
        stored = self.get(checkpoint.origin, checkpoint.size)
        if stored.text != checkpoint.text:
            raise CheckpointConflict(
                f"two checkpoints of size {checkpoint.size} differ; run: abeyance ledger verify"
            )
        return stored

    def _put(self, key: str, text: str, metadata: dict[str, str]) -> bool:
        """Write an object if its key is free; whether it was."""
        lock: dict[str, Any] = {}
        if self._retain is not None:
            lock = {"ObjectLockMode": self._mode, "ObjectLockRetainUntilDate": self._clock() + self._retain}
        try:
            self._s3.put_object(
                Bucket=self._bucket,
                Key=key,
                Body=text.encode(),
                ContentType="text/plain; charset=utf-8",
                Metadata=metadata,
                IfNoneMatch="*",
                **lock,
            )
        except self._s3.exceptions.ClientError as error:
            # 409 is another write of the same key under way; which of the two won is read afterwards.
            if error.response["Error"]["Code"] in ("PreconditionFailed", "ConditionalRequestConflict"):
                return False
            raise
        return True

    def _keys(self, prefix: str, after: str = "") -> Iterator[str]:
        """Keys in ascending order."""
        start = {"StartAfter": after} if after else {}
        pages = self._s3.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=prefix, **start
        )
        for page in pages:
            for item in page.get("Contents", []):
                yield item["Key"]


def _digits(size: int) -> str:
    return f"{size:0{_DIGITS}d}"


def _size(key: str) -> int:
    name = key.rpartition("/")[2]
    if len(name) != _DIGITS or not name.isdecimal():
        raise LedgerCorrupt("there is an object among the checkpoints that is none")
    return int(name)


def _corrupt(seq: int, what: str) -> LedgerCorrupt:
    return LedgerCorrupt(f"entry {seq}: {what}; no checkpoint was written; run: abeyance ledger verify")
