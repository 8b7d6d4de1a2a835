"""No web page reaches the local URL: raw requests, the SDK, the command line, and Chromium with hostile pages."""

from __future__ import annotations

import http.client
import http.server
import os
import shutil
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from abeyance.local.aws import LocalAws, environment
from abeyance.local.same_origin import find_refusal

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
RESET = "/moto-api/reset"


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAws]:
    local = LocalAws()
    local.start()
    page = {"Body": b"<script>steal()</script>", "ACL": "public-read"}
    local.client("s3").put_object(Bucket="uploads", Key="a/page.html", **page)
    local.client("s3").put_bucket_cors(
        Bucket="uploads",
        CORSConfiguration={
            "CORSRules": [
                {"AllowedOrigins": ["*"], "AllowedMethods": ["GET", "PUT"], "AllowedHeaders": ["*"]}
            ]
        },
    )
    yield local
    local.stop()


def send(aws: LocalAws, method: str, path: str, **headers: str) -> http.client.HTTPResponse:
    """Send one request; ``Host`` is the server's own unless it is given."""
    connection = http.client.HTTPConnection("127.0.0.1", aws.port, timeout=10)
    connection.putrequest(method, path, skip_host="Host" in headers)
    for name, value in {**headers, "Content-Length": "0"}.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    answer = connection.getresponse()
    answer.body = answer.read()  # type: ignore[attr-defined]
    connection.close()
    return answer


def survives(aws: LocalAws) -> bool:
    """True if nothing was wiped."""
    return "uploads" in [bucket["Name"] for bucket in aws.client("s3").list_buckets()["Buckets"]]


@pytest.mark.parametrize("path", [RESET, "/uploads/a/page.html", "/", "/console/", "/?Action=ListQueues"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Origin": ""},
        {"Host": "evil.example"},
        {"Host": "evil.example:{port}"},
        {"Host": "127.0.0.1"},
        {"Host": "127.0.0.1:1"},
        {"Host": "127.0.0.1.evil.example:{port}"},
        {"Host": "localhost.evil.example:{port}"},
        {"Host": "notlocalhost:{port}"},
        {"Host": "127.0.0.1:{port}@evil.example"},
        {"Host": ""},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        # A page among the files of a bucket, and one at the other name of this server.
        {"Origin": "http://uploads.localhost:{port}"},
        {"Origin": "http://localhost:{port}"},
    ],
)
def test_a_foreign_request_is_refused(aws: LocalAws, path: str, headers: dict[str, str]) -> None:
    given = {name: value.format(port=aws.port) for name, value in headers.items()}
    for method in ("POST", "GET", "OPTIONS", "PUT"):
        answer = send(aws, method, path, **given)
        assert answer.status == 403
        assert answer.headers["x-amzn-ErrorType"] == "AccessDeniedException"
        assert b"this server" in answer.body.lower()  # type: ignore[attr-defined]
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]
    assert survives(aws)


def test_preflight_of_a_foreign_page_allows_nothing(aws: LocalAws) -> None:
    answer = send(
        aws,
        "OPTIONS",
        "/uploads/a/page.html",
        Origin="https://evil.example",
        Access_Control_Request_Method="POST",
        Access_Control_Request_Headers="x-amz-target",
    )
    assert answer.status == 403
    assert "Access-Control-Allow-Headers" not in answer.headers


def test_a_file_in_a_bucket_is_sandboxed_and_shared_with_no_origin(aws: LocalAws) -> None:
    own = f"http://127.0.0.1:{aws.port}"
    for headers in ({}, {"Origin": own}, {"Sec_Fetch_Site": "none"}):
        answer = send(aws, "GET", "/uploads/a/page.html", **headers)
        assert answer.status == 200
        assert answer.headers["Content-Security-Policy"] == "sandbox"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"])
def test_own_names_are_let_in(aws: LocalAws, name: str) -> None:
    host = f"{name}:{aws.port}"
    assert send(aws, "GET", "/uploads/a/page.html", Host=host).status == 200
    assert send(aws, "GET", "/uploads/a/page.html", Host=host, Origin=f"http://{host}").status == 200


def test_virtual_hosted_bucket_is_let_in(aws: LocalAws) -> None:
    answer = send(
        aws,
        "GET",
        "/a/page.html",
        Host=f"uploads.localhost:{aws.port}",
        Authorization="AWS4-HMAC-SHA256 Credential=acme/20260101/us-east-1/s3/aws4_request, Signature=0",
    )
    assert (answer.status, answer.body) == (200, b"<script>steal()</script>")  # type: ignore[attr-defined]


