"""Verification: does the chain hold, and if not, where did it break and how. Streaming, offline, trusting
nothing.

What is checked of every line: that it is canonical, that its hash is the hash of its bytes, that it is bound
to the one before, that its number is the next, and that its id is new; of every checkpoint, in the export or
given from elsewhere, that it is what the entries add up to and that signatures by trusted keys are good; and
of the end, that it is one.

One change should give one finding at its place and not a million behind it. So after a finding the walk goes
on from what it saw: an altered entry may be followed by one that is bound to its old hash, and a damaged line
may stand for a missing entry. That changes only how much is reported: any finding at all means that the
ledger is not ok.

What a file cannot show by itself is that somebody with the right to write all of it rewrote it from some
entry to the end. That takes something from elsewhere: a checkpoint from the Object Lock bucket or a witness,
or a noted head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256
from typing import IO, Final

from abeyance.encoding import encode_base64
from abeyance.ledger.chain import CONFLICT, REFUSED, EntrySource, Header
from abeyance.ledger.findings import MAX_FINDINGS, BadLine, Finding, FindingKind, VerificationReport
from abeyance.ledger.id_index import IdIndex
from abeyance.ledger.lines import (
    EntryLine,
    is_checkpoint_line,
    read_checkpoint,
    read_entry,
    read_header,
)
from abeyance.ledger.merkle import CompactRange
from abeyance.ledger.note import Checkpoint
from abeyance.ledger.signatures import VerifierKey
from abeyance.ledger.signatures import check as check_signatures

#: Longest line that is read; the longest that is written has about 66 KiB.
MAX_LINE: Final = 1 << 20
_BLOCK: Final = 4096


def verify_export(
    export: IO[bytes],
    *,
    checkpoints: Iterable[Checkpoint] = (),
    head: tuple[int, str] | None = None,
    trusted: Sequence[VerifierKey] = (),
    progress: Callable[[int], None] | None = None,
) -> VerificationReport:
    """Verify an export, in one pass and in bounded memory.

    Parameters
    ----------
    export
        The file, open for reading bytes; it need not be seekable.
    checkpoints
        Checkpoints from elsewhere, in any order, each of which the entries have to fulfil.
    head
        Sequence number and hex hash of an entry that is known to be on the ledger.
    trusted
        Public keys. A checkpoint must not have a bad signature by one of them, and at least one a good one.
    progress
        Called now and then with the number of bytes read.

    Returns
    -------
    VerificationReport
        Total: whatever bytes the file holds, they end in a report.
    """
    with IdIndex() as seen:
        walk = _Walk(seen, checkpoints, head, trusted)
        line = 0
        for line, (offset, text, whole) in enumerate(_lines(export), 1):
            walk.at(line, offset)
            if line == 1:
                walk.header(text)
            elif not whole:
                walk.cut_off()
            elif len(text) >= MAX_LINE:
                walk.find(FindingKind.MALFORMED, f"a line of more than {MAX_LINE} bytes", walk.expected)
                walk.damaged()
            elif is_checkpoint_line(text):
                walk.checkpoint(text)
            else:
                walk.entry(text)
            if progress and not line & 0x1FFF:
                progress(offset)
        if line == 0:
            walk.find(FindingKind.HEADER, "the export is empty", 0)
        return walk.report(sealed=True)


def verify_lines(
    header: Header,
    lines: Iterable[bytes],
    *,
    checkpoints: Iterable[Checkpoint] = (),
    head: tuple[int, str] | None = None,
    trusted: Sequence[VerifierKey] = (),
    progress: Callable[[int], None] | None = None,
) -> VerificationReport:
    """Verify the entries of a store, as :func:`verify_export` does those of a file.

    ``lines`` are the stored entries in order, ``head`` is what the store says its head is, and ``progress``
    gets the number of entries.
    """
    with IdIndex() as seen:
        walk = _Walk(seen, checkpoints, head, trusted)
        walk.start(header)
        for number, text in enumerate(lines, 1):
            walk.at(number, None)
            walk.entry(text)
            if progress and not number & 0x3FF:
                progress(number)
        return walk.report(sealed=False)


def verify_store(
    store: EntrySource,
    *,
    checkpoints: Iterable[Checkpoint] = (),
    trusted: Sequence[VerifierKey] = (),
    progress: Callable[[int], None] | None = None,
) -> VerificationReport | None:
    """Verify what a store holds, up to its present head; ``None`` if nothing was ever written."""
    # Read before the head: a checkpoint that is larger than a later head means that entries were lost.
    known = list(checkpoints)
    head = store.head()
    if head is None:
        return None
    return verify_lines(
        head.header,
        store.lines(0, head.seq),
        checkpoints=known,
        head=(head.seq, head.hash),
        trusted=trusted,
        progress=progress,
    )


class _Walk:
    """The state between two lines."""

    def __init__(
        self,
        seen: IdIndex,
        checkpoints: Iterable[Checkpoint],
        head: tuple[int, str] | None,
        trusted: Sequence[VerifierKey],
    ) -> None:
        self.seen = seen
        self.trusted = trusted
        self.given_head = head
        self.given: dict[int, list[Checkpoint]] = {}
        for checkpoint in checkpoints:
            self.given.setdefault(checkpoint.size, []).append(checkpoint)
        self.given_header: Header | None = None
        self.line: int | None = None
        self.offset: int | None = None
        #: Sequence number of the next entry.
        self.expected = 1
        #: Hash that the next entry has to be bound to; ``None`` where damage leaves it unknown.
        self.link: bytes | None = None
        #: What it may be bound to instead, because a finding has already told why.
        self.also: tuple[bytes, ...] = ()
        #: Damaged lines since the last entry, each of which may stand for a missing one.
        self.damage = 0
        self.gaps: list[tuple[int, int]] = []
        #: No finding about an entry so far, so the tree is the tree.
        self.intact = True
        self.sealed = False
        #: Some checkpoint did not agree.
        self.contradicted = False
        self.tree = CompactRange()
        self.leaves: list[bytes] = []
        self.last = b""
        self.entries = self.agreeing = self.checkpointed = self.signed = 0
        self.types = {CONFLICT.encode(): 0, REFUSED.encode(): 0}
        self.findings: list[Finding] = []
        self.found = 0

    def at(self, line: int, offset: int | None) -> None:
        self.line, self.offset = line, offset

    def find(self, kind: FindingKind, what: str, seq: int | None = None, within: int = 0) -> None:
        self.found += 1
        if len(self.findings) < MAX_FINDINGS:
            offset = None if self.offset is None else self.offset + within
            self.findings.append(Finding(kind, what, seq, self.line, offset))

    def damaged(self) -> None:
        """Record a line that should have been an entry and is not."""
        self.damage += 1
        self.intact = self.sealed = False

    def cut_off(self) -> None:
        """Record that the last line has no newline."""
        self.find(
            FindingKind.TRUNCATED, "the export was cut off within this line, which has no end", self.expected
        )
        self.damaged()
        self.sealed = True  # said once is enough

    def header(self, text: bytes) -> None:
        try:
            self.start(read_header(text))
        except BadLine as bad:
            self.find(bad.kind, bad.what, 0)
            if text.startswith(b'{"body":'):
                self.entry(text)

    def start(self, header: Header) -> None:
        self.given_header = header
        self.link = self.last = bytes.fromhex(header.genesis)
        self._given_checkpoints()

    def entry(self, text: bytes) -> None:
        try:
            entry = read_entry(text)
        except BadLine as bad:
            self.find(bad.kind, bad.what, self.expected, bad.offset)
            self.damaged()
            return
        self.sealed = False
        if entry.seq == self.expected and entry.prev == self.link and entry.computed == entry.stated:
            self._accept(entry, ())
        else:
            self._odd(entry)

    def checkpoint(self, text: bytes) -> None:
        self.sealed = True
        try:
            checkpoint = read_checkpoint(text)
        except BadLine as bad:
            self.find(bad.kind, bad.what, self.expected - 1, bad.offset)
            return
        if self.intact and checkpoint.size != self.expected - 1:
            what = f"a checkpoint of {checkpoint.size} entries stands behind entry {self.expected - 1}"
            self.find(FindingKind.WRONG_CHECKPOINT, what, self.expected - 1)
        else:
            self._compare(checkpoint, "the checkpoint on this line")

    def report(self, *, sealed: bool) -> VerificationReport:
        """Return the result, after the last line; with ``sealed``, the end has to be a checkpoint."""
        last = self.expected - 1
        self._flush()
        if sealed and not self.sealed and self.given_header:
            self.find(FindingKind.TRUNCATED, "the export does not end with a checkpoint", self.expected)
        sizes = [size for size in self.given if size > last]
        if self.given_head and self.given_head[0] > last:
            sizes.append(self.given_head[0])
        if sizes:
            what = f"the last entry is {last}, and elsewhere {max(sizes)} are known"
            self.find(FindingKind.TRUNCATED, what, self.expected)
        if self.given_head and self.given_head[0] == 0 and self.given_header:
            self._check_head(self.given_header.genesis)
        for line, seq, first_line, first_seq in self.seen.repeated():
            self.line, self.offset = line, None
            what = f"the id of entry {seq} is also that of entry {first_seq} on line {first_line}"
            self.find(FindingKind.DUPLICATE_ID, what, seq)
        bad = any(finding.kind is FindingKind.BAD_SIGNATURE for finding in self.findings)
        if self.trusted and not self.signed and not bad:
            self.line = self.offset = None
            self.find(FindingKind.UNSIGNED, "no checkpoint that agrees is signed by a trusted key")
        header = self.given_header
        return VerificationReport(
            ok=not self.found,
            chain=header.chain if header else "",
            created=header.created if header else "",
            entries=self.entries,
            head=self.last.hex(),
            root=encode_base64(self.tree.root()) if self.intact else "",
            findings=tuple(sorted(self.findings, key=lambda found: found.line or 1 << 62)),
            found=self.found,
            checkpoints=self.agreeing,
            checkpointed=self.checkpointed,
            signed=self.signed,
            conflicts=self.types[CONFLICT.encode()],
            refused=self.types[REFUSED.encode()],
        )

    def _odd(self, entry: EntryLine) -> None:
        """Record, once, what is wrong with an entry, and find the way back to the chain."""
        altered = entry.computed != entry.stated
        bound = self.link is None or entry.prev == self.link or entry.prev in self.also
        if altered:
            self.find(FindingKind.ALTERED, "the entry does not have the hash that it states", entry.seq)
        if entry.seq == self.expected or (altered and bound and self.link is not None):
            # An altered entry that is bound to the one before is in its place, whatever number it now shows.
            if not bound:
                before = f"entry {self.expected - 1}" if self.expected > 1 else "the header"
                self.find(FindingKind.BROKEN_LINK, f"the entry is not bound to {before}", entry.seq)
            clean = bound and not altered
        elif entry.seq > self.expected:
            if entry.seq - self.expected > self.damage:
                self.gaps.append((self.expected, entry.seq))
                self.find(
                    FindingKind.GAP, f"entries {self.expected} to {entry.seq - 1} are missing", self.expected
                )
            self.expected, clean = entry.seq, False
        else:
            missed = any(low <= entry.seq < high for low, high in self.gaps)
            what = "stands behind its place" if missed else "comes again"
            self.find(
                FindingKind.MISPLACED if missed else FindingKind.REPEATED,
                f"entry {entry.seq} {what}",
                entry.seq,
            )
            self.intact = False
            if entry.seq == self.expected - 1:
                self.also = (*self.also, entry.computed, entry.stated)[-8:]
            return
        self.intact &= clean
        self._accept(entry, (entry.stated,) if altered else ())

    def _accept(self, entry: EntryLine, also: tuple[bytes, ...]) -> None:
        seq, computed = self.expected, entry.computed
        self.link = self.last = computed
        self.also = also
        self.damage = 0
        self.entries += 1
        self.expected = seq + 1
        self.seen.add(entry.id, self.line or 0, seq)
        if entry.type in self.types:
            self.types[entry.type] += 1
        if self.intact:
            self.leaves.append(sha256(b"\x00" + computed).digest())
            if len(self.leaves) == _BLOCK:
                self._flush()
            if seq in self.given:
                self._given_checkpoints()
            if self.given_head and self.given_head[0] == seq:
                self._check_head(computed.hex())

    def _flush(self) -> None:
        self.tree.extend(self.leaves)
        self.leaves.clear()

    def _given_checkpoints(self) -> None:
        for checkpoint in self.given.get(self.expected - 1, ()):
            self._compare(checkpoint, "a checkpoint from elsewhere")

    def _check_head(self, computed: str) -> None:
        if self.given_head and self.given_head[1] != computed:
            self.find(
                FindingKind.WRONG_HEAD, "the entry is not the one that the head names", self.given_head[0]
            )

    def _compare(self, checkpoint: Checkpoint, which: str) -> None:
        size = checkpoint.size
        agrees = False
        if self.given_header and checkpoint.origin != self.given_header.origin:
            self.find(FindingKind.WRONG_CHECKPOINT, f"{which} is of another chain", size)
        elif self.intact:
            self._flush()
            agrees = (self.tree.root(), self.last.hex()) == (checkpoint.root, checkpoint.head)
            if agrees:
                self.agreeing += 1
                if not self.contradicted:
                    self.checkpointed = size
            elif not self.contradicted:
                # Those behind it contradict too, and say no more about where.
                self.contradicted = True
                first = self.checkpointed + 1
                what = f"{which} is not of these entries: one of {first} to {size} differs"
                self.find(FindingKind.WRONG_CHECKPOINT, what, size)
        if self.trusted:
            good, bad = check_signatures(checkpoint, self.trusted)
            for name in bad:
                self.find(
                    FindingKind.BAD_SIGNATURE, f"{which} has a signature by {name} that is not good", size
                )
            if good and agrees:
                self.signed = max(self.signed, size)


def _lines(export: IO[bytes]) -> Iterator[tuple[int, bytes, bool]]:
    """Offset of every line, its text without newline, at most :data:`MAX_LINE` of it, and whether it has an
    end."""
    offset = 0
    while text := export.readline(MAX_LINE + 1):
        length = len(text)
        whole = text.endswith(b"\n")
        yield offset, text[:-1] if whole else text[:MAX_LINE], whole or length > MAX_LINE
        while not whole and length > MAX_LINE and (rest := export.readline(MAX_LINE)):
            length += len(rest)
            if rest.endswith(b"\n"):
                break
        offset += length
