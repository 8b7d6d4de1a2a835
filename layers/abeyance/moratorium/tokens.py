"""ID tokens of an OpenID Connect provider, verified here: by signature, issuer, audience and times.

The console verifies one at sign-in, and the change service verifies the same token again, because the console's word
counts for nothing there. PyJWT does the cryptography (OpenID Connect Core 1.0, section 3.1.3.7).
"""

from __future__ import annotations

import hashlib
import json
import re
import ssl
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from abeyance.encoding import decode_base64
from abeyance.moratorium.errors import MoratoriumError

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
#: Lifetime of a made-up sign-in on one machine.
MADE_UP_S: Final = 12 * 3600
_MADE_UP: Final = "made-up"
_TIMEOUT_S: Final = 5
_MAX_BYTES: Final = 1 << 18
_PLAIN_SUBJECT: Final = re.compile(r"[A-Za-z0-9_+=,.@-]{1,128}")


class TokenRefused(MoratoriumError):
    """A token that is not the provider's for this deployment, or no longer valid: sign in again."""


class ProviderUnavailable(MoratoriumError):
    """An identity provider that does not answer as one: try again."""


class IdTokens:
    """The ID tokens of one provider for one client.

    Parameters
    ----------
    issuer
        ``https://…``; its discovery document is read when it is first needed.
    client_id
        The audience.
    context
        TLS settings for a provider with a certificate of a private authority.
    """

    def __init__(self, issuer: str, client_id: str, *, context: ssl.SSLContext | None = None) -> None:
        if not issuer.startswith("https://"):
            raise ValueError("an issuer must be an https:// address")
        self._issuer = issuer
        self._client_id = client_id
        self._context = context
        self._discovered: Mapping[str, Any] = {}
        self._published_keys: PyJWKClient | None = None

    def claims(self, token: str) -> Mapping[str, Any]:
        """Return the claims of a valid token; raises :class:`TokenRefused` or :class:`ProviderUnavailable`."""
        import jwt  # Here, because little needs it and its import delays a cold start.

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
            raise ProviderUnavailable("the identity provider does not answer; try again") from None
        except (jwt.PyJWTError, ValueError):
            raise TokenRefused("the sign-in is not valid, or no longer; sign in again") from None
        audience_is_ours = claims["aud"] in (self._client_id, [self._client_id])
        if not (audience_is_ours or claims.get("azp") == self._client_id) or not claims["sub"]:
            raise TokenRefused("the sign-in is for somebody else; sign in again")
        return claims

    def principal(self, claims: Mapping[str, Any]) -> str:
        """Return ``<subject>@<issuer host>``; a subject with other characters becomes its digest."""
        subject = str(claims["sub"])
        if not _PLAIN_SUBJECT.fullmatch(subject) or subject.startswith("sub-"):
            subject = f"sub-{hashlib.sha256(subject.encode()).hexdigest()[:40]}"
        return f"{subject}@{urllib.parse.urlsplit(self._issuer).netloc}"

    def endpoint(self, name: str) -> str:
        """Return an address of the discovery document; raises :class:`ProviderUnavailable`."""
        if not self._discovered:
            found = self.fetch(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
            if not isinstance(found, dict) or found.get("issuer") != self._issuer:
                raise ProviderUnavailable("the identity provider's discovery document names another issuer")
            self._discovered = found
        address = self._discovered.get(name)
        if not isinstance(address, str) or not address.startswith("https://"):
            raise ProviderUnavailable(
                f"the identity provider's discovery document has no {name} with https://"
            )
        return address

    def fetch(self, address: str, form: Mapping[str, str] | None = None) -> Any:
        """GET JSON from an https:// address, or POST a form to it; raises :class:`ProviderUnavailable`."""
        data = None if form is None else urllib.parse.urlencode(form).encode()
        request = urllib.request.Request(address, data, {"Accept": "application/json"})  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S, context=self._context) as answer:  # noqa: S310
                return json.loads(answer.read(_MAX_BYTES))
        except (OSError, ValueError):
            raise ProviderUnavailable("the identity provider does not answer; try again") from None

    def _keys(self) -> PyJWKClient:
        """Return the provider's keys: cached, and read again for a token signed by an unknown one."""
        if self._published_keys is None:
            from jwt import PyJWKClient

            self._published_keys = PyJWKClient(
                self.endpoint("jwks_uri"),
                lifespan=KEYS_CACHED_S,
                # No pause between two reads: the token that asks for a new key comes from the provider itself.
                cooldown_duration=0,
                timeout=_TIMEOUT_S,
                ssl_context=self._context,
            )
        return self._published_keys


class MadeUpTokens:
    """Sign-ins on one machine: whoever knows the key of this run signs them. Nobody's identity is verified."""

    def __init__(self, key: str) -> None:
        self._key = key

    def make(self, principal: str, roles: tuple[str, ...], now_s: float) -> str:
        """Return the token of somebody who was chosen from a list."""
        import jwt

        claims = {"sub": principal, "roles": list(roles), "iss": _MADE_UP, "exp": int(now_s) + MADE_UP_S}
        return jwt.encode(claims, self._key, algorithm="HS256")

    def claims(self, token: str) -> Mapping[str, Any]:
        """Return the claims of a token of this run; raises :class:`TokenRefused`."""
        import jwt

        try:
            claims: Mapping[str, Any] = jwt.decode(
                token, self._key, algorithms=["HS256"], issuer=_MADE_UP, options={"require": ["exp", "sub"]}
            )
        except jwt.PyJWTError:
            raise TokenRefused("the sign-in is not of this run; sign in again") from None
        return claims

    def principal(self, claims: Mapping[str, Any]) -> str:
        """Return the chosen principal."""
        return str(claims["sub"])


def role_words(claims: Mapping[str, Any]) -> frozenset[str]:
    """Return the words in any of :data:`ROLE_CLAIMS`, less the prefix ``abeyance-``."""
    words: set[str] = set()
    for claim in ROLE_CLAIMS:
        value = claims.get(claim)
        found = value.split() if isinstance(value, str) else value if isinstance(value, list) else ()
        words |= {word.removeprefix("abeyance-") for word in found if isinstance(word, str)}
    return frozenset(words)
