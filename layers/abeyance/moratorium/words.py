"""Decisions and flags in words, for people who are halted by them and people who answer for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from abeyance.moratorium.decide import Clause, Decision
from abeyance.moratorium.document import Flag, FlagSet
from abeyance.moratorium.model import Effect, Part
from abeyance.moratorium.proofs import Counterexample, Region, RegionKind
from abeyance.moratorium.regions import Names
from abeyance.moratorium.vocabulary import ACTIONS, SECTORS


def explain(decision: Decision, flags: FlagSet) -> list[str]:
    """Return a decision as sentences: the answer, what it rests on flag by flag, and when that might change.

    Parameters
    ----------
    decision : Decision
    flags : FlagSet
        The flags that it was made with.
    """
    return [_answer(decision), *_grounds(decision, flags), *_outlook(decision, flags)]


def binds(flag: Flag) -> str:
    """Return the actions, sectors and places that a flag binds, in words."""
    actions = "everything" if flag.actions is None else ", ".join(sorted(flag.actions))
    sectors = (
        "everyone" if flag.sectors is None else ", ".join(_spoken(word) for word in sorted(flag.sectors))
    )
    places = "everywhere" if flag.jurisdictions is None else "in " + ", ".join(flag.jurisdictions)
    return f"{actions} by {sectors} {places}"


def counterexample(found: Counterexample) -> list[str]:
    """Return a counterexample as sentences: everybody of whom it is true, then one of them as an example."""
    verb = "may" if found.decision.permitted else "may not"
    return [
        f"{_among(found.tenants, 'tenant')} of the sector {_spoken(found.sector)}, registered {_where(found.places)}, "
        f"{verb} {_spoken(found.action)} for {_among(found.purposes, 'purpose').lower()}"
        f"{_stretch(found.since, found.until)}.",
        f"For example: {_answer(found.decision)}",
    ]


def region(found: Region) -> str:
    """Return a region as a phrase: who, what, where, what for, when, and on what terms."""
    sectors = "every sector" if len(found.sectors) == len(SECTORS) else _list(found.sectors)
    actions = "everything" if len(found.actions) == len(ACTIONS) else _list(found.actions)
    terms = _terms(found.similarity, found.reviewers, found.authorization, found.audit)
    return (
        f"{actions} by {sectors} {_wherever(found.places)}: "
        f"{_among(found.tenants, 'tenant').lower()}, for {_among(found.purposes, 'purpose').lower()}"
        f"{_stretch(found.since, found.until)}" + (f", {_TERMS[found.kind]} {terms}" if terms else "")
    )


def state(flag: Flag, as_of: datetime) -> str:
    """``in force``, ``held``, ``not yet`` or ``ended``."""
    if as_of < flag.starts:
        return "not yet"
    if not flag.in_force(as_of):
        return "ended"
    return "held" if flag.ends is not None and flag.ends <= as_of else "in force"


def until(flag: Flag) -> str:
    """``2021-06-10``, ``2021-06-10, then held`` or ``further notice``."""
    if flag.ends is None:
        return "further notice"
    return _day(flag.ends) + (", then held" if flag.hold else "")


_TERMS: Final = {
    RegionKind.PERMITTED: "with at least",
    RegionKind.NEWLY_PERMITTED: "with at least",
    RegionKind.NEWLY_DENIED: "with at least",
    RegionKind.LESS_RESTRICTED: "no longer with",
    RegionKind.MORE_RESTRICTED: "now with",
}


def _among(names: Names, kind: str) -> str:
    spoken = " or ".join(_spoken(name) if kind == "purpose" else name for name in sorted(names.named))
    if not names.all_but:
        return spoken
    return f"Any {kind} but {spoken}" if spoken else f"Any {kind}"


def _list(words: Iterable[str]) -> str:
    return ", ".join(map(_spoken, words))


def _where(places: str) -> str:
    return places if places.startswith(("anywhere", "elsewhere")) else f"in {places}"


def _wherever(places: Sequence[str]) -> str:
    if places[0] == "anywhere but":
        return f"anywhere but {_wherever(places[1:])}"
    codes = [place for place in places if not place.startswith(("anywhere", "elsewhere"))]
    rest = [place for place in places if place not in codes]
    return ", ".join([f"in {', '.join(codes)}", *rest] if codes else rest)


def _stretch(since: str, until: str) -> str:
    start = f" from {since.removesuffix('T00:00:00Z')}" if since else ""
    end = f" until {until.removesuffix('T00:00:00Z')}" if until else " on" if since else ""
    return start + end or " at any time"


def _terms(similarity: float | None, reviewers: int, authorization: bool = False, audit: bool = False) -> str:
    terms = [] if similarity is None else [f"similarity of at least {similarity:g}"]
    if reviewers:
        terms.append(f"review by {reviewers}")
    if authorization:
        terms.append("an authorisation")
    if audit:
        terms.append("an audit within bounds")
    return ", ".join(terms)


def _spoken(word: str) -> str:
    return word.replace("_", " ")


def _day(moment: datetime) -> str:
    text = moment.isoformat()
    return text[:10] if text[11:19] == "00:00:00" else text.replace("+00:00", "Z")


def _answer(decision: Decision) -> str:
    who = decision.tenant or "Somebody who is not registered"
    if decision.sector:
        who += f" ({_spoken(decision.sector)}, {decision.jurisdiction})"
    verb = "may" if decision.permitted else "may not"
    action = _spoken(decision.action) or "do that"
    purpose = f" for {_spoken(decision.purpose)}" if decision.purpose else ""
    day = decision.as_of.removesuffix("T00:00:00Z") if decision.as_of else "an unknown date"
    return f"{who} {verb} {action}{purpose} on {day}. {decision.reason}"


def _grounds(decision: Decision, flags: FlagSet) -> list[str]:
    if decision.clause is Clause.FAULT:
        return [f"No decision could be made ({decision.fault}); that is a denial."]
    if decision.clause is Clause.PERMITTED:
        return ["No moratorium that binds this tenant there is in force."]
    by_key = {flag.key: flag for flag in flags.flags}
    sentences = []
    for part in decision.flags:
        flag = by_key.get(part.key)
        if flag is None:
            continue
        sentences.append(
            f"{part.key} {_did(Part(part.clause), flag)}: it binds {binds(flag)}, "
            f"from {_day(flag.starts)} until {until(flag)}. Source: {part.source}."
        )
    return sentences


def _did(part: Part, flag: Flag) -> str:
    if part is Part.HALTS:
        return "halts it"
    if part is Part.HOLDS:
        return "still halts it, past its end, because it is held until somebody acts"
    if part is Part.AUDITED:
        return "would bind it, but the latest audit of the deployed model is within its bounds"
    if part is Part.NEEDS_AUTHORIZATION:
        return f"halts it; its exemption would cover {_exempted(flag)}"
    if part is Part.EXEMPTS:
        return f"would bind it, but exempts {_exempted(flag)}"
    return f"restricts it ({_terms(flag.min_similarity, flag.human_review)})"


def _exempted(flag: Flag) -> str:
    whom = " and ".join(flag.exempt_tenants) if flag.exempt_tenants else "anybody"
    purposes = " or ".join(_spoken(purpose) for purpose in flag.exempt_purposes)
    end = "" if flag.exempt_until is None else f", until {_day(flag.exempt_until)}"
    needed = ", each by an authorisation" if flag.authorization_required else ""
    return f"{whom} for {purposes}{end}{needed}"


def _outlook(decision: Decision, flags: FlagSet) -> list[str]:
    """Return when a halt ends by itself: only if every flag that halts has an end and is not held."""
    if decision.clause not in (Clause.HALTED, Clause.HELD):
        return []
    halting = {part.key for part in decision.flags if part.clause in (Part.HALTS, Part.HOLDS)}
    ends = []
    for flag in flags.flags:
        if flag.key in halting and flag.effect is Effect.HALT:
            if flag.ends is None or flag.hold:
                return ["It does not end by itself: two principals have to lift it."]
            ends.append(flag.ends)
    return [f"As the flags stand, nothing in force now halts it from {_day(max(ends))} on."] if ends else []
