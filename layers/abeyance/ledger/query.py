"""Queries over entries, for people who read the ledger; no decision uses them."""

from __future__ import annotations

from typing import Any

import msgspec

from abeyance.ledger.reading import LoggedEntry


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """The entries to find; ``None`` matches every entry.

    Attributes
    ----------
    day
        Beginning of the time in UTC: ``2020-06-10``, ``2020-06``, ``2020-06-10T14``.
    tenant
        Of the entry or of the decision in it.
    type
        Of the entry, in any case.
    outcome
        ``permit`` or ``deny``.
    flag
        Key of a flag that took part in the decision.
    """

    day: str | None = None
    tenant: str | None = None
    type: str | None = None
    outcome: str | None = None
    flag: str | None = None

    def fits(self, entry: LoggedEntry) -> bool:
        """Return whether the entry matches."""
        decided = decision(entry)
        return (
            (self.day is None or entry.time.startswith(self.day))
            and (self.tenant is None or self.tenant in (entry.body.get("tenant"), decided.get("tenant")))
            and (self.type is None or entry.type.lower() == self.type.lower())
            and (self.outcome is None or decided.get("outcome") == self.outcome)
            and (self.flag is None or self.flag in _flags(decided))
        )


def decision(entry: LoggedEntry) -> dict[str, Any]:
    """Return the decision in an entry: the member ``decision`` of its body, or else the body."""
    inner = entry.body.get("decision")
    return inner if isinstance(inner, dict) else entry.body


def _flags(decided: dict[str, Any]) -> list[Any]:
    flags = decided.get("flags")
    return [part.get("key") for part in flags if isinstance(part, dict)] if isinstance(flags, list) else []
