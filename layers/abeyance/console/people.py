"""Who is at the console, and what each of the three roles may do. Nobody has a right that is not listed here."""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType

import msgspec


class Role(StrEnum):
    """One person may have several; the roles of a session come from the identity provider."""

    REVIEWER = "reviewer"
    OFFICER = "policy_officer"
    AUDITOR = "auditor"


class Right(StrEnum):
    """What can be done. A page needs one of them, and so does every form on it."""

    #: Claim comparisons, see their two pictures, judge them.
    JUDGE = "judge"
    #: See how the queue stands and how judged reviews came out, without pictures.
    OVERSEE_REVIEW = "oversee_review"
    #: See moratoria, the timeline and proposals; have a request explained; simulate.
    READ_POLICY = "read_policy"
    #: Propose, approve, withdraw, tighten.
    CHANGE_POLICY = "change_policy"
    #: Search, verify, prove and export the ledger.
    READ_LEDGER = "read_ledger"
    #: See which collections there are, and how large.
    READ_GALLERIES = "read_galleries"
    #: Erase a person.
    ERASE = "erase"


RIGHTS = MappingProxyType(
    {
        Role.REVIEWER: frozenset({Right.JUDGE}),
        Role.OFFICER: frozenset(
            {Right.READ_POLICY, Right.CHANGE_POLICY, Right.READ_GALLERIES, Right.ERASE, Right.OVERSEE_REVIEW}
        ),
        Role.AUDITOR: frozenset(
            {Right.READ_POLICY, Right.READ_LEDGER, Right.READ_GALLERIES, Right.OVERSEE_REVIEW}
        ),
    }
)


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who signed in.

    Attributes
    ----------
    principal
        What tells two people apart, for good: of an OIDC provider,
        ``<subject>@<issuer host>``. It has the form of a canonical principal of :mod:`abeyance.moratorium.tenants`.
    name
        For the page's head alone.
    """

    principal: str
    name: str
    roles: tuple[Role, ...]

    def may(self, right: Right) -> bool:
        """Whether one of the roles has the right."""
        return any(right in RIGHTS[role] for role in self.roles)
