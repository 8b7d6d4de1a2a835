"""The console behind an HTTP API under attack: forged headers, foreign forms, odd paths."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
from flask import Flask
from flask.sessions import SecureCookieSessionInterface

from abeyance.console.gateway import answer
from abeyance.console.identity import LoopbackPicker
from abeyance.console.oidc import OpenIdConnect
from abeyance.console.roles import Role
from abeyance.console.web.app import HEADERS, create_app

from .conftest import World

HOST = "abc123.execute-api.eu-central-1.amazonaws.com"
FORGED = {
    "x-forwarded-for": "127.0.0.1",
    "x-forwarded-host": "evil.example",
    "x-forwarded-proto": "http",
    "x-forwarded-port": "80",
    "x-forwarded-prefix": "/evil",
    "x-real-ip": "127.0.0.1",
    "x-original-url": "/console/ledger",
    "x-rewrite-url": "/console/ledger",
    "x-http-method-override": "POST",
    "forwarded": "for=127.0.0.1;host=evil.example;proto=http",
}
PERSON = "edda@id.example"


def event(method: str = "GET", path: str = "/console/review", **given: Any) -> dict[str, Any]:
    """Return an event as API Gateway makes it; ``given`` replaces its parts, ``headers`` are added."""
    headers = {"host": HOST, "x-forwarded-proto": "https", "x-forwarded-for": "203.0.113.9"}
    return {
        "version": "2.0",
        "routeKey": "ANY /console/{page+}",
        "rawPath": path,
        "rawQueryString": given.pop("query", ""),
        "headers": {**headers, **given.pop("headers", {})},
        "requestContext": {
            "domainName": HOST,
            "stage": given.pop("stage", "$default"),
            "http": {"method": method, "path": path, "sourceIp": "203.0.113.9"},
        },
        "isBase64Encoded": False,
        **given,
    }


@pytest.fixture
def app(world: World) -> Flask:
    identity = OpenIdConnect("https://id.example", "abeyance", f"https://{HOST}/console")
    return create_app(msgspec.structs.replace(world.services, identity=identity))


def session(app: Flask, *roles: Role) -> str:
    """Return a cookie, signed by the application, of a person with these roles."""
    serializer: Any = SecureCookieSessionInterface().get_signing_serializer(app)
    person = [PERSON, "Edda", [str(role) for role in roles], ""]
    return f"abeyance_console={serializer.dumps({'_permanent': True, 'person': person, 'csrf': 'token'})}"


def form(**fields: str) -> dict[str, Any]:
    """Return the parts of an event with a form, in base64, as API Gateway sends forms."""
    body = base64.b64encode(urlencode({"csrf": "token", **fields}).encode()).decode()
    return {
        "body": body,
        "isBase64Encoded": True,
        "headers": {"content-type": "application/x-www-form-urlencoded"},
    }


def test_forged_headers_change_nothing(app: Flask) -> None:
    plain, forged = (answer(app, event(headers=headers)) for headers in ({}, FORGED))
    assert plain["statusCode"] == forged["statusCode"] == 303
    assert plain["headers"]["Location"] == forged["headers"]["Location"] == "/console/signin"
    page = answer(app, event(path="/console/signin", headers=FORGED))
    assert {**page["headers"], **HEADERS} == page["headers"]
    assert "Secure" in page["cookies"][0]
    assert "evil" not in base64.b64decode(page["body"]).decode()


def test_a_header_does_not_make_a_request_local(world: World) -> None:
    local = create_app(msgspec.structs.replace(world.services, identity=LoopbackPicker()))
    for headers in (FORGED, {"host": "127.0.0.1"}, {**FORGED, "host": "localhost"}):
        assert answer(local, event(path="/console/signin", headers=headers))["statusCode"] == 409
    tried = event("POST", "/console/signin", **form(person="clara@local"))
    assert answer(local, tried)["statusCode"] in (403, 409)


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/console/ledger?type=x", ""),
        ("/console/ledger#x", ""),
        ("/console/ledger%3Ftype=x", "a=1"),
        ("/console/ledger%253Ftype=x", ""),
        ("/live/console/ledger", ""),
        ("/console/live/console/ledger", ""),
        ("//evil.example/console/ledger", ""),
        ("///evil.example/%2e%2e", ""),
        ("https://evil.example/console/ledger", ""),
        ("/console/static/../../../../etc/passwd", ""),
        ("/console/static/..\\..\\app.py", ""),
        ("/console/static/%2e%2e/app.py", ""),
        ("/console/galleries/acme/../../ledger", ""),
        ("/console/galleries/acme/staff\x00", ""),
        ("/console/galleries/acme/staff\r\nSet-Cookie: a=b", ""),
        ("/", ""),
    ],
)
def test_odd_paths_lead_nowhere(app: Flask, path: str, query: str) -> None:
    cookie = session(app, Role.AUDITOR, Role.OFFICER)
    got = answer(app, event(path=path, query=query, cookies=[cookie], stage="live"))
    assert got["statusCode"] in (308, 404), path
    if got["statusCode"] == 308:
        # Slashes are merged, within this host.
        assert got["headers"]["Location"].startswith(f"https://{HOST}/")
    assert "Set-Cookie" not in got["headers"]
    assert not [one for one in got["cookies"] if one.startswith("a=")]


def test_cookies_are_read_from_the_event_and_each_role_has_its_rights(app: Flask) -> None:
    pages = {"/console/ledger": Role.AUDITOR, "/console/proposals/new": Role.OFFICER}
    for role in Role:
        for path, needed in pages.items():
            for carried in (
                {"cookies": ["other=1", session(app, role)]},
                {"headers": {"cookie": session(app, role)}},
            ):
                got = answer(app, event(path=path, **carried))
                assert got["statusCode"] == (200 if role is needed else 403), (role, path)


def test_only_forms_from_this_host_are_accepted(app: Flask, world: World) -> None:
    cookie = [session(app, Role.REVIEWER)]
    world.search("acme/search/staff/a.png", world.enrol("jane"))
    for headers in (
        {"origin": "https://evil.example"},
        {"origin": "https://evil.example", "host": "evil.example"},
        {"origin": "https://evil.example", "x-forwarded-host": "evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
    ):
        sent = form()
        sent["headers"] |= headers
        got = answer(app, event("POST", "/console/review/next", cookies=cookie, **sent))
        assert got["statusCode"] == 403, headers
    for broken in (form(csrf=""), {**form(), "cookies": []}, {**form(), "headers": {}}, {}):
        parts = {"cookies": cookie, **broken}
        assert answer(app, event("POST", "/console/review/next", **parts))["statusCode"] in (303, 403)
    assert not world.services.reviews.open_reviews()[0][1][0].claims
    good = form()
    good["headers"]["origin"] = f"https://{HOST}"
    got = answer(app, event("POST", "/console/review/next", cookies=cookie, **good))
    assert got["statusCode"] == 303
    assert world.services.reviews.open_reviews()[0][1][0].claims


def test_unknown_methods_are_refused(app: Flask) -> None:
    for method in ("PUT", "DELETE", "PATCH", "TRACE", "CONNECT"):
        got = answer(app, event(method, cookies=[session(app, Role.AUDITOR)]))
        assert got["statusCode"] in (403, 405), method


def test_an_answer_is_json(app: Flask) -> None:
    got = answer(app, event(path="/console/static/console.css"))
    assert json.loads(json.dumps(got)) == got
    assert got["headers"]["Content-Type"].startswith("text/css")
