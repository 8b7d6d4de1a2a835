"""OpenID Connect, authorization code flow with PKCE (RFC 7636), for any provider.

:mod:`abeyance.moratorium.tokens` verifies the ID token; state and nonce are compared here (OpenID Connect Core 1.0,
section 3.1.3.7).
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import ssl
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal

from abeyance.console.errors import RequestRefused, Unavailable
from abeyance.console.roles import Person, Role
from abeyance.encoding import encode_base64
from abeyance.moratorium.tokens import IdTokens, ProviderUnavailable, TokenRefused, role_words

_NOT_FOR_THIS_SIGN_IN: Final = "The identity provider's answer is not for this sign-in. Sign in again."


class OpenIdConnect:
    """:class:`~abeyance.console.identity.IdentityProvider` through OpenID Connect.

    Parameters
    ----------
    issuer
        ``https://…``; its discovery document is read at the first sign-in.
    client_id, client_secret
        As registered with the provider. The secret is read when somebody comes back from the provider; it is empty for
        a public client.
    console
        Address of the console, ``https://…/console``; people come back to ``<console>/signin/callback``.
    context
        TLS settings for a provider with a certificate of a private authority.
    """

    kind: Literal["redirect"] = "redirect"
    secure = True

    def __init__(
        self,
        issuer: str,
        client_id: str,
        console: str,
        *,
        client_secret: Callable[[], str] = str,
        context: ssl.SSLContext | None = None,
    ) -> None:
        if not console.startswith("https://"):
            raise ValueError("issuer and console must be https:// addresses")
        self._tokens = IdTokens(issuer, client_id, context=context)
        self._client_id = client_id
        self._client_secret = client_secret
        self._callback = f"{console.rstrip('/')}/signin/callback"

    def guard(self, address: str, host: str) -> None:
        """Accept every request: anybody may come and sign in."""

    def begin(self) -> tuple[str, Mapping[str, str]]:
        """Return the provider's address with a new state, nonce and code challenge, and what to remember."""
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        challenge = encode_base64(hashlib.sha256(verifier.encode()).digest(), url=True)
        query = urllib.parse.urlencode(
            {
                "response_type": "code",
                "client_id": self._client_id,
                "redirect_uri": self._callback,
                "scope": "openid profile",
                "state": state,
                "nonce": nonce,
                "code_challenge": challenge,
                "code_challenge_method": "S256",
            }
        )
        with _as_console_errors():
            address = self._tokens.endpoint("authorization_endpoint")
        separator = "&" if "?" in address else "?"
        return f"{address}{separator}{query}", {"state": state, "nonce": nonce, "verifier": verifier}

    def finish(self, returned: Mapping[str, str], remembered: Mapping[str, str]) -> Person:
        """Exchange the code for an ID token, verify it, and return the person.

        Raises :class:`RequestRefused`, and :class:`Unavailable` if the provider does not answer.
        """
        state = remembered.get("state", "")
        if not state or not secrets.compare_digest(state.encode(), returned.get("state", "").encode()):
            raise RequestRefused("This sign-in was not started here, or it took too long. Sign in again.")
        if not returned.get("code"):
            raise RequestRefused("The identity provider did not let you in.")
        form = {
            "grant_type": "authorization_code",
            "code": returned["code"],
            "redirect_uri": self._callback,
            "client_id": self._client_id,
            "code_verifier": remembered.get("verifier", ""),
        }
        if secret := self._client_secret():
            form["client_secret"] = secret
        with _as_console_errors():
            answer = self._tokens.fetch(self._tokens.endpoint("token_endpoint"), form)
        token = answer.get("id_token") if isinstance(answer, dict) else None
        if not isinstance(token, str):
            raise RequestRefused("The identity provider sent no ID token. Sign in again.")
        return self._person(self._verified_claims(token, remembered.get("nonce", "")), token)

    def _verified_claims(self, token: str, nonce: str) -> Mapping[str, Any]:
        with _as_console_errors():
            claims = self._tokens.claims(token)
        if not nonce or not secrets.compare_digest(nonce.encode(), str(claims["nonce"]).encode()):
            raise RequestRefused(_NOT_FOR_THIS_SIGN_IN)
        return claims

    def _person(self, claims: Mapping[str, Any], token: str) -> Person:
        roles = roles_of(claims)
        if not roles:
            raise RequestRefused(
                "You have no role at this console. Ask for reviewer, policy_officer or auditor."
            )
        name = claims.get("name")
        return Person(
            principal=self._tokens.principal(claims),
            name=name if isinstance(name, str) else "Signed in",
            roles=roles,
            token=token if Role.OFFICER in roles else "",
        )


@contextlib.contextmanager
def _as_console_errors() -> Iterator[None]:
    try:
        yield
    except ProviderUnavailable as error:
        raise Unavailable(f"{str(error)[:1].upper()}{str(error)[1:]}.") from None
    except TokenRefused:
        raise RequestRefused(_NOT_FOR_THIS_SIGN_IN) from None


def roles_of(claims: Mapping[str, Any]) -> tuple[Role, ...]:
    """Return the roles in any claim that may hold them; words that are no role are ignored."""
    words = role_words(claims)
    return tuple(role for role in Role if str(role) in words)
