"""Simulation: recorded decisions, decided again with another document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import Struct

from abeyance.moratorium.decide import Clause, Decision, decide, rebuild
from abeyance.moratorium.document import FlagSet


class Direction(StrEnum):
    """The direction in which a decision would have changed."""

    NEWLY_DENIED = "newly_denied"
    NEWLY_PERMITTED = "newly_permitted"
    #: Permitted both times, under stricter or other terms.
    MORE_RESTRICTED = "more_restricted"
    LESS_RESTRICTED = "less_restricted"


class Difference(Struct, frozen=True, kw_only=True):
    """One decision that would have been another."""

    index: int
    id: str
    direction: Direction
    as_of: str
    tenant: str
    action: str
    purpose: str
    before: str
    after: str
    flags: tuple[str, ...]
    reason: str


class Simulation(Struct, frozen=True, kw_only=True):
    """The outcome of a replay.

    Attributes
    ----------
    decisions : int
        Decisions in the export.
    replayed : int
        Those that could be decided again. A decision that was a fault carries no whole request, or would be
        a fault again for a reason that no document changes; these are ``skipped``.
    differences : tuple of Difference
        In the order of the ledger; all others would have been the same.
    """

    decisions: int
    replayed: int
    skipped: int
    differences: tuple[Difference, ...]

    def count(self, direction: Direction) -> int:
        """Return the number of differences of one direction."""
        return sum(1 for difference in self.differences if difference.direction is direction)


def simulate(entries: Iterable[Mapping[str, Any]], draft: FlagSet) -> Simulation:
    """Replay the decisions of a ledger export against a draft.

    Parameters
    ----------
    entries : iterable of mapping
        Ledger entries (``index``, ``id``, ``type``, ``body``). Those of stages and of the API carry their decision as
        ``body["decision"]``; entries without one are passed over.
    draft : FlagSet
        The document to decide with, at the moment of each decision and with the registration of that moment.
    """
    decisions = replayed = 0
    differences = []
    for entry in entries:
        body = entry.get("body")
        body = body.get("decision") if isinstance(body, Mapping) else None
        if not isinstance(body, Mapping):
            continue
        decisions += 1
        try:
            before = msgspec.convert(body, Decision)
            if before.clause is Clause.FAULT or not before.as_of:
                continue
            after = decide(rebuild(before), draft, datetime.fromisoformat(before.as_of))
        except (msgspec.ValidationError, ValueError, KeyError):
            continue
        replayed += 1
        direction = _direction(before, after)
        if direction is not None:
            differences.append(
                Difference(
                    index=int(entry.get("index", 0)),
                    id=str(entry.get("id", "")),
                    direction=direction,
                    as_of=before.as_of,
                    tenant=before.tenant,
                    action=before.action,
                    purpose=before.purpose,
                    before=str(before.clause),
                    after=str(after.clause),
                    flags=tuple(part.key for part in after.flags),
                    reason=after.reason,
                )
            )
    return Simulation(
        decisions=decisions,
        replayed=replayed,
        skipped=decisions - replayed,
        differences=tuple(differences),
    )


def _direction(before: Decision, after: Decision) -> Direction | None:
    if before.permitted != after.permitted:
        return Direction.NEWLY_PERMITTED if after.permitted else Direction.NEWLY_DENIED
    if not before.permitted:
        return None
    was, becomes = _terms(before), _terms(after)
    if was == becomes:
        return None
    looser = all(new <= old for new, old in zip(becomes, was, strict=True))
    return Direction.LESS_RESTRICTED if looser else Direction.MORE_RESTRICTED


def _terms(decision: Decision) -> tuple[float, int]:
    similarity = -1.0 if decision.min_similarity is None else decision.min_similarity
    return similarity, decision.human_review
