"""The bounds of a halt that the latest audit of the deployed model lifts, as a flag has them."""

from __future__ import annotations

from datetime import timedelta

from msgspec import UNSET, Struct

from abeyance.moratorium.model import Effect, FlagValue
from abeyance.moratorium.vocabulary import is_signer_key


class AuditBounds(Struct, frozen=True, kw_only=True):
    """The bounds of a halt that the latest audit of the deployed model lifts.

    Attributes
    ----------
    max_age : timedelta
        Age from which on an audit lifts nothing.
    signers : tuple of str
        Public keys, of which one must have signed it.
    similarity : float
        The similarity, 0 to 100, at which the bounds are compared.
    max_fmr, max_fmr_ratio, min_accuracy : float or None
        Highest FMR of a group, highest ratio of two groups' FMRs, and lowest accuracy (1 - FNMR) in a group.
    """

    max_age: timedelta
    signers: tuple[str, ...]
    similarity: float
    max_fmr: float | None = None
    max_fmr_ratio: float | None = None
    min_accuracy: float | None = None


def audit_bounds(value: FlagValue) -> AuditBounds | None:
    """Return the bounds of a flag; ``None`` for one that is bound to no audit.

    Raises ``ValueError`` if they contradict each other or the flag.
    """
    given = {
        name: found
        for name in ("max_age_days", "signers", "similarity", "max_fmr", "max_fmr_ratio", "min_accuracy")
        if (found := getattr(value, f"audit_{name}")) is not UNSET
    }
    if not given:
        return None
    if value.effect is not Effect.HALT or not {"max_age_days", "signers", "similarity"} <= given.keys():
        raise ValueError(
            "a halt bound to an audit needs audit_max_age_days, audit_signers and audit_similarity"
        )
    if not all(map(is_signer_key, given["signers"])):
        raise ValueError("audit_signers are public keys, from: abeyance audit keygen")
    return AuditBounds(
        max_age=timedelta(days=given.pop("max_age_days")),
        signers=tuple(given.pop("signers")),
        **{name: float(found) for name, found in given.items()},
    )
