"""The pages under attack: other roles' pages, forged forms, hostile texts, odd paths."""

from __future__ import annotations

import json
import re
from itertools import product

import pytest
from werkzeug.test import TestResponse

from abeyance.console.roles import RIGHTS, Role
from abeyance.console.web.app import HEADERS
from abeyance.ledger.entry import Record

from .conftest import Browser, World, restrict

WHO = {"ada": Role.REVIEWER, "clara": Role.OFFICER, "edda": Role.AUDITOR}
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>{{7*7}}'
OPEN = {"static", "start", "start_slash"} | {
    f"signin.{name}" for name in ("page", "choose", "provider", "callback", "out")
}


def send(browser: Browser, method: str, path: str) -> TestResponse:
    return browser.get(path) if method == "GET" else browser.post(path)


def test_each_role_gets_its_own_pages_and_no_other(world: World) -> None:
    world.enrol("jane")
    values = {
        "identity": "0" * 32,
        "number": 0,
        "which": "probe",
        "proposal_id": "x",
        "key": "x",
        "index": 1,
        "piece": 0,
        "tenant": "acme",
        "name": "staff",
        "face": "00000000-0000-4000-8000-000000000000",
    }
    tried = 0
    browsers = {who: world.browser(who) for who in WHO}
    with world.app.test_request_context():
        adapter = world.app.create_url_adapter(None) or world.app.url_map.bind("localhost")
        rules = [
            (
                rule,
                adapter.build(rule.endpoint, {a: values[a] for a in rule.arguments}, method=method),
                method,
            )
            for rule in world.app.url_map.iter_rules()
            for method in sorted((rule.methods or set()) & {"GET", "POST"})
            if rule.endpoint not in OPEN
        ]
    for (rule, path, method), (who, role) in product(rules, WHO.items()):
        rights = world.app.view_functions[rule.endpoint].rights  # type: ignore[attr-defined]
        status = send(browsers[who], method, path).status_code
        tried += 1
        if RIGHTS[role] & set(rights):
            assert status != 403, (who, method, path)
            assert status < 500 or (status == 503 and rule.endpoint.startswith("ledger"))
        else:
            assert status == 403, (who, method, path, status)
    assert tried >= 60
    stranger = world.browser()
    stranger.get("/console/signin")
    for _, path, method in rules:
        answer = send(stranger, method, path)
        assert (answer.status_code, answer.location) == (303, "/console/signin"), path


def test_every_page_has_the_security_headers(world: World) -> None:
    for browser, path in (
        (world.browser(), "/console/signin"),
        (world.browser("ada"), "/console/review"),
        (world.browser("ada"), "/console/none"),
    ):
        answer = browser.get(path)
        assert dict(answer.headers) == {**dict(answer.headers), **HEADERS}
        assert answer.headers["Cache-Control"] == "no-store"
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
        assert not re.search(r"<script(?! src=)|\son\w+=|\sstyle=|https?://", answer.text)
    cookie = world.browser()
    cookie.get("/console/signin")
    (kept,) = cookie.client._cookies.values()  # type: ignore[union-attr]
    assert kept.http_only
    assert kept.same_site == "Lax"
    assert kept.path == "/console"


@pytest.mark.parametrize(
    ("headers", "form"),
    [
        ({}, {"csrf": ""}),
        ({}, {"csrf": "x" * 43}),
        ({}, {"csrf": "é"}),
        ({"Origin": "https://evil.example"}, {}),
        ({"Origin": "null"}, {}),
        ({"Origin": "http://127.0.0.1:4567"}, {}),
        ({"Sec-Fetch-Site": "cross-site"}, {}),
        ({"Sec-Fetch-Site": "same-site"}, {}),
    ],
)
def test_forged_forms_change_nothing(world: World, headers: dict[str, str], form: dict[str, str]) -> None:
    world.search("acme/search/staff/a.png", world.enrol("jane"))
    browser = world.browser("ada")
    browser.get("/console/review")
    assert browser.post("/console/review/next", headers, **form).status_code == 403
    assert not world.services.reviews.open_reviews()[0][1][0].claims
    assert browser.post("/console/review/next", {"Origin": "http://127.0.0.1:4566"}).status_code == 303


def test_a_token_of_another_session_is_refused(world: World) -> None:
    ada, ben = world.browser("ada"), world.browser("ben")
    ada.get("/console/review")
    assert ben.post("/console/review/next", csrf=ada.token).status_code == 403


def test_a_forged_session_is_refused(world: World) -> None:
    browser = world.browser()
    browser.client.set_cookie(
        "abeyance_console", "eyJwZXJzb24iOlsieCIsIngiLFsiYXVkaXRvciJdXX0.aaaa.bbbb", path="/console"
    )
    assert browser.get("/console/ledger").location == "/console/signin"


