"""The Rekognition API at the local URL: what API Gateway does in AWS, done here for a small pool of workers."""

from __future__ import annotations

import logging
import queue
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from abeyance.local.aws import LocalAws, environment
from abeyance.local.moto import ACCOUNT, REGION
from abeyance.local.worker import FunctionError, Worker

log = logging.getLogger("abeyance.local")

FUNCTION: Final = "api"
#: Seconds after which a request is given up, as API Gateway does.
TIMEOUT: Final = 29.0
#: Largest body: 15 MB of what clients may send, and more than any request of the contract has.
MAX_BODY: Final = 16 * 1024 * 1024

_CREDENTIAL = re.compile(r"AWS4-HMAC-SHA256 +Credential=([^,\s]+)/\d{8}/[^/,\s]+/[^/,\s]+/aws4_request\b")
#: What API Gateway itself answers when a function fails.
_BROKEN = b'{"message": "Internal server error"}'


class Api:
    """A WSGI application that invokes the function ``api``; one request a worker at a time, as in Lambda.

    Parameters
    ----------
    aws
        The local AWS that the function works with, already started.
    workers
        Processes, and so requests in work at one time; others wait.
    """

    def __init__(self, aws: LocalAws, workers: int = 2) -> None:
        variables = {**environment(aws.endpoint), **aws.settings.to_environment()}
        self.workers = [Worker(FUNCTION, variables, TIMEOUT) for _ in range(workers)]
        self._idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        for worker in self.workers:
            self._idle.put(worker)

    def start(self) -> None:
        """There is nothing to start: it answers when it is asked."""

    def stop(self) -> None:
        """End the workers."""
        for worker in self.workers:
            worker.stop()

    @staticmethod
    def matches(environ: Mapping[str, Any]) -> bool:
        """Whether a request is for Rekognition."""
        return str(environ.get("HTTP_X_AMZ_TARGET", "")).startswith("RekognitionService.")

    def __call__(self, environ: Mapping[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        length = int(environ.get("CONTENT_LENGTH") or 0)
        if length > MAX_BODY:
            start_response("413 Request Entity Too Large", [("Content-Length", "0"), ("Connection", "close")])
            return [b""]
        answer = self._invoke(proxy_event(environ, environ["wsgi.input"].read(length)))
        body = answer["body"].encode()
        headers = [*answer["headers"].items(), ("Content-Length", str(len(body)))]
        start_response(f"{answer['statusCode']} {'OK' if answer['statusCode'] < 400 else 'Error'}", headers)
        return [body]

    def _invoke(self, event: dict[str, Any]) -> dict[str, Any]:
        worker = self._idle.get()
        try:
            answer: dict[str, Any] = worker.invoke(event)
        except FunctionError as error:
            log.warning("api failed: %s", error)
            return {
                "statusCode": 502,
                "headers": {"Content-Type": "application/json"},
                "body": _BROKEN.decode(),
            }
        finally:
            self._idle.put(worker)
        return answer


def proxy_event(environ: Mapping[str, Any], body: bytes) -> dict[str, Any]:
    """The event of a REST API with IAM authorisation, as far as the function reads it.

    The access key id stands for the caller's ARN: no signature is verified here, and the key id names the tenant.
    """
    headers = {
        name[5:].replace("_", "-").lower(): value
        for name, value in environ.items()
        if name.startswith("HTTP_")
    }
    found = _CREDENTIAL.match(headers.pop("authorization", ""))
    return {
        "resource": "/",
        "path": environ.get("PATH_INFO", "/"),
        "httpMethod": environ.get("REQUEST_METHOD", "POST"),
        "headers": headers,
        "requestContext": {
            "accountId": ACCOUNT,
            "requestId": str(uuid.uuid4()),
            "identity": {"userArn": found.group(1) if found else None},
            "region": REGION,
        },
        "body": body.decode("utf-8", "replace"),
        "isBase64Encoded": False,
    }


def mount(aws: LocalAws, workers: int = 2) -> Api:
    """Serve the Rekognition API at the local URL; stop the returned application before ``aws``."""
    api = Api(aws, workers)
    aws.front.mount(api.matches, api)
    return api
