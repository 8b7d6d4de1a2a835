"""Signatures: AWS's published examples, botocore's requests, and forgeries, of which none passes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from abeyance.rekognition.call import ReceivedRequest
from abeyance.rekognition.errors import ApiError
from abeyance.rekognition.sigv4 import SIGNATURE_ERRORS, SignatureVerifier

KEY, SECRET = "ABEYAAAAAAAAAAAAAAAA", "a-secret-that-nobody-guesses-0123456789"
OTHER, OTHERS_SECRET = "ABEYBBBBBBBBBBBBBBBB", "another-tenants-secret-0123456789012345"
REGION = "eu-central-1"
SECRETS = {KEY: SECRET, OTHER: OTHERS_SECRET}
BODY = b'{"CollectionId":"staff"}'


def verifier(now: datetime | None = None) -> SignatureVerifier:
    return SignatureVerifier(SECRETS.get, lambda: now or datetime.now(UTC))


class Presigner(SigV4QueryAuth):
    """Presigns with the hash of the body, as SDKs for JavaScript do; botocore's moves the body into the query."""

    def __init__(self, credentials: Any, service: str, region: str, expires: int = 3600) -> None:
        super().__init__(credentials, service, region, expires=expires)
        self.body = b""

    def add_auth(self, request: AWSRequest) -> None:
        self.body, request.data = request.data, b""
        super().add_auth(request)

    def payload(self, request: AWSRequest) -> str:
        return hashlib.sha256(self.body).hexdigest()


def signed(
    *,
    key: str = KEY,
    secret: str = SECRET,
    region: str = REGION,
    service: str = "rekognition",
    body: bytes = BODY,
    headers: Mapping[str, str] | None = None,
    path: str = "/live/keys/",
    signer: Callable[..., Any] = SigV4Auth,
    token: str | None = None,
) -> ReceivedRequest:
    """A request as botocore signs it."""
    request = AWSRequest(
        method="POST",
        url=f"https://abc.execute-api.{REGION}.amazonaws.com{path}",
        headers={
            "X-Amz-Target": "RekognitionService.DescribeCollection",
            "Content-Type": "application/x-amz-json-1.1",
            **(headers or {}),
        },
        data=body,
    )
    signer(Credentials(key, secret, token), service, region).add_auth(request)
    parts = urlsplit(request.url)
    return ReceivedRequest(
        "POST",
        parts.netloc,
        parts.path,
        dict(parse_qsl(parts.query)),
        {name.lower(): value for name, value in request.headers.items()} | {"host": parts.netloc},
        body,
    )


