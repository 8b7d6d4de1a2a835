"""The certificate of a flag, pure: its form, and the counts that everybody can make again from the entries.

::

    certificate   flag, log, from, to, documents
                  counted     made from the entries alone; a verifier makes it again and compares
                  stated      the operator's own statements: decisions made again, and the reconciliation
                  disclosed   the fields that are shown beyond what every certificate needs
                  findings    what speaks against it, by name; none for a halt that held
    note          the digest of the certificate, signed

The form of the note is C2SP's signed-note. No checkpoint has its first line, and the key is another one than that of
the log, so that neither signature can stand for the other.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

import msgspec

from abeyance.encoding import encode_base64
from abeyance.ledger.canonical import canonical_json
from abeyance.ledger.entry import CONFLICT, REFUSED
from abeyance.ledger.note import NoteError, Signature, parse_signature
from abeyance.ledger.signatures import VerifierKey
from abeyance.moratorium.change_log import DRIFT
from abeyance.pipeline import events

FORMAT: Final = "abeyance-certificate-1"
_FIRST_LINE: Final = "abeyance.certificate/v1"
_NOTE: Final = re.compile(
    r"abeyance\.certificate/v1\n([^\x00-\x20]+)\n([A-Za-z0-9+/]{43}=)\n\n((?:[^\x00-\x1f]+\n)+)"
)
_MAX_NOTE: Final = 16 * 1024

#: Parts of a decision that can be disclosed, of the decisions that the flag bound.
DISCLOSABLE: Final = ("jurisdiction", "place", "purpose", "sector", "tenant")
#: The people who agreed to the documents; disclosed as one.
PEOPLE: Final = "people"
#: Types of the entries with the first decision about a request. Later stages decide again about the same request.
REQUESTS: Final = frozenset(
    {
        *(kind.detail_type for kind in (events.UploadPermitted, events.UploadHalted, events.VideoRequested)),
        "decision",
    }
)
#: Parts of a flag in a decision, the strictest first.
PARTS: Final = ("holds", "halts", "needs_authorization", "restricts", "exempts", "audited")
HALTING: Final = PARTS[:2]
#: With one of these the request is denied.
DENYING: Final = PARTS[:3]


class Ruling(msgspec.Struct, frozen=True):
    """The field ``body.decision`` of an entry, as far as a certificate reads it."""

    outcome: str = ""
    clause: str = ""
    action: str = ""
    as_of: str = ""
    digest: str = ""
    drift: str = ""
    fault: str = ""
    flags: tuple[RulingPart, ...] = ()
    min_similarity: float | None = None
    human_review: int = 0

    def part_of(self, flag: str) -> RulingPart | None:
        """Return the strictest part that the flag of this key has; ``None`` if it does not bind."""
        found = [part for part in self.flags if part.key.rpartition(":")[2] == flag]
        return min(
            found, key=lambda part: PARTS.index(part.clause) if part.clause in PARTS else 9, default=None
        )


class RulingPart(msgspec.Struct, frozen=True):
    """A flag's part in a decision; see :class:`abeyance.moratorium.model.FlagPart`."""

    key: str
    version: str = ""
    effect: str = ""
    clause: str = ""


def read_ruling(value: bytes) -> Ruling | None:
    """Return the ruling of a field ``body.decision``; ``None`` if it is none, such as one that stands by its digest."""
    try:
        ruling = msgspec.json.decode(value, type=Ruling)
    except msgspec.MsgspecError:
        return None
    return ruling if ruling.outcome in ("permit", "deny") else None


class Tally:
    """The counts of a range of entries, made from the fields that are shown.

    Parameters
    ----------
    flag
        Key of the flag.
    unit
        ``hour`` or ``day``: the unit of the picture.
    """

    def __init__(self, flag: str, unit: str) -> None:
        self._flag = flag
        self._unit = {"hour": 13, "day": 10}[unit]
        self._types: Counter[str] = Counter()
        self._bound: Counter[tuple[str, str, str, str, str]] = Counter()
        self._spans: dict[str, Counter[str]] = {}
        self._digests: dict[str, list[Any]] = {}
        self._versions: Counter[str] = Counter()
        self._purposes: Counter[str] = Counter()
        self._shown: dict[str, Counter[str]] = {}
        self._numbers: Counter[str] = Counter()
        self._first = self._last = ""

    def entry(self, kind: str) -> None:
        """Count an entry of a type."""
        self._types[kind] += 1

    def unread(self) -> None:
        """Count a decision that cannot be read."""
        self._numbers["decisions"] += 1
        self._numbers["unread"] += 1

    def decision(
        self, kind: str, ruling: Ruling, shown: Mapping[str, str], *, documented: bool
    ) -> RulingPart | None:
        """Count a decision, and return the flag's part in it.

        ``shown`` are parts of it that are disclosed, and ``documented`` is whether the flags that it names are there.
        """
        self._numbers["decisions"] += 1
        self._numbers["faults"] += bool(ruling.fault)
        self._numbers["drift"] += bool(ruling.drift)
        self._numbers["undocumented"] += not documented
        if ruling.digest:
            first_last = self._digests.setdefault(ruling.digest, [0, ruling.as_of, ruling.as_of])
            first_last[0] += 1
            first_last[1] = min(first_last[1], ruling.as_of, key=moment_key)
            first_last[2] = max(first_last[2], ruling.as_of, key=moment_key)
        part = ruling.part_of(self._flag)
        if part is None:
            return None
        self._numbers["bound"] += 1
        self._numbers["requests"] += kind in REQUESTS
        self._bound[kind, ruling.action, part.clause, ruling.outcome, ruling.clause] += 1
        self._versions[part.version] += 1
        span = self._spans.setdefault(ruling.as_of[: self._unit], Counter())
        span[
            "denied" if ruling.outcome == "deny" else "exempted" if part.clause == "exempts" else "permitted"
        ] += 1
        if part.clause == "exempts" and ruling.outcome == "permit":
            self._purposes[shown.get("purpose", "")] += 1
        for name, value in shown.items():
            self._shown.setdefault(name, Counter())[value] += 1
        self._first = min(self._first or ruling.as_of, ruling.as_of, key=moment_key)
        self._last = max(self._last or ruling.as_of, ruling.as_of, key=moment_key)
        return part

    @property
    def period(self) -> tuple[datetime, datetime] | None:
        """The first and the last moment at which a decision was made; ``None`` without one."""
        found = self._digests.values()
        if not found:
            return None
        first = min((one[1] for one in found), key=moment_key)
        last = max((one[2] for one in found), key=moment_key)
        return datetime.fromisoformat(first), datetime.fromisoformat(last)

    def counted(self) -> dict[str, Any]:
        """Return the counts as JSON: equal for equal entries, whoever counts."""
        names = ("type", "action", "part", "outcome", "clause")
        return {
            "entries": sum(self._types.values()),
            "types": dict(self._types),
            **{
                name: self._numbers[name]
                for name in ("decisions", "bound", "requests", "faults", "drift", "undocumented", "unread")
            },
            "by": [
                {**dict(zip(names, row, strict=True)), "count": count}
                for row, count in sorted(self._bound.items())
            ],
            "spans": [{"span": span, **self._spans[span]} for span in sorted(self._spans)],
            "versions": dict(self._versions),
            "exempt_purposes": dict(self._purposes),
            "shown": {name: dict(found) for name, found in self._shown.items()},
            "digests": {
                digest: {"decisions": count, "first": first, "last": last}
                for digest, (count, first, last) in self._digests.items()
            },
            "first": self._first,
            "last": self._last,
        }


