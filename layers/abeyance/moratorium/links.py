"""The people who change what is halted, each with all principals that are theirs.

One human may be an IAM principal and a subject of an identity provider. Two principals count as two people only if
they are linked to two people; a principal that is linked to nobody proposes and approves nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct


class LinkedPerson(Struct, frozen=True, kw_only=True):
    """One human being.

    Raises ``ValueError`` on construction if it has no name, or no principal, or one twice.

    Attributes
    ----------
    name : str
        Unique; for people to read.
    principals : tuple of str
        Canonical IAM principals, and subjects of identity providers as their sign-in spells them.
    """

    name: str
    principals: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.name or not self.principals or len(set(self.principals)) != len(self.principals):
            raise ValueError("a person has a name, and one or more principals without repetitions")


class PrincipalLinks:
    """Everybody who may change something; raises ``ValueError`` if a name or a principal occurs twice."""

    def __init__(self, people: Iterable[LinkedPerson] = ()) -> None:
        self._names: dict[str, str] = {}
        names = set()
        for person in people:
            if person.name in names or not self._names.keys().isdisjoint(person.principals):
                raise ValueError("a name or a principal is linked twice; keep one link")
            names.add(person.name)
            self._names.update(dict.fromkeys(person.principals, person.name))

    def name_of(self, principal: str) -> str | None:
        """Return the name of a principal's person; ``None`` if it is linked to nobody."""
        return self._names.get(principal)

    def principals(self) -> frozenset[str]:
        """Return every linked principal."""
        return frozenset(self._names)

    def are_two(self, one: str, other: str) -> bool:
        """Return whether two principals are two people, both known."""
        first, second = self.name_of(one), self.name_of(other)
        return first is not None and second is not None and first != second
