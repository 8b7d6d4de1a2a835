"""OpenID Connect, authorization code flow with PKCE (RFC 7636), for any provider.

PyJWT verifies the ID token: its signature by the provider's published keys, issuer, audience and times. State, nonce
and ``azp`` are compared here (OpenID Connect Core 1.0, section 3.1.3.7).
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import ssl
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

from abeyance.console.errors import RequestRefused, Unavailable
from abeyance.console.roles import Person, Role
from abeyance.encoding import decode_base64, encode_base64

if TYPE_CHECKING:
    from jwt import PyJWKClient

#: Claims that may hold the roles; ``cognito:groups`` is Cognito's.
ROLE_CLAIMS: Final = ("abeyance_roles", "cognito:groups", "groups", "roles")
#: Signatures by a private key only: with HS256 the published key would be the secret.
ALGORITHMS: Final = (
    *(f"{family}{bits}" for family in ("RS", "PS", "ES") for bits in (256, 384, 512)),
    "EdDSA",
)
#: Tolerated difference between two clocks.
LEEWAY_S: Final = 60
#: A key that the provider withdraws is accepted for at most this time; a new key at once.
KEYS_CACHED_S: Final = 300
_TIMEOUT_S: Final = 5
_MAX_BYTES: Final = 1 << 18
_PLAIN_SUBJECT: Final = re.compile(r"[A-Za-z0-9_+=,.@-]{1,128}")
_NOT_FOR_THIS_SIGN_IN: Final = "The identity provider's answer is not for this sign-in. Sign in again."
_NO_ANSWER: Final = "The identity provider does not answer. Try again."


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
        for address in (issuer, console):
            if not address.startswith("https://"):
                raise ValueError("issuer and console must be https:// addresses")
        self._issuer = issuer
        self._client_id = client_id
        self._client_secret = client_secret
        self._callback = f"{console.rstrip('/')}/signin/callback"
        self._context = context
        self._discovered: Mapping[str, Any] = {}
        self._published_keys: PyJWKClient | None = None

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
        address = self._endpoint("authorization_endpoint")
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
        answer = self._fetch(self._endpoint("token_endpoint"), form)
        token = answer.get("id_token") if isinstance(answer, dict) else None
        if not isinstance(token, str):
            raise RequestRefused("The identity provider sent no ID token. Sign in again.")
        return self._person(self._verified_claims(token, remembered.get("nonce", "")))

    def _verified_claims(self, token: str, nonce: str) -> Mapping[str, Any]:
        import jwt  # Here, because no other page needs it and its import delays a cold start.

        try:
            for part in token.split("."):
                decode_base64(part, url=True)  # PyJWT also accepts other spellings of the same bytes.
            claims: Mapping[str, Any] = jwt.decode(
                token,
                self._keys().get_signing_key_from_jwt(token).key,
                algorithms=ALGORITHMS,
                audience=self._client_id,
                issuer=self._issuer,
                leeway=LEEWAY_S,
                options={"require": ["iss", "aud", "sub", "iat", "exp", "nonce"]},
            )
        except (jwt.PyJWKClientConnectionError, OSError):
            raise Unavailable(_NO_ANSWER) from None
        except (jwt.PyJWTError, ValueError):
            raise RequestRefused(_NOT_FOR_THIS_SIGN_IN) from None
        audience_is_ours = claims["aud"] in (self._client_id, [self._client_id])
        if (
            not nonce
            or not secrets.compare_digest(nonce.encode(), str(claims["nonce"]).encode())
            or not (audience_is_ours or claims.get("azp") == self._client_id)
            or not claims["sub"]
        ):
            raise RequestRefused(_NOT_FOR_THIS_SIGN_IN)
        return claims

    def _person(self, claims: Mapping[str, Any]) -> Person:
        roles = roles_of(claims)
        if not roles:
            raise RequestRefused(
                "You have no role at this console. Ask for reviewer, policy_officer or auditor."
            )
        host = urllib.parse.urlsplit(self._issuer).netloc
        name = claims.get("name")
        return Person(
            principal=f"{_plain(claims['sub'])}@{host}",
            name=name if isinstance(name, str) else "Signed in",
            roles=roles,
        )

    def _keys(self) -> PyJWKClient:
        """Return the provider's keys: cached, and read again for a token signed by an unknown one."""
        if self._published_keys is None:
            from jwt import PyJWKClient

            self._published_keys = PyJWKClient(
                self._endpoint("jwks_uri"),
                lifespan=KEYS_CACHED_S,
                # No pause between two reads: the token that asks for a new key comes from the provider itself.
                cooldown_duration=0,
                timeout=_TIMEOUT_S,
                ssl_context=self._context,
            )
        return self._published_keys

    def _endpoint(self, name: str) -> str:
        if not self._discovered:
            found = self._fetch(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
            if not isinstance(found, dict) or found.get("issuer") != self._issuer:
                raise Unavailable("The identity provider's discovery document names another issuer.")
            self._discovered = found
        address = self._discovered.get(name)
        if not isinstance(address, str) or not address.startswith("https://"):
            raise Unavailable(f"The identity provider's discovery document has no {name} with https://.")
        return address

    def _fetch(self, address: str, form: Mapping[str, str] | None = None) -> Any:
        """GET JSON from an https:// address, or POST a form to it."""
        data = None if form is None else urllib.parse.urlencode(form).encode()
        request = urllib.request.Request(address, data, {"Accept": "application/json"})  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S, context=self._context) as answer:  # noqa: S310
                return json.loads(answer.read(_MAX_BYTES))
        except (OSError, ValueError):
            raise Unavailable(_NO_ANSWER) from None


def roles_of(claims: Mapping[str, Any]) -> tuple[Role, ...]:
    """Return the roles in any of :data:`ROLE_CLAIMS`; words that are no role are ignored."""
    words: set[str] = set()
    for claim in ROLE_CLAIMS:
        value = claims.get(claim)
        found = value.split() if isinstance(value, str) else value if isinstance(value, list) else ()
        words |= {word.removeprefix("abeyance-") for word in found if isinstance(word, str)}
    return tuple(role for role in Role if str(role) in words)


def _plain(subject: str) -> str:
    """Return the subject, or its digest if it has characters that a principal must not have."""
    if _PLAIN_SUBJECT.fullmatch(subject) and not subject.startswith("sub-"):
        return subject
    return f"sub-{hashlib.sha256(subject.encode()).hexdigest()[:40]}"
