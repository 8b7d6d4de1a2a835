"""OpenID Connect against a provider in memory: a good token signs in, and every forged or foreign one is refused.

Sign-in through a certified provider is in tests/integration/console/test_provider.py.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from abeyance.console.errors import RequestRefused, Unavailable
from abeyance.console.oidc import OpenIdConnect, roles_of
from abeyance.console.roles import Person, Role
from abeyance.moratorium.tenants import canonical_principal

ISSUER, CONSOLE = "https://id.example/pool", "https://faces.example/console"
KEY, OTHER_KEY = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
EC_KEY, ED_KEY = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def number(value: int) -> str:
    return base64url(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def rsa_jwk(key: rsa.RSAPrivateKey, kid: str) -> dict[str, str]:
    public = key.public_key().public_numbers()
    return {"kty": "RSA", "kid": kid, "use": "sig", "n": number(public.n), "e": number(public.e)}


def sign(algorithm: str, data: bytes) -> bytes:
    """Sign as a provider that holds ``KEY``, ``EC_KEY`` and ``ED_KEY`` does."""
    if algorithm == "RS256":
        return KEY.sign(data, padding.PKCS1v15(), SHA256())
    if algorithm == "ES256":
        r, s = decode_dss_signature(EC_KEY.sign(data, ec.ECDSA(SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")
    if algorithm == "EdDSA":
        return ED_KEY.sign(data)
    if algorithm == "none":
        return b""
    raise ValueError(algorithm)


class Provider:
    """A provider in memory that answers every request of ``urllib``."""

    def __init__(self) -> None:
        self.discovery: Any = {
            "issuer": ISSUER,
            "authorization_endpoint": "https://id.example/authorize",
            "token_endpoint": "https://id.example/token",
            "jwks_uri": "https://id.example/keys",
        }
        self.keys = [rsa_jwk(KEY, "k1")]
        self.header: dict[str, Any] = {"alg": "RS256", "kid": "k1"}
        self.claims: dict[str, Any] = {
            "iss": ISSUER,
            "aud": "abeyance",
            "iat": time.time(),
            "exp": time.time() + 300,
            "sub": "u-1",
            "name": "Ada",
            "cognito:groups": ["abeyance-reviewer", "staff"],
        }
        self.sign = sign
        #: In place of the answer of the token endpoint.
        self.answer: Any = None
        self.form: dict[str, str] = {}
        self.asked: list[str] = []

    def token(self) -> str:
        parts = [base64url(json.dumps(part).encode()) for part in (self.header, self.claims)]
        signature = self.sign(self.header["alg"], ".".join(parts).encode())
        return ".".join([*parts, base64url(signature)])

    @contextmanager
    def open(self, request: urllib.request.Request, *_: Any, **__: Any) -> Iterator[io.BytesIO]:
        self.asked.append(request.full_url)
        assert request.full_url.startswith("https://")
        if request.full_url.endswith("/keys"):
            answer: Any = {"keys": self.keys}
        elif request.data is None:
            assert request.full_url == f"{ISSUER}/.well-known/openid-configuration"
            answer = self.discovery
        else:
            assert isinstance(request.data, bytes)
            self.form = dict(parse_qsl(request.data.decode()))
            answer = {"id_token": self.token()} if self.answer is None else self.answer
        yield io.BytesIO(json.dumps(answer).encode())


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Provider:
    made = Provider()
    monkeypatch.setattr(
        urllib.request.OpenerDirector, "open", lambda _, *given, **more: made.open(*given, **more)
    )
    return made


def client() -> OpenIdConnect:
    return OpenIdConnect(ISSUER, "abeyance", CONSOLE, client_secret=lambda: "shh")


def sign_in(provider: Provider, identity: OpenIdConnect | None = None, **claims: Any) -> Person:
    """Sign in with the provider's claims, some of them changed; ``None`` leaves a claim out."""
    identity = identity or client()
    address, remembered = identity.begin()
    query = {name: value[0] for name, value in parse_qs(urlsplit(address).query).items()}
    assert query["redirect_uri"] == f"{CONSOLE}/signin/callback"
    changed = {**provider.claims, "nonce": query["nonce"], **claims}
    provider.claims = {name: value for name, value in changed.items() if value is not None}
    person = identity.finish({"state": query["state"], "code": "c"}, remembered)
    digest = hashlib.sha256(provider.form["code_verifier"].encode()).digest()
    assert (query["code_challenge"], query["code_challenge_method"]) == (base64url(digest), "S256")
    return person