def test_only_requests_from_this_machine_under_its_own_name_are_accepted(world: World) -> None:
    client = world.browser().client
    for base, host in (
        ({"REMOTE_ADDR": "10.0.0.7"}, "127.0.0.1"),
        ({"REMOTE_ADDR": "127.0.0.1"}, "evil.example"),
    ):
        assert client.get("/console/signin", headers={"Host": host}, environ_base=base).status_code == 409


@pytest.mark.parametrize(
    "path",
    [
        "/console/../etc/passwd",
        "/console/static/../app.py",
        "/console/static/..%2fapp.py",
        "/console/static/%2e%2e/app.py",
        "/console/galleries/acme/..%2f..",
        "/console/galleries/..%5c/staff",
        "/console/galleries/acme%00/staff",
        "/console/review/review%23/0/probe.png",
        "/console/ledger/99999999999999999999999999",
        "/console/ledger/-1",
        "/console/accuracy/report",
    ],
)
def test_odd_paths_lead_nowhere(world: World, path: str) -> None:
    for who in ("edda", "ada"):
        answer = world.browser(who).get(path)
        assert answer.status_code in (403, 404, 405), path
        assert "Traceback" not in answer.text


def test_hostile_texts_are_shown_as_text(world: World) -> None:
    document = restrict(reason=HOSTILE, source=HOSTILE)
    world.write_flags(document)
    upload = world.search(f"acme/search/staff/{HOSTILE}.png", world.enrol("jane"))
    ada, ben, clara, edda = (world.browser(who) for who in ("ada", "ben", "clara", "edda"))
    for browser in (ada, ben):
        browser.get("/console/review")
        page = browser.get(browser.post("/console/review/next").location)
        address = f"/console/review/{upload.identity}/0"
        assert HOSTILE not in page.text
        assert (
            browser.post(f"{address}/judge", verdict="same", ground="ears", note=HOSTILE).status_code == 303
        )
    body = {"reason": HOSTILE, "tenant": HOSTILE}
    world.append(Record(id="x:1", type="decision", time="2026-01-01T00:00:00Z", body=body))
    clara.get("/console/proposals")
    moved = clara.post(
        "/console/proposals", document=json.dumps(restrict(human_review=3)), note=HOSTILE, do="propose"
    ).location
    shown = [
        edda.get(path).text
        for path in (
            "/console/moratoria",
            "/console/moratoria/explain?"
            + "&".join(f"{name}={HOSTILE.replace('&', '')}" for name in ("tenant", "place", "purpose")),
            "/console/review",
            f"/console/review/{upload.identity}",
            "/console/proposals",
            moved,
            "/console/ledger",
            f"/console/ledger?tenant={HOSTILE}&day={HOSTILE}",
            "/console/ledger/1",
        )
    ]
    clara.get("/console/galleries/acme/staff")
    shown.append(clara.post("/console/galleries/acme/staff/find", by="user_id", name=HOSTILE).text)
    for text in shown:
        assert "<script>alert" not in text
        assert "<img src=x" not in text
        assert "49}" not in text
    assert sum("&lt;script&gt;" in text for text in shown) >= 6


def test_a_reviewer_sees_no_name_place_or_purpose(world: World) -> None:
    jane = world.enrol("jane")
    upload = world.search("acme/search/staff/secret-file.png", jane)
    ada = world.browser("ada")
    ada.get("/console/review")
    page = ada.get(ada.post("/console/review/next").location)
    assert page.status_code == 200
    for word in ("Jane", "jane", jane, "secret-file", "acme", "staff", "access_control", "access control"):
        assert word not in page.text.split("<main", 1)[1]
    picture = ada.get(f"/console/review/{upload.identity}/0/candidate.png")
    assert (picture.content_type, picture.data[:4]) == ("image/png", b"\x89PNG")
    assert world.browser("ben").get(f"/console/review/{upload.identity}/0/candidate.png").status_code == 404
    assert world.browser("edda").get(f"/console/review/{upload.identity}/0/candidate.png").status_code == 403


def test_incomplete_judgements_are_refused(world: World) -> None:
    upload = world.search("acme/search/staff/a.png", world.enrol("jane"))
    ada = world.browser("ada")
    ada.get("/console/review")
    ada.get(ada.post("/console/review/next").location)
    address = f"/console/review/{upload.identity}/0/judge"
    for form in (
        {},
        {"verdict": "same"},
        {"verdict": "perhaps", "ground": "ears"},
        {"verdict": "same", "ground": "because"},
    ):
        assert ada.post(address, **form).status_code == 409
    assert ada.post(address, verdict="same", ground="ears", note="x" * 501).status_code == 409
    assert ada.post(address, verdict="same", ground="ears").status_code == 303
    assert ada.post(address, verdict="different", ground="ears").status_code == 409


def test_a_page_too_large_is_refused(world: World) -> None:
    clara = world.browser("clara")
    clara.get("/console/proposals")
    assert clara.post("/console/proposals/preview", document="x" * (3 << 20)).status_code == 413
