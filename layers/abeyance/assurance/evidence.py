"""The origin of the flags documents: the entry of each, and the entry of the agreement to it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

import msgspec

from abeyance.assurance.bundle import BundledDocument, Evidence
from abeyance.ledger.documents import DOCUMENT
from abeyance.moratorium.documents import ADOPTED
from abeyance.moratorium.service import APPLIED, TIGHTENED

#: Members of the body of a document's entry that are shown.
DOCUMENT_FIELDS: Final = ("document", "flags")
#: The same of an agreement's entry, by its type. A document was adopted if it was there when the service began, or on
#: one machine, where it is a file.
AGREED_FIELDS: Final[Mapping[str, Sequence[str]]] = {
    APPLIED: ("document", "flags", "kind", "people", "subject"),
    TIGHTENED: ("document", "flags", "kind", "people", "subject"),
    ADOPTED: ("digest", "subject"),
}
#: Of an agreement, if the people are disclosed.
PEOPLE_FIELDS: Final = ("approvers", "note", "proposer")
_AGREED: Final = {APPLIED: "approved", TIGHTENED: "tightened", ADOPTED: "adopted"}


def stated_documents(
    documents: Iterable[BundledDocument], evidence: Iterable[Evidence]
) -> list[dict[str, Any]]:
    """Return, for a certificate, where each document comes from: its entry, and how it was agreed to.

    ``agreed`` is ``approved`` (by several people), ``tightened`` (by one), ``adopted``, or empty if no entry says so.
    ``people`` are those who had to agree.
    """
    entries: dict[str, tuple[int, str]] = {}
    agreements: dict[str, dict[str, Any]] = {}
    for one in evidence:
        shown = {each.field: msgspec.json.decode(each.value) for each in one.disclosures}
        kind = str(shown.get("type"))
        if kind == DOCUMENT:
            entries.setdefault(str(shown.get("body.flags")), (one.index, str(shown.get("body.document"))))
        elif kind in _AGREED:
            digest = str(shown.get("body.digest" if kind == ADOPTED else "body.flags"))
            said = shown.get("body.people")
            people = 1 if kind == TIGHTENED else said if isinstance(said, int) else 0
            agreement = {"agreed": _AGREED[kind], "agreement": one.index, "people": people}
            names = {name: shown[f"body.{name}"] for name in PEOPLE_FIELDS if f"body.{name}" in shown}
            agreements.setdefault(digest, agreement | ({"by": names} if names else {}))
    missing = {"agreed": "", "agreement": -1, "people": 0}
    return [
        {
            "flags": document.flags,
            "document": sha256(document.text.encode()).hexdigest(),
            "entry": entries.get(document.flags, (-1, ""))[0],
            **agreements.get(document.flags, missing),
        }
        for document in documents
    ]


def named_documents(evidence: Iterable[Evidence]) -> set[tuple[str, str]]:
    """Return the pairs of digests, of what a document says and of its text, that entries name."""
    pairs = set()
    for one in evidence:
        shown = {each.field: msgspec.json.decode(each.value) for each in one.disclosures}
        if shown.get("type") == DOCUMENT:
            pairs.add((str(shown.get("body.flags")), str(shown.get("body.document"))))
    return pairs


def versions_of(flag: str, documents: Iterable[BundledDocument]) -> list[dict[str, Any]]:
    """Return what a flag said in each of its versions: version, digest of the document, and its attributes."""
    found: dict[str, dict[str, Any]] = {}
    for document in documents:
        for key, text in document.statements:
            if key == flag:
                version = sha256(text.encode()).hexdigest()[:12]
                says = msgspec.json.decode(text)
                found.setdefault(version, {"version": version, "flags": document.flags, "says": says})
    return [found[version] for version in sorted(found)]