def moment_key(text: str) -> str:
    """Return a text that sorts as the moment does: RFC 3339 in UTC, with or without a fraction."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    return f"{whole}.{fraction:0<9}"


def findings(certificate: Mapping[str, Any]) -> list[str]:
    """Return what speaks against a certificate, by name, from its counts and statements.

    ``drift``            flags were handed out that the change service had not deployed
    ``not-agreed``       a document decided, and no agreement to it is on the log
    ``undocumented``     the flags of a decision are not on the log
    ``unread``           a decision cannot be read
    ``conflict``         an id stands there twice, with two contents
    ``refused``          a record was refused
    ``differs``          a decision that is made again comes out otherwise
    ``not-replayed``     a decision could not be made again
    ``not-reconciled``   nothing else was compared with the log, or not the whole period
    ``gaps``             something that happened is not on the log, or the other way round
    """
    counted, replay = certificate["counted"], certificate["stated"]["replay"]
    reconciled = certificate["stated"]["reconciliation"]
    made: dict[str, bool] = {
        "drift": counted["drift"] > 0 or DRIFT in counted["types"],
        "not-agreed": any(not one["agreed"] for one in certificate["documents"]),
        "undocumented": counted["undocumented"] > 0,
        "unread": counted["unread"] > 0,
        "conflict": counted["types"].get(CONFLICT, 0) > 0,
        "refused": counted["types"].get(REFUSED, 0) > 0,
        "differs": replay["different"] > 0,
        "not-replayed": replay["same"] + replay["different"] + replay["faults"] != counted["decisions"],
        "not-reconciled": reconciled is None or not reconciled["whole"],
        "gaps": reconciled is not None and reconciled["gaps"] > 0,
    }
    return [name for name, found in made.items() if found]


class CertificateNote(msgspec.Struct, frozen=True):
    """The signed digest of a certificate; ``str`` is the note."""

    origin: str
    digest: str
    signatures: tuple[Signature, ...] = ()

    @property
    def text(self) -> str:
        """The signed text: the lines above the blank one."""
        return f"{_FIRST_LINE}\n{self.origin}\n{self.digest}\n"

    def __str__(self) -> str:
        return self.text + "\n" + "".join(f"{signature}\n" for signature in self.signatures)


def certificate_digest(certificate: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a certificate's canonical JSON (RFC 8785), base64."""
    return encode_base64(sha256(canonical_json(certificate)).digest())


def certificate_key_name(origin: str) -> str:
    """Return the name of the key that signs certificates about the log of this name."""
    return f"{origin}/certificates"


def sign_certificate(
    certificate: Mapping[str, Any], key: VerifierKey, sign: Callable[[bytes], bytes]
) -> CertificateNote:
    """Return the note of a certificate; ``sign`` maps a message to 64 bytes of Ed25519 by ``key``."""
    note = CertificateNote(certificate["log"], certificate_digest(certificate))
    signature = Signature(key.name, key.key_id, sign(note.text.encode()))
    return msgspec.structs.replace(note, signatures=(signature,))


def parse_certificate_note(text: str) -> CertificateNote:
    """Return a note from its text; only the exact form is accepted, and no signature is verified.

    Raises ``NoteError``.
    """
    match = _NOTE.fullmatch(text) if len(text) <= _MAX_NOTE else None
    if match is None:
        raise NoteError("not the note of a certificate")
    return CertificateNote(match[1], match[2], tuple(map(parse_signature, match[3].split("\n")[:-1])))


def needed_fields(part: RulingPart | None, disclosed: Collection[str]) -> list[str]:
    """Return the parts of a decision that a certificate shows, beyond the ruling."""
    if part is None:
        return []
    exempted = ["purpose"] if part.clause == "exempts" else []
    return sorted({*exempted, *(name for name in disclosed if name in DISCLOSABLE)})
