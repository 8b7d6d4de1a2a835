"""The bundle of a certificate: everything with which anybody checks it, as lines of text in one gzip file. Streaming.

::

    abeyance-bundle-1
    about {…}                  flag, unit of the picture, and what is disclosed
    from "…"                   the checkpoint at the beginning; empty for the beginning of the log
    to "…"                     the checkpoint at the end
    nodes ["<base64>",…]       the complete subtrees of the entries before the beginning
    document {"flags":"<digest of what it says>","statements":[["<key>","<text>"],…],"text":"…"}
    evidence {"disclosures":[…],"index":n,"leaf":{…},"path":["<base64>",…]}
    entry [{leaf},[["<salt>","<field>",<value>],…]]
    …                          every entry from the beginning to the end, in order
    certificate {…}            canonical JSON
    note "…"                   the signed digest of it

The nodes give the root of the first checkpoint, and with every entry after them that of the last. So no entry can be
left out, added, moved or changed: that would give another root than the one that was signed and witnessed.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final, Literal

import msgspec

from abeyance.encoding import decode_base64, encode_base64
from abeyance.ledger.canonical import canonical_json, is_canonical
from abeyance.ledger.entry import Disclosure
from abeyance.ledger.errors import LedgerError
from abeyance.ledger.tiles import HASH_BYTES
from abeyance.moratorium.document import FlagSet

MAGIC: Final = "abeyance-bundle-1"
#: Longest line that is read: a certificate with its counts, or a flags document of 1 MiB twice.
_MAX_LINE_BYTES: Final = 8 * 1024 * 1024
_LEVEL: Final = 6


class BundleError(LedgerError):
    """A bundle that is none, or a line of it that is not in its one form."""


class About(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The subject of a bundle: key of the flag, unit of the picture, and the parts that are disclosed."""

    flag: str
    unit: Literal["hour", "day"]
    disclosed: tuple[str, ...] = ()


class Evidence(msgspec.Struct, frozen=True):
    """An entry outside the counted ones, shown to be on the log of the last checkpoint: ``path`` as in a receipt."""

    index: int
    path: tuple[bytes, ...]
    leaf: bytes
    disclosures: tuple[Disclosure, ...]


class BundledDocument(msgspec.Struct, frozen=True):
    """A flags document: its text, what each flag says in one spelling, and the digest of that."""

    flags: str
    statements: tuple[tuple[str, str], ...]
    text: str

    @classmethod
    def of(cls, flags: FlagSet, text: bytes) -> BundledDocument:
        """Return the document of this text."""
        statements = tuple((key, said.decode()) for key, said in flags.statements().items())
        return cls(flags.digest, statements, text.decode())


class BundleWriter:
    """A bundle that is written line by line.

    Parameters
    ----------
    out
        Takes bytes; it is not closed.
    """

    def __init__(self, out: IO[bytes]) -> None:
        # No time and no name, so that equal bundles are equal files.
        self._out = gzip.GzipFile(filename="", mode="wb", compresslevel=_LEVEL, fileobj=out, mtime=0)
        self._out.write(f"{MAGIC}\n".encode())

    def head(self, about: About, first: str, last: str, nodes: Sequence[bytes]) -> None:
        """Write what the bundle is about, the two checkpoints, and the complete subtrees before the first entry."""
        self._line("about", canonical_json(msgspec.to_builtins(about)))
        self._line("from", canonical_json(first))
        self._line("to", canonical_json(last))
        self._line("nodes", canonical_json(list(map(encode_base64, nodes))))

    def document(self, document: BundledDocument) -> None:
        """Write a flags document."""
        self._line("document", canonical_json(msgspec.to_builtins(document)))

    def evidence(self, evidence: Evidence) -> None:
        """Write an entry with its proof."""
        path = canonical_json(list(map(encode_base64, evidence.path)))
        parts = (_disclosures(evidence.disclosures), evidence.index, evidence.leaf, path)
        self._line("evidence", b'{"disclosures":%b,"index":%d,"leaf":%b,"path":%b}' % parts)

    def entry(self, leaf: bytes, disclosures: Sequence[Disclosure]) -> None:
        """Write one of the counted entries; they come in their order."""
        self._line("entry", b"[%b,%b]" % (leaf, _disclosures(disclosures)))

    def close(self, certificate: Mapping[str, Any], note: str) -> None:
        """Write the certificate, its note, and the end of the file."""
        self._line("certificate", canonical_json(certificate))
        self._line("note", canonical_json(note))
        self._out.close()

    def _line(self, name: str, value: bytes) -> None:
        self._out.write(b"%b %b\n" % (name.encode(), value))


