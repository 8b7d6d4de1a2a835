"""Roles, their rights, and the person who is signed in. Nobody has a right that is not listed here."""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType

import msgspec


class Role(StrEnum):
    """A role from the identity provider; one person may have several."""

    REVIEWER = "reviewer"
    OFFICER = "policy_officer"
    AUDITOR = "auditor"


class Right(StrEnum):
    """A permission; every page and every form requires one."""

    #: Claim comparisons, see their two pictures, judge them.
    JUDGE = "judge"
    #: See the queue and the outcomes of reviews, without pictures.
    OVERSEE_REVIEW = "oversee_review"
    #: See moratoria, the timeline and proposals; explain a request; simulate.
    READ_POLICY = "read_policy"
    #: Propose, approve, withdraw, tighten.
    CHANGE_POLICY = "change_policy"
    #: Search, verify, prove and export the ledger.
    READ_LEDGER = "read_ledger"
    #: See collections and their sizes.
    READ_GALLERIES = "read_galleries"
    #: Erase a person.
    ERASE = "erase"
    #: See a user's faces side by side, merge and split users, say who is not whom, list what to look at.
    CURATE = "curate"


RIGHTS = MappingProxyType(
    {
        Role.REVIEWER: frozenset({Right.JUDGE}),
        Role.OFFICER: frozenset(
            {
                *(Right.READ_POLICY, Right.CHANGE_POLICY, Right.READ_GALLERIES),
                *(Right.ERASE, Right.CURATE, Right.OVERSEE_REVIEW),
            }
        ),
        Role.AUDITOR: frozenset(
            {Right.READ_POLICY, Right.READ_LEDGER, Right.READ_GALLERIES, Right.OVERSEE_REVIEW}
        ),
    }
)


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """A signed-in person.

    Attributes
    ----------
    principal
        The permanent identity: ``<subject>@<issuer host>`` with OpenID Connect. It has the form of a canonical
        principal of :mod:`abeyance.moratorium.tenants`.
    name
        Shown at the top of the page and used nowhere else.
    token
        The ID token of the sign-in, which the change service verifies again; empty without one.
    """

    principal: str
    name: str
    roles: tuple[Role, ...]
    token: str = ""

    def may(self, right: Right) -> bool:
        """Return whether one of the roles has the right."""
        return any(right in RIGHTS[role] for role in self.roles)
