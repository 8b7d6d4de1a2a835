"""Queries over entries, for people who read the ledger; no decision uses them."""

from __future__ import annotations

from typing import Any

import msgspec

from abeyance.ledger.reading import LoggedEntry


class IndexRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """The fields of an entry by which it is found; a field that the entry lacks, or that is no text, is empty."""

    index: int
    id: str
    time: str
    type: str
    tenant: str = ""
    action: str = ""
    outcome: str = ""
    flags: tuple[str, ...] = ()


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """The entries to find; ``None`` matches every entry.

    Attributes
    ----------
    id
        Of the entry.
    day
        Beginning of the time in UTC: ``2020-06-10``, ``2020-06``, ``2020-06-10T14``.
    tenant, action
        Of the entry or of the decision in it.
    type
        Of the entry, in any case.
    outcome
        ``permit`` or ``deny``.
    flag
        Key of a flag that took part in the decision.
    """

    id: str | None = None
    day: str | None = None
    tenant: str | None = None
    action: str | None = None
    type: str | None = None
    outcome: str | None = None
    flag: str | None = None

    def fits(self, row: IndexRow) -> bool:
        """Return whether the entry matches."""
        return (
            self.id in (None, row.id)
            and (self.day is None or row.time.startswith(self.day))
            and self.tenant in (None, row.tenant)
            and self.action in (None, row.action)
            and (self.type is None or row.type.lower() == self.type.lower())
            and self.outcome in (None, row.outcome)
            and (self.flag is None or self.flag in row.flags)
        )


def row_of(entry: LoggedEntry) -> IndexRow:
    """Return the fields by which an entry is found: of itself, or else of the decision in it."""
    decided = decision(entry)

    def text(name: str) -> str:
        found = (value for value in (entry.body.get(name), decided.get(name)) if isinstance(value, str))
        return next(found, "")

    flags = decided.get("flags")
    keys = (part.get("key") for part in flags if isinstance(part, dict)) if isinstance(flags, list) else ()
    return IndexRow(
        index=entry.index,
        id=entry.id,
        time=entry.time,
        type=entry.type,
        tenant=text("tenant"),
        action=text("action"),
        outcome=text("outcome"),
        flags=tuple(key for key in keys if isinstance(key, str)),
    )


def decision(entry: LoggedEntry) -> dict[str, Any]:
    """Return the decision in an entry: the member ``decision`` of its body, or else the body."""
    inner = entry.body.get("decision")
    return inner if isinstance(inner, dict) else entry.body
