"""A request survives the way through API Gateway's event, and the answer the way back."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from flask import Flask, Response, request

from abeyance.console.gateway import answer
from abeyance.local.gateway import http_api_event, is_console_request


def echo() -> Flask:
    app = Flask("echo")

    @app.route("/<path:path>", methods=["GET", "POST"])
    def all_of_it(path: str) -> Response:
        said = {
            "path": request.path,
            "query": request.args.to_dict(flat=False),
            "form": request.form.to_dict(),
            "cookies": dict(request.cookies),
            "host": request.host,
            "address": request.remote_addr,
        }
        response = app.json.response(said)
        response.set_cookie("one", "1")
        response.set_cookie("two", "2", httponly=True)
        return response

    return app


def through(environ: dict[str, Any], body: bytes = b"") -> tuple[dict[str, Any], dict[str, Any]]:
    event = http_api_event({"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "127.0.0.1:4566", **environ}, body)
    got = answer(echo(), event)
    return got, echo().json.loads(base64.b64decode(got["body"]))


def test_path_query_cookies_and_address() -> None:
    environ = {
        "PATH_INFO": "/console/a b%/é".encode().decode("latin-1"),
        "QUERY_STRING": "a=1&a=2&b=%C3%A9&c=",
        "HTTP_COOKIE": "x=1; y=2",
    }
    got, said = through(environ)
    assert said["path"] == "/console/a b%/é"
    assert said["query"] == {"a": ["1", "2"], "b": ["é"], "c": [""]}
    assert said["cookies"] == {"x": "1", "y": "2"}
    assert (said["host"], said["address"]) == ("127.0.0.1:4566", "127.0.0.1")
    assert [cookie.split("=")[0] for cookie in got["cookies"]] == ["one", "two"]
    assert "Set-Cookie" not in got["headers"]


def test_a_form() -> None:
    environ = {
        "PATH_INFO": "/x",
        "REQUEST_METHOD": "POST",
        "CONTENT_TYPE": "application/x-www-form-urlencoded",
        "HTTP_CONTENT_LENGTH": "7",
    }
    assert through(environ, b"a=1&b=%20")[1]["form"] == {"a": "1", "b": " "}


def test_a_body_that_came_as_text() -> None:
    event = http_api_event(
        {"PATH_INFO": "/x", "REQUEST_METHOD": "POST", "CONTENT_TYPE": "application/x-www-form-urlencoded"},
        b"",
    )
    got = answer(echo(), {**event, "body": "a=é", "isBase64Encoded": False})
    assert echo().json.loads(base64.b64decode(got["body"]))["form"] == {"a": "é"}


@pytest.mark.parametrize("body", ["YT1=", "YT0", "YT0=\n", "!"])
def test_a_body_has_one_spelling(body: str) -> None:
    event = http_api_event({"PATH_INFO": "/x", "REQUEST_METHOD": "POST", "REMOTE_ADDR": "127.0.0.1"}, b"a=")
    assert event["body"] == "YT0="
    assert answer(echo(), event)["statusCode"] == 200
    assert answer(echo(), {**event, "body": body})["statusCode"] == 400


@pytest.mark.parametrize(
    ("environ", "ours"),
    [
        ({"PATH_INFO": "/console"}, True),
        ({"PATH_INFO": "/console/review"}, True),
        ({"PATH_INFO": "/consoles/key"}, False),
        ({"PATH_INFO": "/console/key", "HTTP_AUTHORIZATION": "AWS4-HMAC-SHA256 ..."}, False),
        ({"PATH_INFO": "/console/key", "QUERY_STRING": "X-Amz-Signature=1"}, False),
        ({}, False),
    ],
)
def test_what_is_the_consoles_and_what_is_a_buckets(environ: dict[str, str], ours: bool) -> None:
    assert is_console_request(environ) is ours
