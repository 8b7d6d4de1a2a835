"""API Gateway on this machine: the functions ``api`` and ``console`` at the local URL, in small pools of workers."""

from __future__ import annotations

import contextlib
import http
import json
import logging
import re
import secrets
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from abeyance.deployment.parts import build_tenants
from abeyance.encoding import decode_base64, encode_base64
from abeyance.local.aws import LocalAws, is_api_request
from abeyance.local.buckets import MadeBuckets
from abeyance.local.lanes import Lanes, TooManyRequests
from abeyance.local.moto import ACCOUNT, REGION
from abeyance.local.worker import BACKGROUND_NICE, FunctionError, Worker
from abeyance.moratorium.access_keys import is_key_id
from abeyance.pipeline import topology
from abeyance.rekognition.errors import TOO_LARGE, ApiError, unserved
from abeyance.rekognition.gateway import error_response

log = logging.getLogger("abeyance.local")

#: API Gateway's own limit for a request.
TIMEOUT_S: Final = 29.0
#: More than any request of the contract has: two images of 5 MiB in base64 have 14 MB.
MAX_API_BYTES: Final = 16 * 1024 * 1024
MAX_CONSOLE_BYTES: Final = 4 * 1024 * 1024
MAX_CHANGE_BYTES: Final = 2 * 1024 * 1024
CONSOLE_PATH: Final = "/console"
CHANGES_PATH: Final = "/changes"
#: Principal to person on one machine: an access key id, and the same person at the console.
LOCAL_PRINCIPALS: Final = {
    principal: person for person in ("clara", "david", "erin") for principal in (person, f"{person}@local")
}

_CREDENTIAL = re.compile(
    r"AWS4-HMAC-SHA256 +Credential=([^,\s]+)/\d{8}/([a-z]{2}[a-z0-9-]{1,30})/[^/,\s]+/aws4_request\b"
)
#: API Gateway's own response to more requests than are admitted, which SDKs repeat later.
_TOO_MANY_REQUESTS: Final[Mapping[str, Any]] = {
    "statusCode": http.HTTPStatus.TOO_MANY_REQUESTS,
    "headers": {"Content-Type": "application/json", "x-amzn-ErrorType": "TooManyRequestsException"},
    "body": json.dumps({"message": "Too Many Requests"}),
}
_TOO_LARGE: Final[Mapping[str, Any]] = {
    "statusCode": http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "headers": {"Content-Type": "application/json"},
    "body": json.dumps({"message": "Request Too Long"}),
}
#: API Gateway's own response when a function fails.
_FUNCTION_FAILED: Final[Mapping[str, Any]] = {
    "statusCode": http.HTTPStatus.BAD_GATEWAY,
    "headers": {"Content-Type": "application/json"},
    "body": json.dumps({"message": "Internal server error"}),
}


