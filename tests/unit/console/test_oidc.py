"""OpenID Connect against a provider that answers as told: what comes in, and all that must not."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from abeyance.console.errors import ConsoleError, Refused, Unavailable
from abeyance.console.oidc import OpenIdConnect, roles_of
from abeyance.console.people import Role
from abeyance.moratorium.tenants import canonical_principal

ISSUER, CONSOLE, NOW = "https://id.example/pool", "https://faces.example/console", 1_000_000.0


class Provider:
    """A provider: its discovery document, and an ID token of ``claims``."""

    def __init__(self) -> None:
        self.discovery: Any = {
            "issuer": ISSUER,
            "authorization_endpoint": "https://id.example/authorize",
            "token_endpoint": "https://id.example/token",
        }
        self.claims: dict[str, Any] = {
            "iss": ISSUER,
            "aud": "abeyance",
            "exp": NOW + 300,
            "sub": "u-1",
            "name": "Ada",
            "cognito:groups": ["abeyance-reviewer", "staff"],
        }
        self.form: Mapping[str, str] = {}

    def __call__(self, address: str, form: Mapping[str, str] | None) -> Any:
        if form is None:
            assert address == f"{ISSUER}/.well-known/openid-configuration"
            return self.discovery
        self.form = form
        payload = base64.urlsafe_b64encode(json.dumps(self.claims).encode()).decode().rstrip("=")
        return {"id_token": f"e30.{payload}.c2ln"}


def client(provider: Provider) -> OpenIdConnect:
    return OpenIdConnect(
        ISSUER, "abeyance", CONSOLE, now=lambda: NOW, client_secret=lambda: "shh", fetch=provider
    )


def sign_in(provider: Provider, **claims: Any) -> Any:
    identity = client(provider)
    address, kept = identity.begin()
    query = {name: value[0] for name, value in parse_qs(urlsplit(address).query).items()}
    assert query["redirect_uri"] == f"{CONSOLE}/signin/callback"
    provider.claims = {**provider.claims, "nonce": query["nonce"], **claims}
    person = identity.finish({"state": query["state"], "code": "c"}, kept)
    verifier = provider.form["code_verifier"]
    digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    assert digest == query["code_challenge"]
    return person


def test_a_person_with_roles_comes_in() -> None:
    provider = Provider()
    person = sign_in(provider)
    assert (person.principal, person.name, person.roles) == ("u-1@id.example", "Ada", (Role.REVIEWER,))
    assert provider.form["client_secret"] == "shh"


def test_subjects_of_any_form_become_principals_and_stay_apart() -> None:
    subjects = ["auth0|1", "auth0|2", "a/b", "é", "plain", "sub-x", "x" * 300]
    found = [sign_in(Provider(), sub=subject).principal for subject in subjects]
    assert [canonical_principal(one) for one in found] == found
    assert len(set(found)) == len(subjects)


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://other.example"},
        {"aud": "another"},
        {"aud": ["abeyance", "another"]},
        {"exp": NOW - 61},
        {"exp": "soon"},
        {"nonce": "another"},
        {"nonce": ""},
        {"sub": ""},
        {"sub": None},
        {"cognito:groups": ["staff"]},
        {"cognito:groups": {"reviewer": True}, "groups": 5},
    ],
)
def test_what_is_not_for_this_sign_in_stays_out(claims: dict[str, Any]) -> None:
    with pytest.raises(ConsoleError):
        sign_in(Provider(), **claims)


@pytest.mark.parametrize("given", [{}, {"state": "x", "code": "c"}, {"code": "c"}])
def test_a_callback_that_was_not_begun_here_is_refused(given: dict[str, str]) -> None:
    identity = client(Provider())
    _, kept = identity.begin()
    with pytest.raises(Refused):
        identity.finish(given, kept)
    with pytest.raises(Refused):
        identity.finish({"state": "", "code": "c"}, {})


@pytest.mark.parametrize("token", [None, {}, [], {"id_token": "x"}, {"id_token": 3}, {"id_token": "a.b.c"}])
def test_an_answer_that_is_no_token_is_refused(token: Any) -> None:
    provider = Provider()
    answers = lambda address, form: provider(address, form) if form is None else token  # noqa: E731
    identity = OpenIdConnect(ISSUER, "abeyance", CONSOLE, now=lambda: NOW, fetch=answers)
    _, kept = identity.begin()
    with pytest.raises(Refused):
        identity.finish({"state": kept["state"], "code": "c"}, kept)


@pytest.mark.parametrize("ending", ["=", "==", "\n", "!", "A"])
def test_an_id_token_has_one_spelling(ending: str) -> None:
    def answers(address: str, form: Mapping[str, str] | None) -> Any:
        answer = provider(address, form)
        if form is not None:
            head, payload, signature = answer["id_token"].split(".")
            answer["id_token"] = f"{head}.{payload}{ending}.{signature}"
        return answer

    provider = Provider()
    identity = OpenIdConnect(ISSUER, "abeyance", CONSOLE, now=lambda: NOW, fetch=answers)
    _, kept = identity.begin()
    provider.claims["nonce"] = kept["nonce"]
    with pytest.raises(Refused, match="no ID token"):
        identity.finish({"state": kept["state"], "code": "c"}, kept)


@pytest.mark.parametrize(
    "discovery",
    [
        [],
        {},
        {"issuer": "https://other.example"},
        {"issuer": ISSUER, "authorization_endpoint": "http://id.example/a"},
    ],
)
def test_a_provider_that_describes_itself_badly_is_not_used(discovery: Any) -> None:
    provider = Provider()
    provider.discovery = discovery
    with pytest.raises(Unavailable):
        client(provider).begin()


def test_only_https() -> None:
    for issuer, console in (("http://id.example", CONSOLE), (ISSUER, "http://faces.example")):
        with pytest.raises(ValueError, match="https"):
            OpenIdConnect(issuer, "abeyance", console, now=lambda: NOW)


def test_roles_from_any_of_the_usual_claims() -> None:
    assert roles_of({"roles": "auditor policy_officer"}) == (Role.OFFICER, Role.AUDITOR)
    assert roles_of({"groups": ["abeyance-auditor"], "abeyance_roles": ["reviewer"]}) == (
        Role.REVIEWER,
        Role.AUDITOR,
    )
    assert roles_of({"roles": "admin root"}) == ()
