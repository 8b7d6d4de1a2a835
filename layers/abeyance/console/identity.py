"""Who signs in: a port, with the picker of roles for one machine. OpenID Connect is in :mod:`abeyance.console.oidc`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, Protocol

from abeyance.console.errors import Refused
from abeyance.console.people import Person, Role

#: People to choose from on one machine: enough for two reviewers and two principals.
LOCAL_PEOPLE: Final = (
    Person(principal="ada@local", name="Ada, reviewer", roles=(Role.REVIEWER,)),
    Person(principal="ben@local", name="Ben, reviewer", roles=(Role.REVIEWER,)),
    Person(principal="clara@local", name="Clara, policy officer", roles=(Role.OFFICER,)),
    Person(principal="david@local", name="David, policy officer", roles=(Role.OFFICER,)),
    Person(principal="edda@local", name="Edda, auditor", roles=(Role.AUDITOR,)),
)
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1"})
_LOOPBACK_NAMES: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})


class Identity(Protocol):
    """How a person proves who they are."""

    @property
    def kind(self) -> Literal["picker", "redirect", "closed"]:
        """``picker``: choose on the page. ``redirect``: go to a provider and come back. ``closed``: nobody signs in."""
        ...

    @property
    def secure(self) -> bool:
        """Whether the session's cookie is for HTTPS alone."""
        ...

    def guard(self, address: str, host: str) -> None:
        """Called before every request. Raises :class:`Refused` if none may come from ``address`` under ``host``."""
        ...

    def begin(self) -> tuple[str, Mapping[str, str]]:
        """Where to send the browser, and what the session has to keep until it comes back."""
        ...

    def finish(self, given: Mapping[str, str], kept: Mapping[str, str]) -> Person:
        """The person, from what the browser brings and what the session kept. Raises :class:`Refused`."""
        ...


class Closed:
    """Nobody signs in: what a deployment has until somebody says otherwise."""

    kind: Literal["closed"] = "closed"
    secure = True

    def guard(self, address: str, host: str) -> None:
        """Anybody may read that it is closed."""

    def begin(self) -> tuple[str, Mapping[str, str]]:
        raise Refused("No identity provider is set up for this console.")

    def finish(self, given: Mapping[str, str], kept: Mapping[str, str]) -> Person:
        raise Refused("No identity provider is set up for this console.")


class LoopbackPicker:
    """Anybody at this machine is whom they say they are; nobody else gets in.

    The name that the browser used is checked too: else a page of somebody else's, whose name was made to point to
    127.0.0.1, could read this one.
    """

    kind: Literal["picker"] = "picker"
    secure = False

    def guard(self, address: str, host: str) -> None:
        name = host.rpartition(":")[0] if ":" in host.rpartition("]")[2] else host
        if address not in _LOOPBACK or name.lower() not in _LOOPBACK_NAMES:
            raise Refused("This console is open on its own machine only.")

    def begin(self) -> tuple[str, Mapping[str, str]]:
        raise Refused("Choose who you are on the page.")

    def finish(self, given: Mapping[str, str], kept: Mapping[str, str]) -> Person:
        for person in LOCAL_PEOPLE:
            if person.principal == given.get("person"):
                return person
        raise Refused("There is nobody of that name.")