class FunctionGateway:
    """A WSGI application that invokes a function; one request a worker at a time, as in Lambda.

    Parameters
    ----------
    aws
        The local AWS that the function works with, already started.
    function
        Name of the function's folder.
    make_event
        Makes the event of a request from its WSGI environment and body.
    max_bytes
        Largest body.
    workers
        Processes, and so requests in work at one time; others wait. See :mod:`abeyance.local.lanes`.
    variables
        Environment variables beside those of the deployment.
    busy
        The proxy response to a request for which no worker becomes free in time.
    too_large
        The proxy response to a body that exceeds ``max_bytes``, which is not read.
    """

    def __init__(
        self,
        aws: LocalAws,
        function: str,
        make_event: Callable[[Mapping[str, Any], bytes], dict[str, Any]],
        *,
        max_bytes: int,
        workers: int = 2,
        variables: Mapping[str, str] | None = None,
        busy: Mapping[str, Any] = _TOO_MANY_REQUESTS,
        too_large: Mapping[str, Any] = _TOO_LARGE,
    ) -> None:
        self._busy = busy
        self._too_large = too_large
        self._function = function
        self._make_event = make_event
        self._max_bytes = max_bytes
        known = {**aws.variables(), **(variables or {})}
        self._lanes = Lanes(
            lambda background: Worker(function, known, TIMEOUT_S, nice=BACKGROUND_NICE if background else 0),
            workers,
        )

    def load(self) -> None:
        """Have the workers load their handler now, so that the first request does not wait for it."""
        for worker in self._lanes.workers:
            threading.Thread(target=_load, args=(worker,), name=f"load-{self._function}", daemon=True).start()

    def stop(self) -> None:
        """End the workers."""
        for worker in self._lanes.workers:
            worker.stop()

    def __call__(self, environ: Mapping[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        length = int(environ.get("CONTENT_LENGTH") or 0)
        if length > self._max_bytes:
            return self._answer(start_response, self._too_large, close=True)
        response = self._invoke(self._make_event(environ, environ["wsgi.input"].read(length)))
        return self._answer(start_response, response)

    @staticmethod
    def _answer(
        start_response: Callable[..., Any], response: Mapping[str, Any], *, close: bool = False
    ) -> Iterable[bytes]:
        text = response.get("body", "")
        body = decode_base64(text) if response.get("isBase64Encoded") else text.encode()
        headers = response.get("headers", {}).items()
        pairs = [(name, value) for name, value in headers if name.lower() != "content-length"]
        pairs += [("Set-Cookie", cookie) for cookie in response.get("cookies", [])]
        pairs += [("Connection", "close")] if close else []
        status = http.HTTPStatus(response["statusCode"])
        start_response(f"{status.value} {status.phrase}", [*pairs, ("Content-Length", str(len(body)))])
        return [body]

    def _invoke(self, event: dict[str, Any]) -> Mapping[str, Any]:
        caller = (event["requestContext"].get("identity") or {}).get("userArn") or ""
        try:
            with self._lanes.take(caller) as worker:
                response: dict[str, Any] = worker.invoke(event)
        except TooManyRequests:
            return self._busy
        except FunctionError as error:
            log.warning("%s failed: %s", self._function, error)
            return _FUNCTION_FAILED
        return response


def _load(worker: Worker) -> None:
    with contextlib.suppress(FunctionError, OSError, ValueError):  # the first request gets the error
        worker.ready()


def mount_api(aws: LocalAws) -> FunctionGateway:
    """Serve the Rekognition API at the local URL; stop the returned application before ``aws``."""
    busy = error_response(unserved("Every worker is busy; slow down and retry."))
    too_large = error_response(ApiError("ImageTooLargeException", TOO_LARGE))
    api = FunctionGateway(aws, "api", rest_api_event, max_bytes=MAX_API_BYTES, busy=busy, too_large=too_large)
    aws.router.mount(is_api_request, api)
    reserved = frozenset(str(getattr(aws.settings, bucket.setting)) for bucket in topology.BUCKETS)
    made = MadeBuckets(lambda: build_tenants(aws.settings, aws.client), reserved, lambda: aws.client("s3"))
    aws.router.on_bucket = made.record
    return api


def mount_changes(aws: LocalAws, key: str) -> FunctionGateway:
    """Serve the change service at the local URL; stop the returned application before ``aws``.

    Nobody's identity is verified on one machine: an access key id is a name, and ``key`` signs the console's sign-ins.
    """
    variables = {
        "ABEYANCE_SIGN_IN": f"made-up:{key}",
        "ABEYANCE_FIRST_PRINCIPALS": json.dumps(LOCAL_PRINCIPALS),
    }
    changes = FunctionGateway(
        aws, "flags", rest_api_event, max_bytes=MAX_CHANGE_BYTES, workers=1, variables=variables
    )
    aws.router.mount(is_change_request, changes)
    return changes


def mount_console(aws: LocalAws, key: str) -> FunctionGateway:
    """Serve the console at the local URL; stop the returned application before ``aws``."""
    variables = {
        "ABEYANCE_CONSOLE_IDENTITY": f"loopback:{key}",
        "ABEYANCE_CONSOLE_KEY": f"text:{secrets.token_hex(32)}",
    }
    console = FunctionGateway(
        aws, "console", http_api_event, max_bytes=MAX_CONSOLE_BYTES, variables=variables
    )
    aws.router.mount(is_console_request, console)
    console.load()
    return console


def is_change_request(environ: Mapping[str, Any]) -> bool:
    """Return True for a signed request to the change service."""
    return environ.get("PATH_INFO") == CHANGES_PATH and "HTTP_AUTHORIZATION" in environ


def is_console_request(environ: Mapping[str, Any]) -> bool:
    """Return True for a request to the console: its path, without the signature that every S3 client sends."""
    path = str(environ.get("PATH_INFO", ""))
    signed = "HTTP_AUTHORIZATION" in environ or "X-Amz-" in str(environ.get("QUERY_STRING", ""))
    return (path == CONSOLE_PATH or path.startswith(f"{CONSOLE_PATH}/")) and not signed


def rest_api_event(environ: Mapping[str, Any], body: bytes) -> dict[str, Any]:
    """Return the event of a REST API with IAM authorisation, as far as the function reads it.

    The access key id stands for the caller's ARN: no signature is verified here, and the key id names the tenant. But
    for keys of this system: theirs the function verifies.
    """
    headers = _headers(environ)
    if environ.get("CONTENT_TYPE"):
        headers["content-type"] = environ["CONTENT_TYPE"]
    found = _CREDENTIAL.match(headers.get("authorization", ""))
    # A signature with a key of this system is the function's to verify.
    is_own = found is not None and is_key_id(found.group(1))
    principal = found.group(1) if found and not is_own else None
    if not is_own:
        headers.pop("authorization", None)
    return {
        "resource": "/",
        "path": environ.get("PATH_INFO", "/"),
        "httpMethod": environ.get("REQUEST_METHOD", "POST"),
        "headers": headers,
        "queryStringParameters": dict(
            parse_qsl(str(environ.get("QUERY_STRING", "")), keep_blank_values=True)
        ),
        "requestContext": {
            "accountId": ACCOUNT,
            "requestId": str(uuid.uuid4()),
            "identity": {"userArn": principal},
            "region": found.group(2) if found else REGION,
        },
        "body": body.decode("utf-8", "replace"),
        "isBase64Encoded": False,
    }


def http_api_event(environ: Mapping[str, Any], body: bytes) -> dict[str, Any]:
    """Return the event of an HTTP API, payload format 2.0."""
    headers = _headers(environ)
    cookies = [one.strip() for one in headers.pop("cookie", "").split(";") if one.strip()]
    if environ.get("CONTENT_TYPE"):
        headers["content-type"] = environ["CONTENT_TYPE"]
    headers["content-length"] = str(len(body))
    query = str(environ.get("QUERY_STRING", ""))
    # An HTTP API decodes the path, except for the sign that marks what is encoded.
    path = str(environ.get("PATH_INFO", "/")).encode("latin-1").decode("utf-8", "replace").replace("%", "%25")
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "cookies": cookies,
        "headers": headers,
        "queryStringParameters": dict(parse_qsl(query, keep_blank_values=True)),
        "requestContext": {
            "http": {
                "method": environ.get("REQUEST_METHOD", "GET"),
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": environ.get("REMOTE_ADDR", ""),
            },
        },
        "body": encode_base64(body),
        "isBase64Encoded": True,
    }


def _headers(environ: Mapping[str, Any]) -> dict[str, str]:
    prefix = "HTTP_"
    return {
        name.removeprefix(prefix).replace("_", "-").lower(): value
        for name, value in environ.items()
        if name.startswith(prefix)
    }
