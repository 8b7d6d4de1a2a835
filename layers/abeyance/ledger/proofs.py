"""Proofs that an entry, or an older ledger, is part of the ledger, without the ledger and without trust."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, Literal

import msgspec
import rfc8785

from abeyance.encoding import decode_base64, encode_base64
from abeyance.ledger.errors import LedgerCorrupt, LedgerError
from abeyance.ledger.findings import BadLine, FindingKind
from abeyance.ledger.lines import read_entry
from abeyance.ledger.merkle import (
    consistency_ranges,
    inclusion_ranges,
    leaf_hash,
    range_roots,
    verify_consistency,
    verify_inclusion,
)
from abeyance.ledger.note import Checkpoint, NoteError, parse_checkpoint
from abeyance.ledger.signatures import VerifierKey, check

FORMAT: Final = "abeyance-ledger-proof-1"


class Proof(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, forbid_unknown_fields=True):
    """A proof as it is printed, and sent to somebody else.

    Attributes
    ----------
    kind
        ``inclusion`` of ``entry`` in the ledger of ``checkpoint``, or its ``consistency`` with the older ``since``.
    checkpoint
        Text of the checkpoint, with its signatures.
    path
        Nodes of the Merkle tree, base64, in the order of RFC 9162.
    entry
        The whole entry.
    since
        Text of the older checkpoint.
    """

    format: str
    kind: Literal["inclusion", "consistency"]
    checkpoint: str
    path: tuple[str, ...]
    entry: dict[str, Any] | None = None
    since: str | None = None


class ProofReport(msgspec.Struct, frozen=True):
    """The result of checking a proof: whether it holds, its subject, and the signers of the checkpoint."""

    ok: bool
    kind: str
    what: str
    size: int
    root: str
    seq: int | None = None
    since: int | None = None
    signed_by: tuple[str, ...] = ()


def prove_inclusion(lines: Iterable[bytes], entry: bytes, checkpoint: Checkpoint) -> Proof:
    """Return a proof that an entry is among the first ``checkpoint.size``.

    Parameters
    ----------
    lines
        The entries from the first on, as canonical JSON; read once, in constant memory.
    entry
        The one to prove, as canonical JSON.
    checkpoint
        Of this chain.

    Raises
    ------
    LedgerError
        The entry is behind the checkpoint.
    LedgerCorrupt
        The entries do not have the checkpoint's root.
    """
    seq = _leaf(entry)[0]
    if seq > checkpoint.size:
        raise LedgerError(
            f"entry {seq} came after the checkpoint of {checkpoint.size}; write a new checkpoint first"
        )
    path = range_roots(_leaves(lines), inclusion_ranges(seq - 1, checkpoint.size))
    proof = Proof(
        format=FORMAT,
        kind="inclusion",
        checkpoint=str(checkpoint),
        path=_texts(path),
        entry=msgspec.json.decode(entry),
    )
    return _sound(proof)


def prove_consistency(lines: Iterable[bytes], since: Checkpoint, checkpoint: Checkpoint) -> Proof:
    """Return a proof that the ledger of ``checkpoint`` begins with that of ``since``; see :func:`prove_inclusion`."""
    if not 0 < since.size <= checkpoint.size or since.origin != checkpoint.origin:
        raise LedgerError("the older checkpoint is not of this chain, is empty, or is larger than the other")
    path = range_roots(_leaves(lines), consistency_ranges(since.size, checkpoint.size))
    proof = Proof(
        format=FORMAT,
        kind="consistency",
        checkpoint=str(checkpoint),
        path=_texts(path),
        since=str(since),
    )
    return _sound(proof)


def check_proof(
    text: bytes, *, trusted: Sequence[VerifierKey] = (), against: Checkpoint | None = None
) -> ProofReport:
    """Check a proof with nothing but itself.

    Parameters
    ----------
    text
        The JSON that ``abeyance ledger prove`` prints.
    trusted
        Public keys; if there are any, one of them has to have signed the checkpoint.
    against
        A checkpoint from elsewhere that the proof's has to equal.

    Returns
    -------
    ProofReport
        Total: anything that is not a proof is one that does not hold.
    """
    try:
        proof = msgspec.json.decode(text, type=Proof)
        if proof.format != FORMAT:
            raise NoteError(f"not a proof of the format {FORMAT}")
        checkpoint = parse_checkpoint(proof.checkpoint)
        path = [decode_base64(node) for node in proof.path]
        seq, since, holds, what = _check(proof, checkpoint, path)
        good, bad = check(checkpoint, trusted)
    except (msgspec.MsgspecError, ValueError, RecursionError, BadLine) as error:
        return ProofReport(False, "", f"not a proof: {error}", 0, "")
    if holds and against is not None and against.text != checkpoint.text:
        holds, what = False, "the proof is about another checkpoint than the given one"
    if holds and (bad or (trusted and not good)):
        holds, what = False, "no trusted key has a good signature under the checkpoint"
    root = encode_base64(checkpoint.root)
    return ProofReport(holds, proof.kind, what, checkpoint.size, root, seq, since, tuple(good))


def _check(
    proof: Proof, checkpoint: Checkpoint, path: Sequence[bytes]
) -> tuple[int | None, int | None, bool, str]:
    if proof.kind == "inclusion":
        seq, leaf = _leaf(rfc8785.dumps(proof.entry))
        if verify_inclusion(leaf, seq - 1, checkpoint.size, path, checkpoint.root):
            return seq, None, True, f"entry {seq} is on the ledger of {checkpoint.size} entries"
        return seq, None, False, f"entry {seq} is not shown to be on the ledger of this checkpoint"
    since = parse_checkpoint(proof.since or "")
    same = since.origin == checkpoint.origin
    if same and verify_consistency(since.size, checkpoint.size, since.root, checkpoint.root, path):
        return (
            None,
            since.size,
            True,
            f"the ledger of {checkpoint.size} entries begins with that of {since.size}",
        )
    return None, since.size, False, f"the ledger is not shown to begin with that of {since.size} entries"


def _sound(proof: Proof) -> Proof:
    """Return a proof that holds; raise :class:`LedgerCorrupt` for any other."""
    report = check_proof(msgspec.json.encode(proof))
    if not report.ok:
        raise LedgerCorrupt(
            f"{report.what}: the entries are not those of the checkpoint; run: abeyance ledger verify"
        )
    return proof


def _leaf(line: bytes) -> tuple[int, bytes]:
    entry = read_entry(line)
    if entry.computed != entry.stated:
        raise BadLine(FindingKind.ALTERED, "the entry does not have the hash that it states")
    return entry.seq, leaf_hash(entry.computed)


def _leaves(lines: Iterable[bytes]) -> Iterator[bytes]:
    for line in lines:
        yield leaf_hash(read_entry(line).computed)


def _texts(nodes: Iterable[bytes]) -> tuple[str, ...]:
    return tuple(map(encode_base64, nodes))
