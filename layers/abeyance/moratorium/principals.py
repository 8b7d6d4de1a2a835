"""People and their principals: two principals of one human are one person, and one person never agrees twice.

A person is a name (``alice``) with the principals that it signs in by: IAM users, sessions of roles that name people,
subjects of an identity provider. All of it is one item of the change service's table, so that a transaction can require
that nobody was linked or unlinked since it was read.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

from abeyance.aws.table import PARTITION, SORT, Conflict, Item, Key, Put, Require, Table
from abeyance.moratorium.errors import MoratoriumError

#: The form of a person's name.
PERSON: Final = r"^[a-z0-9][a-z0-9._-]{0,62}$"
KEY: Final[Key] = ("principals", "links")
_person = re.compile(PERSON)
_principal = re.compile(r"[A-Za-z0-9_+=,.@/:-]{1,512}")
_user = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:user/.+")
_session = re.compile(r"arn:aws[a-z-]*:sts::[0-9]{12}:assumed-role/([^/]+)/[^/]+")


class NotAPerson(MoratoriumError):
    """A caller who may be anybody: a role whose sessions name nobody, the root user, a function."""


def person_principal(arn: str, person_roles: Iterable[str] = ()) -> str:
    """Return the principal of a person who signed with IAM.

    Parameters
    ----------
    arn
        The caller's ARN as API Gateway states it.
    person_roles
        Names of roles, with ``*`` as a wildcard, whose sessions are named after people: a trust policy pins
        ``sts:RoleSessionName``, or Identity Center made the role (``AWSReservedSSO_*``). The session is kept.

    Raises
    ------
    NotAPerson
        For the session of any other role, and for anything that is no user.
    """
    if _user.fullmatch(arn):
        return arn
    session = _session.fullmatch(arn)
    if session and any(fnmatch.fnmatchcase(session.group(1), role) for role in person_roles):
        return arn
    raise NotAPerson(
        "the caller is not one person: sign as an IAM user, or with a role whose sessions are named after people"
    )


class Links(Struct, frozen=True):
    """Which person each principal is. ``version`` counts the changes; 0 before the first ones are stored."""

    version: int
    people: Mapping[str, str]

    def person(self, principal: str) -> str:
        """Return the person; empty for a principal that nobody has."""
        return self.people.get(principal, "")

    def principals(self, person: str) -> tuple[str, ...]:
        """Return the principals of a person, sorted."""
        return tuple(sorted(one for one, own in self.people.items() if own == person))

    def linked(self, principal: str, person: str) -> Links:
        """Return the links with one more; raises ``ValueError`` on what is no principal or no person."""
        if not _principal.fullmatch(principal) or not _person.fullmatch(person):
            raise ValueError(
                "a person is lower-case letters, digits, '.', '_' and '-'; a principal has no blanks"
            )
        return Links(self.version + 1, {**self.people, principal: person})

    def unlinked(self, principal: str) -> Links:
        """Return the links without a principal."""
        return Links(self.version + 1, {one: own for one, own in self.people.items() if one != principal})


class Principals:
    """The links in the table.

    Parameters
    ----------
    table
        The change service's own.
    first
        Principal to person: the links of a deployment that has none yet. Later ones take two people.
    """

    def __init__(self, table: Table, first: Mapping[str, str]) -> None:
        links = Links(0, {})
        for principal, person in first.items():
            links = links.linked(principal, person)
        self._table = table
        self._first = Links(1, dict(links.people))

    def read(self) -> Links:
        """Return the links now; those of a new deployment are stored first."""
        item = self._table.get(KEY)
        if item is None:
            try:
                self._table.transact([Put(_item(self._first), absent=True)])
            except Conflict as conflict:
                if not any(conflict.failed):
                    raise
            item = self._table.get(KEY) or _item(self._first)
        people: Any = msgspec.json.decode(item["people"], type=dict[str, str])
        return Links(int(item["version"]), people)

    def replaced(self, links: Links) -> Put:
        """Return the operation that stores the links unless somebody else changed them."""
        return Put(_item(links), expect={"version": links.version - 1})

    def unchanged(self, links: Links) -> Require:
        """Return the condition that these are still the links."""
        return Require(KEY, {"version": links.version})


def _item(links: Links) -> Item:
    people = msgspec.json.encode(links.people, order="deterministic").decode()
    return {PARTITION: KEY[0], SORT: KEY[1], "version": links.version, "people": people}
