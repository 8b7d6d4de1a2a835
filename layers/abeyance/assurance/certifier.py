"""Certificates are made here: one pass finds the flags documents, one reads the entries, counts, and decides again."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import IO, Any, Final, Literal

import msgspec

from abeyance.assurance.bundle import About, BundledDocument, BundleWriter, Evidence
from abeyance.assurance.certificate import (
    FORMAT,
    PEOPLE,
    CertificateNote,
    Tally,
    findings,
    needed_fields,
    read_ruling,
    sign_certificate,
)
from abeyance.assurance.evidence import (
    AGREED_FIELDS,
    DOCUMENT_FIELDS,
    PEOPLE_FIELDS,
    stated_documents,
    versions_of,
)
from abeyance.assurance.reconcile import Reconciliation
from abeyance.assurance.replay import Replay
from abeyance.assurance.rulings import Documents
from abeyance.aws.timestamps import rfc3339
from abeyance.encoding import encode_base64
from abeyance.ledger.checkpoint import LogCheckpoint
from abeyance.ledger.documents import DOCUMENT
from abeyance.ledger.entry import Opening, blob_key, read_commitments, read_opening
from abeyance.ledger.errors import LedgerCorrupt
from abeyance.ledger.id_index import IdIndex
from abeyance.ledger.merkle import EMPTY_ROOT, leaf_hash
from abeyance.ledger.objects import LogObjects
from abeyance.ledger.read_ahead import read_ahead
from abeyance.ledger.reading import LogReader
from abeyance.ledger.signatures import VerifierKey
from abeyance.ledger.tiles import ENTRIES, OPENINGS, WIDTH, TileName, TileReader, decode_bundle, read_tile
from abeyance.moratorium.document import parse

#: A period up to this long is shown by the hour.
_HOURLY: Final = timedelta(days=3)
_DIGESTS: Final = re.compile(rb'"(?:digest|brake|drift)":"([0-9a-f]{64})"')
_VERSIONS: Final = re.compile(rb'"version":"([0-9a-f]{12})"')


class Certified(msgspec.Struct, frozen=True):
    """A certificate, its note, and the notes of its two checkpoints. The bundle was written meanwhile."""

    certificate: dict[str, Any]
    note: CertificateNote
    first: str
    last: str


class Certifier:
    """Makes certificates from a log.

    Parameters
    ----------
    objects
        The log, with its openings.
    stored
        Entries that its tiles hold.
    key, sign
        The public key that certificates are signed with, by the name of the log, and the function that signs.
    clock
        Now, with a time zone.
    readers
        Reads under way at once; more than one where a read waits for a network.
    """

    def __init__(
        self,
        objects: LogObjects,
        stored: int,
        key: Callable[[str], VerifierKey],
        sign: Callable[[bytes], bytes],
        clock: Callable[[], datetime],
        readers: int = 1,
    ) -> None:
        self._objects = objects
        self._stored = stored
        self._key = key
        self._sign = sign
        self._clock = clock
        self._readers = readers

    def certify(
        self,
        flag: str,
        first: LogCheckpoint | None,
        last: LogCheckpoint,
        out: IO[bytes],
        *,
        disclosed: Collection[str] = (),
        reconciled: Sequence[Reconciliation] = (),
        progress: Callable[[int], None] | None = None,
    ) -> Certified:
        """Make the certificate of a flag from the entries between two checkpoints, and write its bundle.

        Parameters
        ----------
        flag
            Key of the flag.
        first, last
            The checkpoints; ``None`` is the beginning of the log.
        out
            Takes the bundle.
        disclosed
            Of :data:`~abeyance.assurance.certificate.DISCLOSABLE`, and
            :data:`~abeyance.assurance.certificate.PEOPLE`.
        reconciled
            Comparisons of what happened with the log that together cover the period.
        progress
            Called now and then with the number of entries that are read.

        Raises
        ------
        LedgerCorrupt
            The entries are not those of the checkpoints, or an object is missing or damaged.
        """
        start, size = first.size if first else 0, last.size
        if start >= size:
            raise LedgerCorrupt("there is no entry between the two checkpoints; take a later one as the end")
        about = About(flag, self._unit(start, size), tuple(sorted(disclosed)))
        documents, evidence = self._documents(start, last, people=PEOPLE in disclosed)
        tree = TileReader(self._objects, size, self._stored).compact(0, start)
        if tree.root() != (first.root if first else EMPTY_ROOT):
            raise _other("first")
        writer = BundleWriter(out)
        writer.head(about, str(first or ""), str(last), tree.nodes)
        for document in documents:
            writer.document(document)
        for one in evidence:
            writer.evidence(one)
        known = Documents(parse(document.text) for document in documents)
        tally, replay, hashes = Tally(flag, about.unit), Replay(known), list[bytes]()
        with IdIndex() as seen:
            for index, leaf, opening in self._entries(start, size, progress):
                seen.add(opening.id.encode(), 0, index)
                hashes.append(leaf_hash(leaf))
                if len(hashes) == WIDTH:
                    tree.extend(hashes)
                    hashes.clear()
                fields = _count(index, opening, about, known, tally, replay)
                shown = [opening.disclose(name) for name in fields]
                commitments = read_commitments(leaf) or {}
                if any(one.commitment() != commitments.get(one.field, "") for one in shown):
                    raise LedgerCorrupt(f"entry {index} does not open; run: abeyance ledger verify")
                writer.entry(leaf, shown)
            tree.extend(hashes)
            repeated = sum(1 for _ in seen.repeated())
        if tree.root() != last.root:
            raise _other("last")
        certificate: dict[str, Any] = {
            "format": FORMAT,
            "flag": flag,
            "log": last.origin,
            "from": {"size": start, "root": encode_base64(first.root if first else EMPTY_ROOT)},
            "to": {"size": size, "root": encode_base64(last.root)},
            "unit": about.unit,
            "disclosed": list(about.disclosed),
            "documents": stated_documents(documents, evidence),
            "versions": versions_of(flag, documents),
            "counted": tally.counted(),
            "stated": {
                "made": rfc3339(self._clock(), "seconds"),
                "replay": replay.stated(),
                "repeated": repeated,
                "reconciliation": _merged(reconciled, tally.period),
            },
        }
        certificate["findings"] = findings(certificate)
        key = self._key(last.origin)
        note = sign_certificate(certificate, key, self._sign)
        writer.close(certificate, str(note))
        return Certified(certificate, note, str(first or ""), str(last))

    def _unit(self, start: int, size: int) -> Literal["hour", "day"]:
        reader = LogReader(self._objects, self._stored)
        begin, end = (datetime.fromisoformat(reader.entry(index).time) for index in (start, size - 1))
        return "hour" if end - begin <= _HOURLY else "day"

    def _documents(
        self, start: int, last: LogCheckpoint, *, people: bool
    ) -> tuple[list[BundledDocument], list[Evidence]]:
        """Return the documents that decided in the period, and the entries that say where each comes from."""
        digests, versions = set[bytes](), set[bytes]()
        found: dict[str, tuple[int, str]] = {}
        agreed: dict[str, int] = {}

        def load(number: int) -> tuple[int, list[bytes]]:
            return number, self._read(OPENINGS, number, last.size)

        for number, openings in read_ahead(load, range(-(-last.size // WIDTH)), self._readers):
            for index, data in enumerate(openings, number * WIDTH):
                if index >= start:
                    digests.update(_DIGESTS.findall(data))
                    if b'"key":"agreed:' in data or b":agreed:" in data:
                        versions.update(_VERSIONS.findall(data))
                if b'"type":"moratorium.' in data:
                    opening = read_opening(data)
                    body = opening.record().body
                    if opening.type == DOCUMENT:
                        found.setdefault(str(body["flags"]), (index, str(body["document"])))
                    elif opening.type in AGREED_FIELDS:
                        # What was adopted has the digest of the flags; of a proposal, that is another member.
                        name = "digest" if "digest" in AGREED_FIELDS[opening.type] else "flags"
                        if digest := body.get(name):
                            agreed.setdefault(str(digest), index)
        documents, evidence = [], []
        for digest, (index, blob) in sorted(found.items()):
            if digest.encode() not in digests and not versions:
                continue
            text = self._objects.get(blob_key(blob))
            if text is None or sha256(text).hexdigest() != blob:
                raise LedgerCorrupt(f"{blob_key(blob)} is missing or damaged; run: abeyance ledger verify")
            flags = parse(text)
            if digest.encode() not in digests and versions.isdisjoint(
                one.version.encode() for one in flags.flags
            ):
                continue
            documents.append(BundledDocument.of(flags, text))
            evidence.append(self._evidence(last, index, DOCUMENT_FIELDS))
            if digest in agreed:
                at = agreed[digest]
                fields = AGREED_FIELDS[LogReader(self._objects, self._stored).entry(at).type]
                evidence.append(self._evidence(last, at, [*fields, *(PEOPLE_FIELDS if people else ())]))
        return documents, evidence

    def _evidence(self, last: LogCheckpoint, index: int, fields: Collection[str]) -> Evidence:
        tree = TileReader(self._objects, last.size, self._stored)
        opening = read_opening(tree.opening(index))
        wanted = ["type", *(f"body.{name}" for name in fields if f"body.{name}" in opening.fields)]
        return Evidence(
            index, tuple(tree.inclusion(index)), tree.leaf(index), tuple(map(opening.disclose, wanted))
        )

    def _entries(
        self, start: int, size: int, progress: Callable[[int], None] | None
    ) -> Iterator[tuple[int, bytes, Opening]]:
        def load(number: int) -> tuple[int, list[bytes], list[bytes]]:
            return number, self._read(ENTRIES, number, size), self._read(OPENINGS, number, size)

        for number, leaves, openings in read_ahead(
            load, range(start // WIDTH, -(-size // WIDTH)), self._readers
        ):
            for index, (leaf, data) in enumerate(zip(leaves, openings, strict=True), number * WIDTH):
                if index >= start:
                    yield index, leaf, read_opening(data)
            if progress:
                progress(min(size, (number + 1) * WIDTH) - start)

    def _read(self, row: str, number: int, size: int) -> list[bytes]:
        name = TileName(row, number, min(WIDTH, self._stored - number * WIDTH))
        return read_tile(self._objects, name, decode_bundle)[: size - number * WIDTH]


def _count(
    index: int, opening: Opening, about: About, known: Documents, tally: Tally, replay: Replay
) -> list[str]:
    """Count an entry, make its decision again, and return the fields that are shown."""
    tally.entry(opening.type)
    field = opening.fields.get("body.decision")
    if field is None:
        return ["type"]
    ruling = read_ruling(field)
    if ruling is None:
        tally.unread()
        return ["body.decision", "type"]
    replay.decide(index, opening.members["decision"])
    parts = needed_fields(ruling.part_of(about.flag), about.disclosed)
    names = {name: f"body.decision.{name}" for name in parts if f"body.decision.{name}" in opening.fields}
    shown = {name: str(msgspec.json.decode(opening.fields[field])) for name, field in names.items()}
    tally.decision(opening.type, ruling, shown, documented=known.documented(ruling))
    return ["body.decision", *names.values(), "type"]


def _merged(
    reconciled: Sequence[Reconciliation], period: tuple[datetime, datetime] | None
) -> dict[str, Any] | None:
    """Return several comparisons as one; ``whole`` is whether they cover the period without a hole."""
    if not reconciled:
        return None
    runs = sorted(reconciled, key=lambda one: one.since)
    covered = datetime.fromisoformat(runs[0].since)
    whole = period is None or covered <= period[0]
    for one in runs:
        whole &= datetime.fromisoformat(one.since) <= covered
        covered = max(covered, datetime.fromisoformat(one.until))
    traces: dict[str, int] = {}
    for one in runs:
        for source, count in one.traces.items():
            traces[source] = traces.get(source, 0) + count
    return {
        "since": runs[0].since,
        "until": rfc3339(covered, "microseconds"),
        "runs": len(runs),
        "traces": traces,
        "gaps": sum(one.found for one in runs),
        "whole": whole and (period is None or covered >= period[1]),
    }


def _other(which: str) -> LedgerCorrupt:
    return LedgerCorrupt(f"the entries are not those of the {which} checkpoint; run: abeyance ledger verify")
