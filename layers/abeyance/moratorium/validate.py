"""The checks of a document before it can be proposed or deployed, beyond its types and contradictions.

``parse`` checks those. Whether a document loosens what is in force is :mod:`abeyance.moratorium.changes`, and whether
that was agreed to is :mod:`abeyance.moratorium.service`.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from msgspec import Struct

from abeyance.moratorium.document import is_hosted, load, parse
from abeyance.moratorium.errors import FlagsError
from abeyance.moratorium.guardrails import NO_GUARDRAILS, BrokenGuardrail, Guardrails, violations
from abeyance.moratorium.places import is_known_place
from abeyance.moratorium.regions import FIRST
from abeyance.moratorium.schema import attribute_definitions
from abeyance.moratorium.words import counterexample


class DocumentFinding(Struct, frozen=True, kw_only=True):
    """One thing wrong with a document: the flag ("" for the document as a whole) and what to do."""

    flag: str
    message: str


def check(
    raw: bytes | str | dict[str, Any],
    *,
    places: Iterable[str] = (),
    guardrails: Guardrails = NO_GUARDRAILS,
    as_of: datetime | None = None,
) -> list[DocumentFinding]:
    """Return what is wrong with a hosted document by itself; an empty list if nothing is.

    Parameters
    ----------
    raw : bytes, str or dict
        The document.
    places : iterable of str
        Jurisdictions of registered tenants: places that exist although the vocabulary does not list them.
    guardrails : Guardrails
        None of them may be broken, whoever approves the document.
    as_of : datetime, optional
        Aware; moments before it do not count. Without it all do.
    """
    try:
        document = load(raw)
        if not is_hosted(document):
            return [DocumentFinding(flag="", message="a document to deploy has version, flags and values")]
        flags = parse(document)
    except FlagsError as error:
        return [DocumentFinding(flag="", message=str(error))]
    known = frozenset(places)
    findings = [
        DocumentFinding(
            flag=flag.key,
            message=f"place {place!r} is not known: correct its spelling, or register a tenant there first",
        )
        for flag in flags.flags
        for place in flag.jurisdictions or ()
        if not is_known_place(place, also=known)
    ]
    names = set(attribute_definitions())
    for key, definition in document["flags"].items():
        missing = names - set(definition.get("attributes", {}))
        if missing:
            findings.append(
                DocumentFinding(
                    flag=key, message=f"its definition lacks the attributes {', '.join(sorted(missing))}"
                )
            )
    found = violations(guardrails, flags, as_of or FIRST)
    return findings + [DocumentFinding(flag="", message=broken(one)) for one in found]


def broken(violation: BrokenGuardrail) -> str:
    """Return a violation as sentences, with the smallest decision that shows it."""
    guardrail = violation.guardrail
    return f"this breaks the guardrail {guardrail.key} ({guardrail.claim}), whoever approves it. " + " ".join(
        counterexample(violation.counterexample)
    )