@pytest.mark.parametrize("style", ["path", "virtual"])
@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_sdk_and_presigned_urls_work(
    aws: LocalAws, style: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _resolve_localhost(monkeypatch)
    s3 = boto3.client(
        "s3",
        endpoint_url=f"http://{name}:{aws.port}",
        region_name="us-east-1",
        aws_access_key_id="acme",
        aws_secret_access_key="local",
        config=Config(s3={"addressing_style": style}, signature_version="s3v4"),
    )
    s3.put_object(Bucket="results", Key="a/ä b.txt", Body=b"hello")
    place = {"Bucket": "results", "Key": "a/ä b.txt"}
    assert s3.get_object(**place)["Body"].read() == b"hello"
    url = s3.generate_presigned_url("get_object", Params=place)
    assert (f"results.{name}" in url) == (style == "virtual" and name == "localhost")
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert answer.read() == b"hello"
    upload = urllib.request.Request(
        s3.generate_presigned_url("put_object", Params={"Bucket": "results", "Key": "put"}),
        data=b"there",
        headers={"Content-Type": "application/octet-stream"},
        method="PUT",
    )
    with urllib.request.urlopen(upload, timeout=10) as answer:
        assert answer.status == 200
    assert s3.get_object(Bucket="results", Key="put")["Body"].read() == b"there"


def test_command_line_works(aws: LocalAws, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 100)
    command = shutil.which("aws", path=str(Path(sys.executable).parent)) or "aws"
    done = subprocess.run(
        [command, "s3", "cp", str(tmp_path / "file"), "s3://results/by/command"],
        env={**os.environ, **environment(aws.endpoint)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert aws.client("s3").head_object(Bucket="results", Key="by/command")["ContentLength"] == 100


def test_refusal_says_the_port() -> None:
    assert "127.0.0.1:4566" in find_refusal({"HTTP_HOST": "evil.example"}, 4566)
    assert find_refusal({"HTTP_HOST": "localhost:4566"}, 4566) == ""


def _resolve_localhost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resolve names below ``localhost`` as browsers and many resolvers do; this machine's may not."""
    import socket

    resolve = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *more, **named: resolve(
            "127.0.0.1" if str(host).endswith("localhost") else host, *more, **named
        ),
    )


PAGE = """<!doctype html><title>evil</title><img src="http://127.0.0.1:{port}/uploads/a/page.html"
 onerror="window.image='refused'" onload="window.image='loaded'"><form id="form" method="post" action="http://127.0.0.1:{port}/moto-api/reset"
 target="frame"></form><iframe name="frame"></iframe>"""


@pytest.fixture(scope="module")
def foreign(aws: LocalAws) -> Iterator[str]:
    """Serve a hostile page at another port; yields its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = PAGE.format(port=aws.port).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"evil.example:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium that resolves ``evil.example`` to this machine, as after DNS rebinding."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    if CHROMIUM is None:
        pytest.skip("needs Debian's chromium: apt-get install chromium")
    arguments = ["--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP evil.example 127.0.0.1"]
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield running
        running.close()


FETCH = """async ([url, options]) => {
  try { const answer = await fetch(url, options); return [answer.type, answer.status]; }
  catch (error) { return [String(error), 0]; }
}"""


def test_hostile_page_in_a_browser(aws: LocalAws, foreign: str, browser: Any) -> None:
    page = browser.new_page()
    here = f"http://127.0.0.1:{aws.port}"
    statuses: list[tuple[str, str, int]] = []
    page.on(
        "response",
        lambda answer: (
            statuses.append((answer.request.method, answer.url, answer.status))
            if answer.url.startswith(here)
            else None
        ),
    )
    for origin in (f"http://{foreign}", f"http://localhost:{foreign.split(':')[1]}"):
        page.goto(f"{origin}/")
        page.wait_for_function("window.image")
        assert page.evaluate("window.image") == "refused"
        for options in (
            {"method": "POST"},
            {"method": "POST", "mode": "no-cors"},
            {"method": "GET", "mode": "no-cors"},
            {"method": "POST", "headers": {"x-amz-target": "DynamoDB_20120810.DeleteTable"}, "body": "{}"},
            {"method": "PUT", "body": "x"},
        ):
            kind, status = page.evaluate(FETCH, [f"{here}{RESET}", options])
            assert status == 0, (options, kind)
        page.evaluate("document.getElementById('form').submit()")
        page.wait_for_timeout(300)
    assert {status for _, _, status in statuses} == {403}
    assert ("POST", f"{here}{RESET}", 403) in statuses
    assert survives(aws)


def test_rebound_name_in_a_browser(aws: LocalAws, browser: Any) -> None:
    page = browser.new_page()
    answer = page.goto(f"http://evil.example:{aws.port}/uploads/a/page.html")
    assert answer.status == 403
    assert page.evaluate(FETCH, [RESET, {"method": "POST"}])[1] == 403
    assert survives(aws)


def test_page_in_a_bucket_has_no_part_in_the_origin(aws: LocalAws, browser: Any) -> None:
    s3 = aws.client("s3")
    for name in ("127.0.0.1", "uploads.localhost"):
        script = (
            f"<p>page</p><script>fetch('http://127.0.0.1:{aws.port}{RESET}', {{method: 'POST'}})</script>"
        )
        served = {"Body": script.encode(), "ContentType": "text/html", "ACL": "public-read"}
        s3.put_object(Bucket="uploads", Key="run.html", **served)
        page = browser.new_page()
        path = "/uploads/run.html" if name == "127.0.0.1" else "/run.html"
        answer = page.goto(f"http://{name}:{aws.port}{path}")
        assert (answer.status, page.inner_text("p")) == (200, "page")
        page.wait_for_timeout(300)
        # A sandboxed page runs no script at all.
        assert survives(aws)
