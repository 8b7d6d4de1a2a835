"""One line of an export, read without trusting it: fast where it is right, precise where it is wrong.

An entry is ``{"body":…,"hash":"…","id":"…","prev":"…","seq":…,"time":"…","type":"…"}``. Behind the body
nothing can hold a quote or an escape, so one anchored pattern checks all of that part; the body is canonical
if decoding and encoding it again gives the same bytes; and the hash is over the bytes of the line with the
``hash`` member cut out.
"""

from __future__ import annotations

import json
import re
from hashlib import sha256
from typing import Any, Final, NamedTuple

import msgspec
import rfc8785

from abeyance.ledger.canonical import is_canonical
from abeyance.ledger.chain import (
    CHAIN_PATTERN,
    FORMAT,
    ID_PATTERN,
    MAX_SEQ,
    TIME_PATTERN,
    TYPE_PATTERN,
    Header,
)
from abeyance.ledger.findings import BadLine, FindingKind
from abeyance.ledger.note import Checkpoint, NoteError, parse_checkpoint


class EntryLine(NamedTuple):
    """An entry as verification needs it: ``computed`` is its recomputed hash, ``stated`` the hash on the line."""

    seq: int
    computed: bytes
    stated: bytes
    prev: bytes
    id: bytes
    type: bytes


_HASH: Final = b',"hash":"'
_CUT: Final = len(_HASH) + 64 + 1
_TAIL: Final = re.compile(
    (
        rf',"hash":"([0-9a-f]{{64}})","id":"({ID_PATTERN})","prev":"([0-9a-f]{{64}})",'
        rf'"seq":([1-9][0-9]{{0,15}}),"time":"{TIME_PATTERN}","type":"({TYPE_PATTERN})"\}}'
    ).encode()
)
_FIELDS: Final = {
    "hash": re.compile(r"[0-9a-f]{64}"),
    "id": re.compile(ID_PATTERN),
    "prev": re.compile(r"[0-9a-f]{64}"),
    "time": re.compile(TIME_PATTERN),
    "type": re.compile(TYPE_PATTERN),
}
_HEADER: Final = re.compile(
    rf'\{{"chain":"({CHAIN_PATTERN})","created":"({TIME_PATTERN})","format":"([^"\\]*)",'
    r'"genesis":"([0-9a-f]{64})"\}'
)


def read_entry(line: bytes) -> EntryLine:
    """Return an entry from one line without its newline, its hash recomputed from the bytes.

    Raises
    ------
    BadLine
        Malformed or not canonical. A wrong hash is not an error here: compare ``computed`` and ``stated``.
    """
    cut = line.rfind(_HASH)
    match = _TAIL.fullmatch(line, cut) if cut > 0 else None
    if match is None or not line.startswith(b'{"body":{') or not is_canonical(line[8:cut]):
        raise _diagnosis(line)
    stated, name, prev, seq, kind = match.groups()
    if len(seq) == 16 and int(seq) > MAX_SEQ:
        raise _diagnosis(line)
    digest = sha256(line[:cut])
    digest.update(line[cut + _CUT :])
    return EntryLine(
        int(seq), digest.digest(), bytes.fromhex(stated.decode()), bytes.fromhex(prev.decode()), name, kind
    )


def header_line(header: Header) -> bytes:
    """Return the first line of an export, without newline: the header and its hash."""
    return rfc8785.dumps({**msgspec.structs.asdict(header), "genesis": header.genesis})


def read_header(line: bytes) -> Header:
    """Return the header from the first line of an export, without newline.

    Raises
    ------
    BadLine
        Not the header of a ledger of this format, or changed since it was written.
    """
    match = _HEADER.fullmatch(line.decode("utf-8", "replace"))
    if match is None:
        raise BadLine(FindingKind.HEADER, "the first line is not the header of a ledger export")
    chain, created, version, genesis = match.groups()
    if version != FORMAT:
        raise BadLine(FindingKind.HEADER, f"the header names another format than {FORMAT}")
    header = Header(chain, created, version)
    if header.genesis != genesis:
        raise BadLine(FindingKind.HEADER, "the header was changed: it does not have the hash that it states")
    return header


def checkpoint_line(checkpoint: Checkpoint) -> bytes:
    """Return a checkpoint as a line of an export, without newline; the digest covers the signatures too."""
    text = str(checkpoint)
    return rfc8785.dumps({"checkpoint": text, "sha256": sha256(text.encode()).hexdigest()})


def is_checkpoint_line(line: bytes) -> bool:
    """Return whether a line is meant to be a checkpoint."""
    return line.startswith(b'{"checkpoint":')


def read_checkpoint(line: bytes) -> Checkpoint:
    """Return the checkpoint from a line of an export, its signatures unverified.

    Raises
    ------
    BadLine
        Damaged.
    """
    try:
        fields = json.loads(line.decode())
        checkpoint = parse_checkpoint(fields["checkpoint"])
    except (ValueError, KeyError, TypeError, RecursionError, AttributeError, NoteError) as error:
        raise BadLine(
            FindingKind.WRONG_CHECKPOINT, f"a damaged checkpoint ({type(error).__name__})"
        ) from None
    if checkpoint_line(checkpoint) != line:
        raise BadLine(
            FindingKind.WRONG_CHECKPOINT, "a damaged checkpoint: it does not have the digest that it states"
        )
    return checkpoint


def _diagnosis(line: bytes) -> BadLine:
    """Return the reason for which a line is no canonical entry; runs only for such lines."""
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        return BadLine(FindingKind.MALFORMED, "the line is not UTF-8", error.start)
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        return BadLine(
            FindingKind.MALFORMED, f"the line is not JSON: {error.msg}", len(text[: error.pos].encode())
        )
    except (ValueError, RecursionError):
        return BadLine(FindingKind.MALFORMED, "the line is JSON beyond all limits")
    if problem := _field_problem(value):
        return BadLine(FindingKind.MALFORMED, problem)
    try:
        canonical = rfc8785.dumps(value)
    except (ValueError, RecursionError):
        return BadLine(FindingKind.NOT_CANONICAL, "the body has no canonical form")
    first = next((at for at, (a, b) in enumerate(zip(line, canonical, strict=False)) if a != b), None)
    return BadLine(
        FindingKind.NOT_CANONICAL,
        "the entry is not in canonical form (RFC 8785)",
        min(len(line), len(canonical)) if first is None else first,
    )


def _field_problem(value: Any) -> str:
    if not isinstance(value, dict) or value.keys() != {"body", "seq", *_FIELDS}:
        return "the line is JSON and no entry, which has body, hash, id, prev, seq, time, type and no more"
    if not isinstance(value["body"], dict):
        return "the body is not an object"
    seq = value["seq"]
    if isinstance(seq, bool) or not isinstance(seq, int) or not 1 <= seq <= MAX_SEQ:
        return "seq is not a whole number from 1"
    for name, pattern in _FIELDS.items():
        if not isinstance(value[name], str) or not pattern.fullmatch(value[name]):
            return f"{name} does not have its form"
    return ""