def test_a_person_with_roles_signs_in(provider: Provider) -> None:
    person = sign_in(provider)
    assert (person.principal, person.name, person.roles) == ("u-1@id.example", "Ada", (Role.REVIEWER,))
    assert provider.form["client_secret"] == "shh"


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA"])
def test_elliptic_curve_keys_are_accepted(provider: Provider, algorithm: str) -> None:
    if algorithm == "ES256":
        point = EC_KEY.public_key().public_numbers()
        x, y = (base64url(value.to_bytes(32, "big")) for value in (point.x, point.y))
        provider.keys.append({"kty": "EC", "crv": "P-256", "kid": "k2", "x": x, "y": y})
    else:
        x = base64url(ED_KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
        provider.keys.append({"kty": "OKP", "crv": "Ed25519", "kid": "k2", "x": x})
    provider.header = {"alg": algorithm, "kid": "k2"}
    assert sign_in(provider).roles == (Role.REVIEWER,)


def test_a_token_of_another_key_is_refused(provider: Provider) -> None:
    provider.sign = lambda algorithm, data: OTHER_KEY.sign(data, padding.PKCS1v15(), SHA256())
    with pytest.raises(RequestRefused, match="not for this sign-in"):
        sign_in(provider)


@pytest.mark.parametrize("algorithm", ["none", "None", "nOnE", ""])
def test_a_token_without_a_signature_is_refused(provider: Provider, algorithm: str) -> None:
    provider.header["alg"] = algorithm
    provider.sign = lambda algorithm, data: b""
    with pytest.raises(RequestRefused, match="not for this sign-in"):
        sign_in(provider)


@pytest.mark.parametrize(
    "secret",
    [
        KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        rsa_jwk(KEY, "k1")["n"].encode(),
        b"shh",
    ],
)
def test_hs256_with_the_public_key_or_the_client_secret_is_refused(provider: Provider, secret: bytes) -> None:
    provider.header["alg"] = "HS256"
    provider.sign = lambda algorithm, data: hmac.digest(secret, data, "sha256")
    with pytest.raises(RequestRefused, match="not for this sign-in"):
        sign_in(provider)


def test_a_key_inside_the_token_is_not_believed(provider: Provider) -> None:
    provider.header |= {"jwk": rsa_jwk(OTHER_KEY, "k1"), "jku": "https://evil.example/keys"}
    provider.sign = lambda algorithm, data: OTHER_KEY.sign(data, padding.PKCS1v15(), SHA256())
    with pytest.raises(RequestRefused, match="not for this sign-in"):
        sign_in(provider)
    assert not any("evil" in address for address in provider.asked)


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://other.example"},
        {"iss": None},
        {"aud": "another"},
        {"aud": ["abeyance", "another"]},
        {"aud": None},
        {"exp": time.time() - 61},
        {"exp": "soon"},
        {"exp": None},
        {"iat": time.time() + 3600},
        {"nbf": time.time() + 3600},
        {"nonce": "another"},
        {"nonce": ""},
        {"nonce": None},
        {"sub": ""},
        {"sub": 7},
        {"sub": None},
        {"cognito:groups": ["staff"]},
        {"cognito:groups": {"reviewer": True}, "groups": 5},
    ],
)
def test_a_token_for_somebody_else_is_refused(provider: Provider, claims: dict[str, Any]) -> None:
    with pytest.raises(RequestRefused):
        sign_in(provider, **claims)


def test_a_token_for_several_audiences_names_this_client_as_its_party(provider: Provider) -> None:
    assert sign_in(provider, aud=["abeyance", "another"], azp="abeyance").roles == (Role.REVIEWER,)


def test_clocks_may_differ_by_a_minute(provider: Provider) -> None:
    assert sign_in(provider, exp=time.time() - 50, iat=time.time() + 50).roles == (Role.REVIEWER,)