def _disclosures(disclosures: Sequence[Disclosure]) -> bytes:
    return b"[%b]" % b",".join(
        b'["%b","%b",%b]' % (one.salt.encode(), one.field.encode(), one.value) for one in disclosures
    )


class _EvidenceText(msgspec.Struct, forbid_unknown_fields=True):
    disclosures: list[tuple[str, str, msgspec.Raw]]
    index: int
    leaf: msgspec.Raw
    path: list[str]


_decode_entry: Final = msgspec.json.Decoder(tuple[msgspec.Raw, list[tuple[str, str, msgspec.Raw]]]).decode


class BundleReader:
    """The lines of a bundle, read one by one, each in its one form.

    Parameters
    ----------
    path
        A bundle. Nothing in it is believed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        #: Number of the line that was read last, from 1.
        self.number = 0

    def lines(self) -> Iterator[tuple[str, bytes]]:
        """Yield the name and the value of every line after the first.

        Raises
        ------
        BundleError
            Not a bundle, cut off, or a line is not canonical.
        """
        try:
            with gzip.open(self._path) as file:
                if self._read(file) != MAGIC.encode():
                    raise BundleError(f"not a bundle: the first line is not {MAGIC}")
                while (line := self._read(file)) is not None:
                    name, _, value = line.partition(b" ")
                    if not is_canonical(value):
                        raise BundleError("the line is not in its one form")
                    yield name.decode("ascii", "replace"), value
        except (OSError, EOFError, zlib.error) as error:
            raise BundleError(f"not a whole gzip file: {type(error).__name__}") from None

    def _read(self, file: gzip.GzipFile) -> bytes | None:
        line = file.readline(_MAX_LINE_BYTES)
        self.number += 1
        if not line:
            return None
        if line[-1:] != b"\n":
            raise BundleError("the line has no end, or is too long")
        return line[:-1]


def read_text(value: bytes) -> str:
    """Return a string from a line's value. Raises :class:`BundleError`."""
    return str(_decoded(value, str))


def read_object(value: bytes) -> dict[str, Any]:
    """Return an object from a line's value. Raises :class:`BundleError`."""
    found: dict[str, Any] = _decoded(value, dict[str, Any])
    return found


def read_about(value: bytes) -> About:
    """Return the subject from a line's value. Raises :class:`BundleError`."""
    found: About = _decoded(value, About)
    return found


def read_nodes(value: bytes) -> list[bytes]:
    """Return hashes from a line's value. Raises :class:`BundleError`."""
    return _hashes(_decoded(value, list[str]))


def read_document(value: bytes) -> BundledDocument:
    """Return a document from a line's value. Raises :class:`BundleError`."""
    found: BundledDocument = _decoded(value, BundledDocument)
    return found


def read_evidence(value: bytes) -> Evidence:
    """Return an entry with its proof from a line's value. Raises :class:`BundleError`."""
    text: _EvidenceText = _decoded(value, _EvidenceText)
    path = tuple(_hashes(text.path))
    return Evidence(text.index, path, bytes(text.leaf), tuple(_shown(text.disclosures)))


def read_entry(value: bytes) -> tuple[bytes, tuple[Disclosure, ...]]:
    """Return leaf and disclosures from a line's value. Raises :class:`BundleError`."""
    try:
        leaf, disclosures = _decode_entry(value)
    except msgspec.MsgspecError:
        raise BundleError("not an entry") from None
    return bytes(leaf), tuple(_shown(disclosures))


def _hashes(texts: list[str]) -> list[bytes]:
    try:
        found = [decode_base64(one) for one in texts]
    except ValueError:
        raise BundleError("a hash is not base64") from None
    if any(len(one) != HASH_BYTES for one in found):
        raise BundleError(f"a hash has not {HASH_BYTES} bytes")
    return found


def _shown(disclosures: list[tuple[str, str, msgspec.Raw]]) -> Iterator[Disclosure]:
    return (Disclosure(salt, field, bytes(value)) for salt, field, value in disclosures)


def _decoded(value: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(value, type=kind)
    except (msgspec.MsgspecError, RecursionError):
        raise BundleError("the line does not hold what its name says") from None
