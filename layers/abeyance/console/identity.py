"""The port of sign-in, and its adapters without a provider. OpenID Connect is in :mod:`abeyance.console.oidc`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final, Literal, Protocol

from msgspec import structs

from abeyance.console.errors import RequestRefused
from abeyance.console.roles import Person, Role
from abeyance.moratorium.tokens import MadeUpTokens

#: People to choose from on one machine: two reviewers and three policy officers, because guardrails take three.
LOCAL_PEOPLE: Final = (
    Person(principal="ada@local", name="Ada, reviewer", roles=(Role.REVIEWER,)),
    Person(principal="ben@local", name="Ben, reviewer", roles=(Role.REVIEWER,)),
    Person(principal="clara@local", name="Clara, policy officer", roles=(Role.OFFICER,)),
    Person(principal="david@local", name="David, policy officer", roles=(Role.OFFICER,)),
    Person(principal="erin@local", name="Erin, policy officer", roles=(Role.OFFICER,)),
    Person(principal="edda@local", name="Edda, auditor", roles=(Role.AUDITOR,)),
)
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1"})
_LOOPBACK_NAMES: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})


class IdentityProvider(Protocol):
    """The way in which people sign in."""

    @property
    def kind(self) -> Literal["picker", "redirect", "closed"]:
        """``picker``: choose on the page. ``redirect``: go to a provider and come back. ``closed``: nobody signs in."""
        ...

    @property
    def secure(self) -> bool:
        """True if the session cookie is sent over HTTPS only."""
        ...

    def guard(self, address: str, host: str) -> None:
        """Check the client address and host name of every request. Raises :class:`RequestRefused`."""
        ...

    def begin(self) -> tuple[str, Mapping[str, str]]:
        """Return the address to send the browser to, and what the session must remember until it comes back."""
        ...

    def finish(self, returned: Mapping[str, str], remembered: Mapping[str, str]) -> Person:
        """Return the person, from the browser's answer and the session's memory. Raises :class:`RequestRefused`."""
        ...


class SignInDisabled:
    """A console without an identity provider: nobody signs in. This is the default of a deployment."""

    kind: Literal["closed"] = "closed"
    secure = True

    def guard(self, address: str, host: str) -> None:
        """Accept every request: anybody may read that sign-in is disabled."""

    def begin(self) -> tuple[str, Mapping[str, str]]:
        raise RequestRefused("No identity provider is set up for this console.")

    def finish(self, returned: Mapping[str, str], remembered: Mapping[str, str]) -> Person:
        raise RequestRefused("No identity provider is set up for this console.")


class LoopbackPicker:
    """A choice of local people, for requests from this machine only. Nobody's identity is verified.

    The host name of the request is checked too: otherwise a foreign page could let its own name point to 127.0.0.1 and
    read the console. ``key`` signs the sign-ins for the change service of the same run; see
    :class:`~abeyance.moratorium.tokens.MadeUpTokens`.
    """

    kind: Literal["picker"] = "picker"
    secure = False

    def __init__(self, key: str = "") -> None:
        self._key = key

    def guard(self, address: str, host: str) -> None:
        name = host.rpartition(":")[0] if ":" in host.rpartition("]")[2] else host
        if address not in _LOOPBACK or name.lower() not in _LOOPBACK_NAMES:
            raise RequestRefused("This console accepts requests from its own machine only.")

    def begin(self) -> tuple[str, Mapping[str, str]]:
        raise RequestRefused("Choose a person on the sign-in page.")

    def finish(self, returned: Mapping[str, str], remembered: Mapping[str, str]) -> Person:
        for person in LOCAL_PEOPLE:
            if person.principal == returned.get("person"):
                return structs.replace(person, token=self._token(person)) if self._key else person
        raise RequestRefused("There is no person with this name.")

    def _token(self, person: Person) -> str:
        return MadeUpTokens(self._key).make(person.principal, tuple(map(str, person.roles)), time.time())


def identity_provider(setting: str, client_secret: Callable[[], str]) -> IdentityProvider:
    """Return the provider that ``ABEYANCE_CONSOLE_IDENTITY`` names; raises ``ValueError`` for any other text.

    ``client_secret`` is called when somebody signs in with OpenID Connect.
    """
    kind, _, rest = setting.partition(":")
    if kind == "nobody":
        return SignInDisabled()
    if kind == "loopback":
        return LoopbackPicker(rest)
    if kind == "oidc" and len(words := rest.split()) == 3:
        from abeyance.console.oidc import OpenIdConnect

        return OpenIdConnect(*words, client_secret=client_secret)
    raise ValueError(
        "Set ABEYANCE_CONSOLE_IDENTITY to nobody, loopback[:<key>], or oidc:<issuer> <client id> <console>"
    )