def test_keys_are_cached_and_a_new_key_is_fetched(provider: Provider) -> None:
    identity = client()
    for _ in range(3):
        sign_in(provider, identity)
    assert provider.asked.count("https://id.example/keys") == 1
    provider.keys = [rsa_jwk(KEY, "k2")]
    provider.header["kid"] = "k2"
    sign_in(provider, identity)
    assert provider.asked.count("https://id.example/keys") == 2
    provider.header["kid"] = "unknown"
    with pytest.raises(RequestRefused):
        sign_in(provider, identity)


def test_subjects_of_any_form_become_different_principals(provider: Provider) -> None:
    subjects = ["auth0|1", "auth0|2", "a/b", "é", "plain", "sub-x", "x" * 300]
    found = [sign_in(provider, sub=subject).principal for subject in subjects]
    assert [canonical_principal(one) for one in found] == found
    assert len(set(found)) == len(subjects)


@pytest.mark.parametrize(
    "returned", [{}, {"state": "x", "code": "c"}, {"state": "é", "code": "c"}, {"code": "c"}]
)
def test_a_callback_of_another_sign_in_is_refused(provider: Provider, returned: dict[str, str]) -> None:
    identity = client()
    _, remembered = identity.begin()
    with pytest.raises(RequestRefused):
        identity.finish(returned, remembered)
    with pytest.raises(RequestRefused):
        identity.finish({"state": remembered["state"]}, remembered)
    with pytest.raises(RequestRefused):
        identity.finish({"state": "", "code": "c"}, {})


@pytest.mark.parametrize(
    "answer", [False, {}, [], {"id_token": "x"}, {"id_token": 3}, {"id_token": "a.b.c"}, {"id_token": "é"}]
)
def test_an_answer_without_a_token_is_refused(provider: Provider, answer: Any) -> None:
    provider.answer = answer
    with pytest.raises(RequestRefused):
        sign_in(provider)


@pytest.mark.parametrize("ending", ["=", "==", "\n", "!", "A"])
def test_an_id_token_has_one_spelling(provider: Provider, ending: str) -> None:
    identity = client()
    _, remembered = identity.begin()
    provider.claims["nonce"] = remembered["nonce"]
    head, payload, signature = provider.token().split(".")
    for token in (f"{head}.{payload}{ending}.{signature}", f"{head}.{payload}.{signature}{ending}"):
        provider.answer = {"id_token": token}
        with pytest.raises(RequestRefused, match="not for this sign-in"):
            identity.finish({"state": remembered["state"], "code": "c"}, remembered)
    provider.answer = None
    assert identity.finish({"state": remembered["state"], "code": "c"}, remembered)


@pytest.mark.parametrize(
    "discovery",
    [
        [],
        {},
        {"issuer": "https://other.example"},
        {"issuer": ISSUER, "authorization_endpoint": "http://id.example/a"},
    ],
)
def test_an_incomplete_or_foreign_discovery_document_is_refused(provider: Provider, discovery: Any) -> None:
    provider.discovery = discovery
    with pytest.raises(Unavailable):
        client().begin()


@pytest.mark.parametrize("silent", ["openid-configuration", "token", "keys"])
def test_a_provider_that_does_not_answer_is_unavailable(
    provider: Provider, monkeypatch: pytest.MonkeyPatch, silent: str
) -> None:
    answer = provider.open

    def refuse(request: urllib.request.Request, *given: Any, **more: Any) -> Any:
        if request.full_url.endswith(silent):
            raise urllib.error.URLError("refused")
        return answer(request, *given, **more)

    monkeypatch.setattr(provider, "open", refuse)
    with pytest.raises(Unavailable):
        sign_in(provider)


def test_only_https_addresses_are_accepted() -> None:
    for issuer, console in (("http://id.example", CONSOLE), (ISSUER, "http://faces.example")):
        with pytest.raises(ValueError, match="https"):
            OpenIdConnect(issuer, "abeyance", console)


def test_roles_come_from_any_of_the_usual_claims() -> None:
    assert roles_of({"roles": "auditor policy_officer"}) == (Role.OFFICER, Role.AUDITOR)
    assert roles_of({"groups": ["abeyance-auditor"], "abeyance_roles": ["reviewer"]}) == (
        Role.REVIEWER,
        Role.AUDITOR,
    )
    assert roles_of({"roles": "admin root"}) == ()
