"""OpenID Connect, authorization code flow with PKCE: any provider, nothing but the standard library.

The ID token comes straight from the provider's token endpoint over TLS that is verified, so its origin is proven by
that connection; OpenID Connect Core 1.0, section 3.1.3.7, item 6, lets that stand for the check of its signature. It
is never taken from the browser. Issuer, audience, expiry and nonce are checked.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from abeyance.console.errors import Refused, Unavailable
from abeyance.console.people import Person, Role
from abeyance.encoding import decode_base64, encode_base64

#: Claims that may hold the roles; ``cognito:groups`` is Cognito's.
ROLE_CLAIMS: Final = ("abeyance_roles", "cognito:groups", "groups", "roles")
#: Seconds by which clocks may differ.
LEEWAY: Final = 60
_MAX_BYTES: Final = 1 << 18
_PLAIN: Final = re.compile(r"[A-Za-z0-9_+=,.@-]{1,128}")

#: Fetches JSON: a GET of the address, or a POST of the form if there is one.
Fetch = Callable[[str, Mapping[str, str] | None], Any]


class OpenIdConnect:
    """:class:`~abeyance.console.identity.Identity` through a provider.

    Parameters
    ----------
    issuer
        ``https://…``; its discovery document is read when the first person signs in.
    client_id, client_secret
        As registered with the provider. The secret is asked for when somebody comes back from the provider; it is
        empty for a public client.
    console
        Address of the console, ``https://…/console``: the provider sends people back to ``<console>/signin/callback``.
    now
        Epoch seconds.
    """

    kind: Literal["redirect"] = "redirect"
    secure = True

    def __init__(
        self,
        issuer: str,
        client_id: str,
        console: str,
        *,
        now: Callable[[], float],
        client_secret: Callable[[], str] = str,
        fetch: Fetch | None = None,
    ) -> None:
        for address in (issuer, console):
            if not address.startswith("https://"):
                raise ValueError("issuer and console must be https:// addresses")
        self._issuer = issuer
        self._client_id = client_id
        self._client_secret = client_secret
        self._callback = f"{console.rstrip('/')}/signin/callback"
        self._now = now
        self._fetch = fetch or _fetch
        self._found: Mapping[str, Any] = {}

    def guard(self, address: str, host: str) -> None:
        """Anybody may come and sign in."""

    def begin(self) -> tuple[str, Mapping[str, str]]:
        """See the port."""
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
        joint = "&" if "?" in address else "?"
        return f"{address}{joint}{query}", {"state": state, "nonce": nonce, "verifier": verifier}

    def finish(self, given: Mapping[str, str], kept: Mapping[str, str]) -> Person:
        """See the port."""
        state = kept.get("state", "")
        if not state or not secrets.compare_digest(state, given.get("state", "")):
            raise Refused("The sign-in was not begun here, or took too long. Sign in again.")
        if not given.get("code"):
            raise Refused("The identity provider did not let you in.")
        form = {
            "grant_type": "authorization_code",
            "code": given["code"],
            "redirect_uri": self._callback,
            "client_id": self._client_id,
            "code_verifier": kept.get("verifier", ""),
        }
        if secret := self._client_secret():
            form["client_secret"] = secret
        answer = self._fetch(self._endpoint("token_endpoint"), form)
        return self._person(_claims(answer), kept.get("nonce", ""))

    def _person(self, claims: Mapping[str, Any], nonce: str) -> Person:
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        expires = claims.get("exp")
        good = (
            claims.get("iss") == self._issuer
            and self._client_id in audiences
            and (len(audiences) == 1 or claims.get("azp") == self._client_id)
            and isinstance(expires, int | float)
            and expires > self._now() - LEEWAY
            and bool(nonce)
            and claims.get("nonce") == nonce
            and isinstance(claims.get("sub"), str)
            and bool(claims["sub"])
        )
        if not good:
            raise Refused("The identity provider's answer is not for this sign-in. Sign in again.")
        roles = roles_of(claims)
        if not roles:
            raise Refused("You have no role at this console. Ask for reviewer, policy_officer or auditor.")
        host = urllib.parse.urlsplit(self._issuer).netloc
        name = claims.get("name")
        return Person(
            principal=f"{_plain(claims['sub'])}@{host}",
            name=name if isinstance(name, str) else "Signed in",
            roles=roles,
        )

    def _endpoint(self, name: str) -> str:
        if not self._found:
            found = self._fetch(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration", None)
            if not isinstance(found, dict) or found.get("issuer") != self._issuer:
                raise Unavailable("The identity provider describes itself as another one.")
            self._found = found
        address = self._found.get(name)
        if not isinstance(address, str) or not address.startswith("https://"):
            raise Unavailable("The identity provider does not describe itself completely.")
        return address


def roles_of(claims: Mapping[str, Any]) -> tuple[Role, ...]:
    """The roles that any of :data:`ROLE_CLAIMS` names; words that are no role are passed over."""
    words: set[str] = set()
    for claim in ROLE_CLAIMS:
        value = claims.get(claim)
        found = value.split() if isinstance(value, str) else value if isinstance(value, list) else ()
        words |= {word.removeprefix("abeyance-") for word in found if isinstance(word, str)}
    return tuple(role for role in Role if str(role) in words)


def _plain(subject: str) -> str:
    """The subject, or if it has characters that a principal has not, its digest; no subject looks like a digest."""
    if _PLAIN.fullmatch(subject) and not subject.startswith("sub-"):
        return subject
    return f"sub-{hashlib.sha256(subject.encode()).hexdigest()[:40]}"


def _claims(answer: Any) -> Mapping[str, Any]:
    try:
        payload = answer["id_token"].split(".")[1]
        claims = json.loads(decode_base64(payload, url=True))
    except (KeyError, IndexError, TypeError, AttributeError, ValueError):
        raise Refused("The identity provider sent no ID token. Sign in again.") from None
    return claims if isinstance(claims, dict) else {}


def _fetch(address: str, form: Mapping[str, str] | None) -> Any:
    data = None if form is None else urllib.parse.urlencode(form).encode()
    request = urllib.request.Request(address, data=data, headers={"Accept": "application/json"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - https alone, see above
            return json.loads(answer.read(_MAX_BYTES))
    except (OSError, ValueError):
        raise Unavailable("The identity provider does not answer. Try again.") from None
