"""Verification: is the log whole, and who says so. Streaming, in constant memory, trusting no more than is signed.

Checked are every version of every object; every leaf and tile; that every checkpoint is what the entries add up to;
and its signatures. The result is one of three:

- *whole*: the last entry lies under a checkpoint that a believed key of the log signed and that the policy's quorum of
  witnesses cosigned, lately enough;
- *unsigned*: nothing contradicts, but the entries from some index on are not signed, or not witnessed. Who has the
  writer's rights can still change them unseen;
- *broken*, and where.

Nothing that is stored beside the log is believed for being there: not the pointer to the latest checkpoint, not a head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

from abeyance.encoding import encode_base64
from abeyance.ledger.checkpoint import (
    CHECKPOINTS,
    COSIGNATURES,
    LATEST,
    REFUSALS,
    LogCheckpoint,
    checkpoint_key,
    parse_note,
)
from abeyance.ledger.defects import DefectKind, DefectList, LedgerReport, LogVerdict
from abeyance.ledger.errors import LedgerCorrupt
from abeyance.ledger.identity import LOG, LogIdentity, read_identity
from abeyance.ledger.inventory import check_partials, take_inventory
from abeyance.ledger.note import NoteError, Signature, parse_signature
from abeyance.ledger.objects import LogObjects
from abeyance.ledger.policy import Policy
from abeyance.ledger.tree_walk import TreeWalk


def verify_log(
    objects: LogObjects,
    policy: Policy,
    *,
    now: datetime,
    known: Sequence[LogCheckpoint] = (),
    readers: int = 1,
    progress: Callable[[int], None] | None = None,
) -> LedgerReport:
    """Verify a log: objects, order, tree, checkpoints and signatures; see this module.

    The fields behind the commitments are another step: :func:`abeyance.ledger.opened.open_log`.

    Parameters
    ----------
    objects
        The log, in a bucket or an export.
    policy
        Whose signatures are believed. It comes from elsewhere than the log.
    now
        For the age of cosignatures.
    known
        Checkpoints from elsewhere, which the log has to contain: from a receipt, a witness, an earlier verification.
    readers
        Reads under way at once; more than one where a read waits for a network.
    progress
        Called now and then with the number of entries that are done.

    Returns
    -------
    LedgerReport
        Total: whatever the objects hold, they end in a report.
    """
    defects = DefectList()
    try:
        identity = read_identity(objects.get(LOG))
    except LedgerCorrupt as error:
        defects.add(DefectKind.LOG, str(error), key=LOG)
        identity = LogIdentity("", "", "")
    inventory = take_inventory(objects, defects)
    size = inventory.size
    standing = _Standing(identity.origin, policy, defects, now)
    walk = TreeWalk(objects, size, defects, readers)
    notes = _Merged(_stored_notes(objects, defects, standing), known)
    if size == 0:
        for note in notes.up_to(0):
            standing.compare(note, walk.root(0))
    for _, last in walk.bundles(progress):
        for note in notes.up_to(last):
            standing.compare(note, walk.root(note.size))
    for note in notes.up_to(None):
        standing.lost(note, size)
    check_partials(objects, size, defects, readers)
    _check_pointer(objects, standing)
    _check_refusals(objects, standing)
    if 0 <= size <= inventory.sequenced:
        standing.notice(f"a sequenced batch from entry {inventory.sequenced} on is not integrated yet")
    verdict, why = standing.verdict(size)
    return LedgerReport(
        verdict=verdict,
        why=why,
        origin=identity.origin,
        created=identity.created,
        size=size,
        root=encode_base64(walk.root(size)),
        signed=standing.signed,
        witnessed=standing.witnessed,
        witnessed_at=standing.witnessed_at,
        checkpoints=standing.agreeing,
        defects=tuple(defects.kept),
        found=defects.found,
        notices=tuple(standing.notices),
    )


class _Standing:
    """The part of the log that is signed and witnessed, as far as the checkpoints compared so far show."""

    def __init__(self, origin: str, policy: Policy, defects: DefectList, now: datetime) -> None:
        self.now = now
        self.origin = origin
        self.policy = policy
        self.defects = defects
        self.agreeing = self.agreed = self.signed = self.witnessed = 0
        self.witnessed_at: int | None = None
        self.contradicted = self.pending = False
        #: A state is signed, which may be that of no entries.
        self.any_signed = self.any_witnessed = False
        self.notices: list[str] = []
        #: Time of the newest good cosignature of each witness under a signed state, by its name in the policy.
        self.cosigned: dict[str, int] = {}

    def notice(self, what: str, *, pending: bool = True) -> None:
        """Note what is no defect; with ``pending``, something is not published yet, and the log not called whole."""
        self.pending |= pending
        if what not in self.notices and len(self.notices) < 20:
            self.notices.append(what)

    def compare(self, note: LogCheckpoint, root: bytes) -> None:
        """Take a checkpoint into account, given the root of the tree of its size."""
        if note.origin != self.origin:
            what = f"a checkpoint of another log, {note.origin}"
            self.defects.add(DefectKind.FOREIGN, what, key=checkpoint_key(note.size))
            return
        trust = self.policy.judge(note, self.origin, note.size, now=self.now)
        if note.root != root:
            if not self.contradicted or trust.signed:
                self._contradiction(note, signed=trust.signed, by=sorted(trust.cosigned))
            self.contradicted = True
            return
        if not self.contradicted:
            self.agreeing += 1
            self.agreed = note.size
        for name in trust.bad:
            if name == self.origin:
                what = f"the signature by {name} under the checkpoint of {note.size} entries is not good"
                self.defects.add(
                    DefectKind.BAD_SIGNATURE, what, key=checkpoint_key(note.size), index=note.size
                )
            else:
                self.notice(f"a cosignature by {name} of {note.size} entries is not good", pending=False)
        if trust.signed:
            for name, time in trust.cosigned.items():
                self.cosigned[name] = max(time, self.cosigned.get(name, 0))
            self.any_signed, self.signed = True, max(self.signed, note.size)
            at = self.policy.witnessed_at(trust.cosigned)
            if at is not None and note.size >= self.witnessed:
                again = note.size == self.witnessed and self.any_witnessed
                self.witnessed_at = max(at, self.witnessed_at or 0) if again else at
                self.any_witnessed, self.witnessed = True, note.size
        elif trust.retired:
            what = f"the checkpoint of {note.size} entries is signed by a retired key: {trust.retired[0]}"
            self.defects.add(DefectKind.RETIRED_KEY, what, key=checkpoint_key(note.size), index=note.size)
        elif self.policy.logs or self.policy.retired:
            self.notice(f"no believed key signed the checkpoint of {note.size} entries", pending=False)

    def lost(self, note: LogCheckpoint, size: int) -> None:
        """Take a checkpoint of more entries than there are into account."""
        if note.origin != self.origin:
            self.compare(note, note.root)
            return
        trust = self.policy.judge(note, self.origin, note.size)
        believed = "signed" if trust.signed else "not signed by a believed key"
        what = f"a checkpoint of {note.size} entries, {believed}, exists; entries from {size} on are lost"
        self.defects.add(DefectKind.LOST, what, key=checkpoint_key(note.size), index=size)

    def verdict(self, size: int) -> tuple[LogVerdict, str]:
        """Return the verdict and its reason, for a log of ``size`` entries."""
        if self.defects.found:
            count = self.defects.found
            return LogVerdict.BROKEN, f"the log is broken: {count} defect{'s' if count > 1 else ''}"
        if not (self.policy.logs or self.policy.retired):
            return (
                LogVerdict.UNSIGNED,
                "no key is believed; give the log's public key with --trust or --policy",
            )
        if not self.any_signed or self.signed < size:
            return (
                LogVerdict.UNSIGNED,
                f"entries from {self.signed} on are not signed yet, and may still be changed",
            )
        if not self.any_witnessed or self.witnessed < size:
            what = f"entries from {self.witnessed} on are signed, and not witnessed as the policy demands"
            return LogVerdict.UNSIGNED, what
        fresh, at = self.policy.fresh, self.witnessed_at
        if fresh is not None and self.policy.witnesses and at is not None:
            age = self.now - datetime.fromtimestamp(at, UTC)
            if age > fresh:
                hours = age.total_seconds() / 3600
                what = (
                    f"the last quorum of witnesses was {hours:.0f} hours ago; what came since may be withheld"
                )
                return LogVerdict.UNSIGNED, what
        if self.pending:
            return LogVerdict.UNSIGNED, self.notices[-1]
        by = "signed" if self.policy.quorum == "none" else "signed and witnessed"
        return LogVerdict.WHOLE, f"the log is whole: all {size} entries are {by}"

    def _contradiction(self, note: LogCheckpoint, *, signed: bool, by: Sequence[str]) -> None:
        places = f"one of {self.agreed} to {note.size - 1} differs" if note.size else "there are none"
        witnesses = f" and cosigned by {', '.join(by)}" if by else ""
        kind = DefectKind.TWO_HISTORIES if signed else DefectKind.WRONG_CHECKPOINT
        what = f"a checkpoint of {note.size} entries{', signed' if signed else ''}{witnesses} is of others: {places}"
        self.defects.add(kind, what, key=checkpoint_key(note.size), index=self.agreed)


class _Merged:
    """The stored checkpoints and those from elsewhere, sizes ascending."""

    def __init__(self, stored: Iterator[LogCheckpoint], known: Sequence[LogCheckpoint]) -> None:
        self._stored = stored
        self._known = sorted(known, key=lambda note: -note.size)
        self._next = next(stored, None)

    def up_to(self, size: int | None) -> Iterator[LogCheckpoint]:
        """Yield those of at most this size that have not come yet; all of them with ``None``."""
        while True:
            stored = self._next.size if self._next else None
            known = self._known[-1].size if self._known else None
            if known is not None and (stored is None or known <= stored) and (size is None or known <= size):
                yield self._known.pop()
            elif self._next is not None and stored is not None and (size is None or stored <= size):
                note, self._next = self._next, next(self._stored, None)
                yield note
            else:
                return


def _stored_notes(objects: LogObjects, defects: DefectList, standing: _Standing) -> Iterator[LogCheckpoint]:
    """Yield the numbered checkpoints with the cosignatures that came later, sizes ascending."""
    cosignatures = _grouped(objects.keys(f"{COSIGNATURES}/"))
    size, keys = next(cosignatures, (None, []))
    for key in objects.keys(f"{CHECKPOINTS}/"):
        number = key.partition("/")[2]
        try:
            note = parse_note(objects.get(key) or b"")
            if checkpoint_key(note.size) != key:
                raise NoteError(f"it is a checkpoint of {note.size} entries")
        except NoteError as error:
            defects.add(DefectKind.DAMAGED, str(error), key=key)
            continue
        while size is not None and size < number:
            size, keys = next(cosignatures, (None, []))
        if size == number:
            note = note.signed(*_later(objects, keys, standing))
        yield note


def _grouped(keys: Iterator[str]) -> Iterator[tuple[str | None, list[str]]]:
    size, group = None, list[str]()
    for key in keys:
        number = key.split("/")[1]
        if number != size:
            if group:
                yield size, group
            size, group = number, []
        group.append(key)
    if group:
        yield size, group


def _later(objects: LogObjects, keys: Sequence[str], standing: _Standing) -> Iterator[Signature]:
    for key in keys:
        try:
            text = (objects.get(key) or b"").decode()
            yield parse_signature(text.removesuffix("\n"))
        except (NoteError, UnicodeDecodeError):
            standing.notice(f"{key} is no signature, and counts for nothing", pending=False)


def _check_pointer(objects: LogObjects, standing: _Standing) -> None:
    """Compare every version of the pointer with the numbered checkpoint of its size.

    It is written over, so an older version may be all that is left of a state that was shown to somebody.
    """
    if (latest := objects.get(LATEST)) is None:
        if standing.agreeing:
            standing.notice(
                "the pointer to the latest checkpoint is missing; whoever follows it sees nothing"
            )
        return
    for one in objects.versions(LATEST):
        if one.key != LATEST:
            break
        data = None if one.deleted else objects.get(LATEST, one.version or None)
        if data is None:
            continue
        try:
            note = parse_note(data)
        except NoteError as error:
            standing.defects.add(DefectKind.DAMAGED, str(error), key=LATEST)
            continue
        _check_published(objects, note, standing)
        if data == latest and note.size < standing.signed:
            what = f"the pointer names {note.size} entries, and {standing.signed} are signed; write it again"
            standing.notice(what)


def _check_refusals(objects: LogObjects, standing: _Standing) -> None:
    """Note each witness of the policy who refused to sign, and has signed nothing since.

    It proves nothing, so it is no defect; but who believes a witness hears it, and does not call the log whole.
    """
    for witness in standing.policy.witnesses:
        for key in objects.keys(f"{REFUSALS}/{witness.key.key_id.hex()}/"):
            seconds = key.rpartition("/")[2]
            if seconds.isdecimal() and int(seconds) > standing.cosigned.get(witness.name, 0):
                said = (objects.get(key) or b"").decode(errors="replace").strip()[:300]
                standing.notice(
                    f"witness {witness.name} refuses: {said}. Ask it for the note that it signed, and give that with "
                    "--checkpoint; if the witness is wrong, take it out of the policy"
                )
                break


def _check_published(objects: LogObjects, note: LogCheckpoint, standing: _Standing) -> None:
    numbered = objects.get(checkpoint_key(note.size))
    try:
        same = numbered is not None and parse_note(numbered).text == note.text
    except NoteError:
        return  # found already
    if same:
        return
    signed = note.origin == standing.origin and standing.policy.judge(note, note.origin, note.size).signed
    if not signed:
        what = "a checkpoint was shown that no believed key signed, and that was not kept"
        standing.defects.add(DefectKind.WRONG_CHECKPOINT, what, key=LATEST, index=note.size)
    elif numbered is None:
        what = f"a signed checkpoint of {note.size} entries was shown and is missing among the numbered ones"
        standing.defects.add(DefectKind.MISSING, what, key=checkpoint_key(note.size), index=note.size)
    else:
        what = f"another tree of {note.size} entries was signed and shown"
        standing.defects.add(DefectKind.TWO_HISTORIES, what, key=LATEST, index=note.size)
