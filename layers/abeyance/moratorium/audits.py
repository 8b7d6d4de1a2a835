"""Audits of bias: signed statements of the error rates of a model by group, and the bounds that a flag sets for them.

A statement is JSON in a signed note (C2SP signed-note), made by ``abeyance audit demographics --sign``. The change
service verifies its signatures when it is registered; a decision carries what it needs of it, and its digest.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from abeyance.aws.timestamps import later
from abeyance.moratorium.audit_bounds import AuditBounds
from abeyance.moratorium.document import instant, instant_text
from abeyance.moratorium.model import Instant, Text

#: The form of statements that this code reads.
FORMAT: Final = "abeyance-audit-1"
Share = Annotated[float, Meta(ge=0, le=1)]


class GroupFigure(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An error rate of one group.

    Attributes
    ----------
    group, attributes
        The group's name, and the attributes that make it, such as race and gender.
    value, limit : float
        The rate measured, and the end of its interval at 95 % confidence that counts against the model.
    errors, pairs, people : int
        The pairs judged wrongly, all pairs, and the people that these come from.
    """

    group: str
    attributes: tuple[str, ...]
    value: Share
    limit: Share
    errors: int
    pairs: int
    people: int


class AuditedThreshold(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The bounds of a model at one similarity, 0 to 100.

    Attributes
    ----------
    worst_fmr : GroupFigure or None
        The group whose FMR may be highest: its limit is the upper one. ``None`` without strangers in any group.
    fmr_ratio : float or None
        The highest FMR of a grouping's groups over the lowest, of all groupings; ``None`` if fewer than two groups of
        every grouping have errors enough to judge.
    ratio_groups, ratio_left_out : int
        The groups that were judged for it, and those that have too few errors.
    lowest_accuracy : GroupFigure or None
        The group in which the fewest mated pairs may match, as 1 - FNMR: its limit is the lower one. ``None`` without
        mated pairs.
    """

    similarity: Annotated[float, Meta(ge=0, le=100)]
    worst_fmr: GroupFigure | None
    fmr_ratio: float | None
    ratio_groups: int
    ratio_left_out: int
    lowest_accuracy: GroupFigure | None


class AuditStatement(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The statement that is signed.

    Attributes
    ----------
    model : str
        Identity of the model: its name, and the hash of its weights.
    measured : str
        When it was measured, UTC.
    strangers, mated : str
        Names of the data; ``mated`` is empty without mated pairs.
    report : str
        SHA-256 (64 hex digits) of the whole report as JSON.
    """

    format: Literal["abeyance-audit-1"]
    model: Text
    measured: Instant
    strangers: str
    mated: str
    report: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    thresholds: tuple[AuditedThreshold, ...]

    def facts(self, digest: str, signers: tuple[str, ...]) -> AuditFacts:
        """Return what a decision needs of it; ``signers`` are the keys whose signatures under it are good."""
        return AuditFacts(
            digest=digest,
            model=self.model,
            measured=self.measured,
            signers=signers,
            rates=tuple(
                AuditRates(
                    similarity=one.similarity,
                    fmr=None if one.worst_fmr is None else one.worst_fmr.limit,
                    fmr_ratio=one.fmr_ratio,
                    accuracy=None if one.lowest_accuracy is None else one.lowest_accuracy.limit,
                )
                for one in self.thresholds
            ),
        )


class AuditRates(Struct, frozen=True, kw_only=True):
    """The figures that are compared with bounds, at one similarity; ``None`` for one that was not measured."""

    similarity: float
    fmr: float | None = None
    fmr_ratio: float | None = None
    accuracy: float | None = None


class AuditFacts(Struct, frozen=True, kw_only=True):
    """The part of a registered audit that a decision rests on.

    Attributes
    ----------
    digest : str
        SHA-256 (64 hex digits) of the signed note, which is on the ledger.
    model, measured
        As in the statement.
    signers : tuple of str
        Public keys whose signatures were verified when it was registered.
    """

    digest: str
    model: str
    measured: str
    signers: tuple[str, ...]
    rates: tuple[AuditRates, ...] = ()


class AuditUse(Struct, frozen=True, kw_only=True):
    """The deployed model, and its latest audit; ``None`` if there is none."""

    model: str
    facts: AuditFacts | None = None


def shortfall(bounds: AuditBounds, use: AuditUse, as_of: datetime) -> str:
    """Return why the latest audit does not lift a halt at ``as_of`` (aware), in words; empty if it does."""
    facts = use.facts
    if not use.model or facts is None or facts.model != use.model:
        return "There is no audit of the deployed model."
    if not set(facts.signers) & set(bounds.signers):
        return "The audit of the deployed model is not signed by anybody whom this asks for."
    measured = instant(facts.measured)
    if not measured <= as_of < later(measured, bounds.max_age):
        return f"The audit of the deployed model is older than {bounds.max_age / timedelta(days=1):g} days."
    rates = next((one for one in facts.rates if one.similarity == bounds.similarity), None)
    if rates is None:
        return f"The audit of the deployed model says nothing about a similarity of {bounds.similarity:g}."
    for name, found, bound, ok in (
        ("highest false-match rate of a group", rates.fmr, bounds.max_fmr, _at_most),
        ("ratio of the groups' false-match rates", rates.fmr_ratio, bounds.max_fmr_ratio, _at_most),
        ("lowest accuracy in a group", rates.accuracy, bounds.min_accuracy, _at_least),
    ):
        if bound is not None and (found is None or not ok(found, bound)):
            measured_text = "not measured" if found is None else f"{found:.3g}"
            return f"The {name} is {measured_text}; the bound is {bound:g}."
    return ""


def example_audit(bounds: Iterable[AuditBounds], as_of: datetime) -> AuditUse:
    """Return an audit that would keep within all these bounds at ``as_of``, if somebody measured and signed it."""
    bounds = list(bounds)
    facts = AuditFacts(
        digest="",
        model="example",
        measured=instant_text(as_of.replace(microsecond=0)),
        signers=tuple(sorted({signer for one in bounds for signer in one.signers})),
        rates=tuple(
            AuditRates(similarity=similarity, fmr=0.0, fmr_ratio=1.0, accuracy=1.0)
            for similarity in sorted({one.similarity for one in bounds})
        ),
    )
    return AuditUse(model="example", facts=facts)


def _at_most(found: float, bound: float) -> bool:
    return found <= bound


def _at_least(found: float, bound: float) -> bool:
    return found >= bound
