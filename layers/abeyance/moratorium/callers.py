"""The caller of the change service: who it is follows from a verified signature, never from what the request says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, Protocol

from msgspec import Struct

from abeyance.moratorium.errors import MoratoriumError
from abeyance.moratorium.principals import NotAPerson, person_principal
from abeyance.moratorium.tokens import IdTokens, MadeUpTokens, TokenRefused, role_words

#: Header with a user's ID token, which the console passes on.
TOKEN_HEADER: Final = "x-abeyance-token"  # noqa: S105 - its name
#: The role that an identity provider has to give to whoever changes anything.
OFFICER: Final = "policy_officer"
_plain = re.compile(r"[A-Za-z0-9_+=,.@-]{1,128}")


class Unauthenticated(MoratoriumError):
    """A request of which nobody can say who sent it."""


class Caller(Struct, frozen=True, kw_only=True):
    """A verified caller.

    Attributes
    ----------
    principal
        An ARN, or ``<subject>@<issuer host>``.
    way
        ``iam``: API Gateway verified the signature. ``oidc``: this service verified a token. ``made-up``: nobody did.
    """

    principal: str
    way: Literal["iam", "oidc", "made-up"]


class Tokens(Protocol):
    """The port of tokens; :class:`~abeyance.moratorium.tokens.IdTokens` is its adapter."""

    def claims(self, token: str, /) -> Mapping[str, Any]:
        """Return the claims of a valid token; raises ``MoratoriumError``."""
        ...

    def principal(self, claims: Mapping[str, Any], /) -> str:
        """Return the principal that the claims name."""
        ...


class SignIn:
    """The ways to be somebody at the change service.

    Parameters
    ----------
    person_roles
        See :func:`~abeyance.moratorium.principals.person_principal`.
    tokens
        ``None`` where no identity provider is set up.
    """

    def __init__(self, person_roles: Iterable[str] = (), tokens: Tokens | None = None) -> None:
        self._person_roles = tuple(person_roles)
        self._tokens = tokens
        self._made_up = isinstance(tokens, MadeUpTokens)

    @staticmethod
    def require_signature(event: Mapping[str, Any]) -> None:
        """Raise :class:`Unauthenticated` for a request that nobody signed: what only reads needs no person."""
        if not _signer(event):
            raise Unauthenticated("sign the request with your AWS credentials")

    def caller(self, event: Mapping[str, Any]) -> Caller:
        """Return who sent a proxy event of API Gateway or of a function URL, both with AWS_IAM.

        A request with a token is its user's: who passes it on does not count. A token that does not hold is never
        made good by the signature of the request.

        Raises
        ------
        Unauthenticated, NotAPerson, MoratoriumError
            With what to do.
        """
        self.require_signature(event)
        signer = _signer(event)
        headers = {str(name).lower(): value for name, value in (event.get("headers") or {}).items()}
        token = headers.get(TOKEN_HEADER)
        if token is not None:
            return self._bearer(str(token))
        if self._made_up:
            if not _plain.fullmatch(signer):
                raise NotAPerson("on one machine a caller is named by an access key id")
            return Caller(principal=signer, way="made-up")
        return Caller(principal=person_principal(signer, self._person_roles), way="iam")

    def _bearer(self, token: str) -> Caller:
        if self._tokens is None:
            raise Unauthenticated("no identity provider is set up; sign with your AWS credentials")
        claims = self._tokens.claims(token)
        if OFFICER not in role_words(claims):
            raise TokenRefused(f"changes need the role {OFFICER}")
        return Caller(principal=self._tokens.principal(claims), way="made-up" if self._made_up else "oidc")


def sign_in_from(setting: str, person_roles: Iterable[str] = ()) -> SignIn:
    """Return the sign-in that ``ABEYANCE_SIGN_IN`` names: ``iam``, ``oidc:<issuer> <client id>``, ``made-up:<key>``.

    Signatures of IAM count with each. Raises ``ValueError`` for any other text.
    """
    kind, _, rest = setting.partition(":")
    if setting == "iam":
        return SignIn(person_roles)
    if kind == "made-up" and rest:
        return SignIn(person_roles, MadeUpTokens(rest))
    if kind == "oidc" and len(words := rest.split()) == 2:
        return SignIn(person_roles, IdTokens(*words))
    raise ValueError("ABEYANCE_SIGN_IN is iam, oidc:<issuer> <client id>, or made-up:<key>")


def _signer(event: Mapping[str, Any]) -> str:
    """Return the ARN that API Gateway (REST API) or a function URL states of the signature; empty without one."""
    context = event.get("requestContext") or {}
    found = (context.get("identity") or {}).get("userArn") or (
        ((context.get("authorizer") or {}).get("iam") or {}).get("userArn")
    )
    return found if isinstance(found, str) else ""
