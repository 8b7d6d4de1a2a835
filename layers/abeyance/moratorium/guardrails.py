"""Guardrails: claims that no flags document may break, whoever approves it.

A document of guardrails is JSON::

    {"version": "1", "guardrails": {"police_search_reviewed": {
        "claim": "deny law_enforcement search in any without review",
        "starts": "2027-01-01T00:00:00Z", "reason": "...", "source": "..."}}}

``starts`` and ``ends`` are optional; a guardrail speaks of the moments between them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, structs

from abeyance.moratorium.claims import PolicyClaim, parse_claim
from abeyance.moratorium.document import FlagSet, instant, load
from abeyance.moratorium.errors import MoratoriumError
from abeyance.moratorium.model import SCHEMA_VERSION, Instant, Text
from abeyance.moratorium.proofs import Counterexample, PolicyProof, prove
from abeyance.moratorium.vocabulary import FLAG_KEY

_key: Final = re.compile(FLAG_KEY)


class GuardrailError(MoratoriumError):
    """Guardrails that cannot be read; the message says which, and what to do."""


class Guardrail(Struct, frozen=True, kw_only=True):
    """One invariant: its key, its claim with the moments of which it speaks, and why it is there."""

    key: str
    claim: PolicyClaim
    reason: str
    source: str


class _Written(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A guardrail as it stands in a document."""

    claim: Text
    reason: Text
    source: Text
    starts: Instant | UnsetType = UNSET
    ends: Instant | UnsetType = UNSET


class _Document(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    version: Annotated[str, Meta(pattern=f"^{SCHEMA_VERSION}$")]
    guardrails: dict[str, _Written]


class Guardrails:
    """The guardrails of one document, by key."""

    def __init__(self, guardrails: tuple[Guardrail, ...] = ()) -> None:
        self._all = tuple(sorted(guardrails, key=lambda guardrail: guardrail.key))

    def __iter__(self) -> Iterator[Guardrail]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)


NO_GUARDRAILS: Final = Guardrails()


class GuardrailProof(Struct, frozen=True, kw_only=True):
    """A guardrail, and the proof that a document holds or breaks it."""

    guardrail: Guardrail
    proof: PolicyProof


class BrokenGuardrail(Struct, frozen=True, kw_only=True):
    """A guardrail that a document breaks, and the smallest decision that shows it."""

    guardrail: Guardrail
    counterexample: Counterexample


def check_all(guardrails: Guardrails, flags: FlagSet, as_of: datetime) -> list[GuardrailProof]:
    """Prove each guardrail of a document for every moment from ``as_of`` (aware) on. One that is over is left out."""
    return [
        GuardrailProof(guardrail=one, proof=prove(structs.replace(one.claim, since=since), flags))
        for one in guardrails
        if one.claim.until is None or one.claim.until > as_of
        for since in [as_of if one.claim.since is None else max(as_of, one.claim.since)]
    ]


def violations(guardrails: Guardrails, flags: FlagSet, as_of: datetime) -> list[BrokenGuardrail]:
    """Return the guardrails that a document breaks at any moment from ``as_of`` (aware) on."""
    return [
        BrokenGuardrail(guardrail=one.guardrail, counterexample=one.proof.counterexample)
        for one in check_all(guardrails, flags, as_of)
        if one.proof.counterexample is not None
    ]


def parse_guardrails(raw: bytes | str | dict[str, Any]) -> Guardrails:
    """Read a document of guardrails strictly.

    Raises
    ------
    GuardrailError, FlagsError
        On anything that is not exactly one: nothing is skipped and nothing is defaulted.
    """
    try:
        document = msgspec.convert(load(raw), _Document)
        return Guardrails(tuple(_compile(key, written) for key, written in document.guardrails.items()))
    except (msgspec.ValidationError, ValueError) as error:
        raise GuardrailError(f"the guardrails cannot be read: {error}") from None


def _compile(key: str, written: _Written) -> Guardrail:
    if not _key.fullmatch(key):
        raise ValueError(f"key {key!r} must begin with a lower-case letter and have at most 64")
    try:
        claim = parse_claim(
            written.claim,
            since=None if written.starts is UNSET else instant(written.starts),
            until=None if written.ends is UNSET else instant(written.ends),
        )
    except MoratoriumError as error:
        raise GuardrailError(f"guardrail {key!r}: {error}") from None
    return Guardrail(key=key, claim=claim, reason=written.reason, source=written.source)
