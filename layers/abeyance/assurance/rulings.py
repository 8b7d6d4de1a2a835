"""The rules by which what is shown of a decision is compared with the flags documents on the log. Pure.

They need no tenant and no place: whether every part that a decision names is one that its flag has at that moment, and
whether the outcome follows from the parts. Whether a flag binds a request that does not name it takes the sector and
the place, which are withheld; the operator states that it does not, having made the decision again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from abeyance.assurance.certificate import DENYING, HALTING, Ruling, RulingPart, moment_key
from abeyance.moratorium.document import Flag, FlagSet, instant_text
from abeyance.moratorium.model import Effect
from abeyance.moratorium.vocabulary import INVOLVES

NO_FLAGS = FlagSet(())
#: Parts of flags that would bind, and let the request through.
_STEPPING_ASIDE: Final = frozenset({"exempts", "audited"})


class Documents:
    """The flags documents that decided, by the digest of what they say."""

    def __init__(self, documents: Iterable[FlagSet] = ()) -> None:
        self._sets = {NO_FLAGS.digest: NO_FLAGS}
        self._own = {NO_FLAGS.digest: dict[str, str]()}
        self._flags: dict[tuple[str, str], Flag] = {}
        for flags in documents:
            self.add(flags)

    def add(self, flags: FlagSet) -> None:
        """Add a document."""
        self._sets[flags.digest] = flags
        self._own[flags.digest] = {flag.key: flag.version for flag in flags.flags}
        self._flags.update({(flag.key, flag.version): flag for flag in flags.flags})

    def get(self, digest: str) -> FlagSet | None:
        """Return the document of a digest."""
        return self._sets.get(digest)

    def holding(self, part: RulingPart) -> FlagSet | None:
        """Return a document with the flag of a part, in just this version."""
        key = part.key.rpartition(":")[2]
        return next(
            (
                flags
                for flags in self._sets.values()
                if any((flag.key, flag.version) == (key, part.version) for flag in flags.flags)
            ),
            None,
        )

    def has(self, digest: str, part: RulingPart) -> bool:
        """Return whether the flag of a part is in the document of a digest, or that document is not here."""
        own = self._own.get(digest)
        return own is None or own.get(part.key) == part.version

    def flag(self, part: RulingPart) -> Flag | None:
        """Return the flag of a part. A key with a prefix, such as ``brake:``, is that of another document."""
        return self._flags.get((part.key.rpartition(":")[2], part.version))

    def documented(self, ruling: Ruling) -> bool:
        """Return whether the documents that a decision names are here. A decision that names none was a fault."""
        return (not ruling.digest or ruling.digest in self._sets) and all(map(self.flag, ruling.flags))


def contradictions(ruling: Ruling, documents: Documents, shown: Mapping[str, str]) -> list[str]:
    """Return what is wrong with a decision, in words; nothing for one that can be right.

    Parameters
    ----------
    ruling
        What is shown of the decision.
    documents
        The flags documents. A part whose document is not here is not compared; :meth:`Documents.documented` says so.
    shown
        Further parts of the decision that are disclosed: ``purpose``, ``tenant``.
    """
    clauses = {part.clause for part in ruling.flags}
    halting, denying = not clauses.isdisjoint(HALTING), not clauses.isdisjoint(DENYING)
    permit = ruling.outcome == "permit"
    exempting = [flag for part in ruling.flags if part.clause == "exempts" and (flag := documents.flag(part))]
    rules = {
        "a flag halts the request, and it was permitted": denying and permit,
        "the clause says halted, and no flag halts": ruling.clause in ("halted", "held") and not halting,
        "the clause says halted, and the request was permitted": ruling.clause in ("halted", "held")
        and permit,
        "the clause says exempted, and no flag exempts": ruling.clause == "exempted"
        and ("exempts" not in clauses or not clauses <= _STEPPING_ASIDE),
        "the clause says audited, and another flag has a part": ruling.clause == "audited"
        and clauses != {"audited"},
        "the exemption needs an authorisation, and the clause says nothing of one": ruling.clause
        == "exempted"
        and any(flag.authorization_required for flag in exempting),
        "the clause speaks of an authorisation, and no flag asks for one": ruling.clause
        in ("authorized", "authorization_due")
        and len(exempting) == sum(part.clause == "exempts" for part in ruling.flags)
        and not any(flag.authorization_required for flag in exempting),
        "the clause says restricted, and no flag restricts": ruling.clause == "restricted"
        and "restricts" not in clauses,
        "the clause says permitted, and a flag has a part": ruling.clause == "permitted" and bool(clauses),
        "a request was permitted although no decision could be made": bool(ruling.fault) and permit,
        "the flags have a part, and the decision names no document": bool(clauses) and not ruling.digest,
        "a flag has a part, and is not in the document that decided": not all(
            ":" in part.key or documents.has(ruling.digest, part) for part in ruling.flags
        ),
    }
    found = [what for what, broken in rules.items() if broken]
    restricting = []
    for part in ruling.flags:
        flag = documents.flag(part)
        if flag is None:
            continue
        if part.clause == "restricts":
            restricting.append(flag)
        found += _part_contradictions(part, flag, ruling, shown)
    if ruling.clause == "restricted" and len(restricting) == sum(
        part.clause == "restricts" for part in ruling.flags
    ):
        terms = [flag.min_similarity for flag in restricting if flag.min_similarity is not None]
        if (ruling.min_similarity, ruling.human_review) != (
            max(terms, default=None),
            max((flag.human_review for flag in restricting), default=0),
        ):
            found.append("the restriction is not that of the flags")
    return found


def _part_contradictions(part: RulingPart, flag: Flag, ruling: Ruling, shown: Mapping[str, str]) -> list[str]:
    at = moment_key(ruling.as_of)
    ended = flag.ends is not None and moment_key(instant_text(flag.ends)) <= at
    started = moment_key(instant_text(flag.starts)) <= at
    until = flag.exempt_until
    involved = INVOLVES.get(ruling.action, frozenset())
    rules = {
        "the effect is another": part.effect != str(flag.effect),
        "it is not in force at that moment": not started or (ended and not flag.hold),
        "it does not name the action": flag.actions is not None and not flag.actions & involved,
        "it does not halt": part.clause in DENYING and flag.effect is not Effect.HALT,
        "it is bound to no audit": part.clause == "audited" and flag.audit is None,
        "it asks for no authorisation": part.clause == "needs_authorization"
        and not flag.authorization_required,
        "it does not restrict": part.clause == "restricts" and flag.effect is not Effect.RESTRICT,
        "it is past its end, and held": part.clause == "halts" and ended,
        "it is not past its end": part.clause == "holds" and not ended,
        "it grants no exemption at that moment": part.clause == "exempts"
        and (not flag.exempt_purposes or (until is not None and moment_key(instant_text(until)) <= at)),
        "it does not exempt this purpose": part.clause == "exempts"
        and "purpose" in shown
        and shown["purpose"] not in flag.exempt_purposes,
        "it does not exempt this tenant": part.clause == "exempts"
        and "tenant" in shown
        and bool(flag.exempt_tenants)
        and shown["tenant"] not in flag.exempt_tenants,
    }
    return [f"flag {part.key}: {what}" for what, broken in rules.items() if broken]
