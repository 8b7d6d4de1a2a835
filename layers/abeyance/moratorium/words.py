"""Decisions and flags in words, for people who are halted by them and people who answer for them."""

from __future__ import annotations

from datetime import datetime

from abeyance.moratorium.decide import Clause, Decision
from abeyance.moratorium.document import Flag, FlagSet
from abeyance.moratorium.model import Effect, Part


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
    if part is Part.EXEMPTS:
        whom = " and ".join(flag.exempt_tenants) if flag.exempt_tenants else "anybody"
        purposes = " or ".join(_spoken(purpose) for purpose in flag.exempt_purposes)
        end = "" if flag.exempt_until is None else f", until {_day(flag.exempt_until)}"
        return f"would bind it, but exempts {whom} for {purposes}{end}"
    terms = []
    if flag.min_similarity is not None:
        terms.append(f"similarity of at least {flag.min_similarity:g}")
    if flag.human_review:
        terms.append(f"review by {flag.human_review}")
    return f"restricts it ({', '.join(terms)})"


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