def change(request: ReceivedRequest, **headers: str | None) -> ReceivedRequest:
    """The request with headers changed, or taken away, after it was signed."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    kept = {name: value for name, value in request.headers.items() if name not in given}
    return dataclasses.replace(request, headers=kept | {n: v for n, v in given.items() if v is not None})


def edit(old: str, new: str, **options: Any) -> ReceivedRequest:
    """The request with its Authorization header edited."""
    request = signed(**options)
    authorization = request.headers["authorization"]
    assert old in authorization
    return change(request, authorization=authorization.replace(old, new))


def hashed(body: bytes = BODY) -> dict[str, str]:
    return {"X-Amz-Content-SHA256": hashlib.sha256(body).hexdigest()}


#: Made when they are tried: a signature is good for five minutes.
SOUND: dict[str, Callable[[], ReceivedRequest]] = {
    "plain": lambda: signed(),
    "another key": lambda: signed(key=OTHER, secret=OTHERS_SECRET),
    "the root": lambda: signed(path="/"),
    "a hashed body": lambda: signed(headers=hashed()),
    "a purpose": lambda: signed(headers={"x-abeyance-purpose": "missing_children"}),
    "odd blanks": lambda: signed(
        headers={"Content-Length": str(len(BODY)), "amz-sdk-request": "attempt=1;  max=3"}
    ),
    "a body in UTF-8": lambda: signed(body='{"ü":1}'.encode()),
    "presigned": lambda: signed(signer=Presigner),
    "unsigned headers": lambda: change(signed(), x_forwarded_for="1.2.3.4", user_agent="any"),
}


@pytest.mark.parametrize("name", SOUND)
def test_what_botocore_signs_is_verified(name: str) -> None:
    assert verifier().verify(SOUND[name](), REGION) in SECRETS


def presigned() -> ReceivedRequest:
    return signed(signer=Presigner)


def query(**changed: str | None) -> ReceivedRequest:
    request = presigned()
    given = {f"X-Amz-{name}": value for name, value in changed.items()}
    kept = {name: value for name, value in request.query.items() if name not in given}
    return dataclasses.replace(request, query=kept | {n: v for n, v in given.items() if v is not None})


NOW = datetime.now(UTC)
TODAY, TOMORROW = (f"{day:%Y%m%d}" for day in (NOW, NOW + timedelta(days=1)))
FORGERIES: dict[str, Callable[[], ReceivedRequest]] = {
    "another body": lambda: dataclasses.replace(signed(), body=b'{"CollectionId":"other"}'),
    "no body": lambda: dataclasses.replace(signed(), body=b""),
    "a longer body": lambda: dataclasses.replace(signed(), body=BODY + b" "),
    "another body, its hash signed": lambda: dataclasses.replace(signed(headers=hashed()), body=b"{}"),
    "another body, its hash replaced": lambda: dataclasses.replace(
        change(signed(headers=hashed()), x_amz_content_sha256=hashlib.sha256(b"{}").hexdigest()), body=b"{}"
    ),
    "unsigned payload": lambda: signed(headers={"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}),
    "streaming payload": lambda: signed(
        headers={"X-Amz-Content-SHA256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"}
    ),
    "unsigned payload, put in later": lambda: change(signed(), x_amz_content_sha256="UNSIGNED-PAYLOAD"),
    "another operation": lambda: change(signed(), x_amz_target="RekognitionService.DeleteCollection"),
    "no operation": lambda: change(signed(), x_amz_target=None),
    "a purpose put in": lambda: change(signed(), x_abeyance_purpose="missing_children"),
    "another purpose": lambda: change(
        signed(headers={"x-abeyance-purpose": "unspecified"}), x_abeyance_purpose="missing_children"
    ),
    "a header of Amazon's put in": lambda: change(signed(), x_amz_date_2="x"),
    "another content type": lambda: change(signed(), content_type="text/plain"),
    "another host": lambda: dataclasses.replace(signed(), host="evil.example"),
    "another path": lambda: dataclasses.replace(signed(), path="/live/"),
    "another method": lambda: dataclasses.replace(signed(), method="GET"),
    "a query put in": lambda: dataclasses.replace(signed(), query={"a": "b"}),
    "another date": lambda: change(signed(), x_amz_date=f"{NOW + timedelta(seconds=30):%Y%m%dT%H%M%SZ}"),
    "no date": lambda: change(signed(), x_amz_date=None),
    "a date that is none": lambda: change(signed(), x_amz_date="today"),
    "the scope of tomorrow": lambda: edit(f"/{TODAY}/", f"/{TOMORROW}/"),
    "signed for another region": lambda: signed(region="us-east-1"),
    "another region in the scope": lambda: edit(f"/{REGION}/", "/us-east-1/", region=REGION),
    "the region exchanged": lambda: edit("/us-east-1/", f"/{REGION}/", region="us-east-1"),
    "signed for another service": lambda: signed(service="s3"),
    "signed for execute-api": lambda: signed(service="execute-api"),
    "the service exchanged": lambda: edit("/s3/", "/rekognition/", service="s3"),
    "the key of another tenant": lambda: edit(KEY, OTHER),
    "another tenant's id with one's own secret": lambda: signed(key=OTHER, secret=SECRET),
    "an unknown key": lambda: signed(key="ABEYCCCCCCCCCCCCCCCC", secret="any"),
    "the secret that stands for none": lambda: signed(key="ABEYCCCCCCCCCCCCCCCC", secret="0" * 40),
    "an empty secret": lambda: signed(secret=""),
    "a session token": lambda: signed(token="any"),
    "another signature": lambda: edit("Signature=", "Signature=0"),
    "a short signature": lambda: change(signed(), authorization=signed().headers["authorization"][:-1]),
    "another algorithm": lambda: edit("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"),
    "the host unsigned": lambda: edit("host;", ""),
    "the operation unsigned": lambda: edit(";x-amz-target", ""),
    "the date unsigned": lambda: edit("x-amz-date;", ""),
    "a header twice": lambda: edit("host;", "host;host;"),
    "headers out of order": lambda: edit("host;x-amz-date", "x-amz-date;host"),
    "no signature": lambda: change(signed(), authorization=None),
    "a bearer token": lambda: change(signed(), authorization="Bearer x"),
    "signed twice": lambda: dataclasses.replace(signed(), query=presigned().query),
    "presigned, another body": lambda: dataclasses.replace(presigned(), body=b"{}"),
    "presigned, a longer life": lambda: query(Expires="604800"),
    "presigned, for ever": lambda: query(Expires="9999999"),
    "presigned, no life": lambda: query(Expires=None),
    "presigned, another date": lambda: query(Date=f"{NOW + timedelta(seconds=30):%Y%m%dT%H%M%SZ}"),
    "presigned, another operation": lambda: change(
        presigned(), x_amz_target="RekognitionService.DeleteCollection"
    ),
    "presigned, another signature": lambda: query(Signature="0" * 64),
    "presigned, no signature": lambda: query(Signature=None),
    "presigned, a token": lambda: query(**{"Security-Token": "any"}),
    "presigned, another algorithm": lambda: query(Algorithm="none"),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_no_forgery_passes(forgery: str) -> None:
    with pytest.raises(ApiError) as refused:
        verifier().verify(FORGERIES[forgery](), REGION)
    assert refused.value.name in SIGNATURE_ERRORS
    assert SECRET not in str(refused.value)


def test_there_are_forgeries_enough() -> None:
    assert len(FORGERIES) >= 40


@pytest.mark.parametrize(("minutes", "passes"), [(-6, False), (-4, True), (0, True), (4, True), (6, False)])
def test_five_minutes_of_skew(minutes: int, passes: bool) -> None:
    there = verifier(datetime.now(UTC) + timedelta(minutes=minutes))
    request = signed()
    if passes:
        assert there.verify(request, REGION) == KEY
        return
    with pytest.raises(ApiError, match="expired"):
        there.verify(request, REGION)


def test_a_presigned_request_lives_as_long_as_it_says() -> None:
    request = presigned()
    assert verifier(datetime.now(UTC) + timedelta(minutes=59)).verify(request, REGION) == KEY
    with pytest.raises(ApiError, match="expired"):
        verifier(datetime.now(UTC) + timedelta(minutes=61)).verify(request, REGION)


#: AWS's own test suite of signatures; the file says where it is from.
PUBLISHED = {
    vector["name"]: vector
    for vector in json.loads(Path(__file__).with_name("sigv4_vectors.json").read_text(encoding="utf-8"))[
        "vectors"
    ]
}
#: Those that are refused here: a name twice in a query, which API Gateway does not hand on, and session tokens.
REFUSED = {
    "get-vanilla-query-order-key": "does not match",
    "get-vanilla-query-order-value": "does not match",
    "get-vanilla-with-session-token": "no header x-amz-security-token",
    "post-sts-header-before": "no session token",
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_aws_published_examples(name: str) -> None:
    vector = PUBLISHED[name]
    published = SignatureVerifier(
        {"AKIDEXAMPLE": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}.get,
        lambda: datetime(2015, 8, 30, 12, 36, tzinfo=UTC),
        service="service",
        always_signed=frozenset({"host"}),
    )
    headers: dict[str, str] = {"authorization": vector["authorization"]}
    for header, value in vector["headers"]:
        # A header that comes twice is one with both values.
        known = headers.get(header.lower())
        headers[header.lower()] = value if known is None else f"{known},{value}"
    path, _, query_ = vector["target"].partition("?")
    request = ReceivedRequest(
        vector["method"],
        headers["host"],
        path,
        dict(parse_qsl(query_, keep_blank_values=True)),
        headers,
        vector["body"].encode(),
    )
    if name in REFUSED:
        with pytest.raises(ApiError, match=REFUSED[name]):
            published.verify(request, "us-east-1")
        return
    assert published.verify(request, "us-east-1") == "AKIDEXAMPLE"


def test_the_published_suite_is_whole() -> None:
    assert len(PUBLISHED) == 34
    assert set(PUBLISHED) > set(REFUSED)
