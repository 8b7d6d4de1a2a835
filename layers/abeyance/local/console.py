"""The console at the local URL: the deployed function in a small pool of workers, as API Gateway would call it."""

from __future__ import annotations

import contextlib
import logging
import queue
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from abeyance.encoding import decode_base64, encode_base64
from abeyance.local.aws import LocalAws, environment
from abeyance.local.worker import FunctionError, Worker

log = logging.getLogger("abeyance.local")

FUNCTION: Final = "console"
#: Where it is, and what belongs to it.
PATH: Final = "/console"
TIMEOUT: Final = 29.0
MAX_BODY: Final = 4 * 1024 * 1024


class Console:
    """A WSGI application that invokes the function ``console``; one request a worker at a time, as in Lambda.

    Parameters
    ----------
    aws
        The local AWS that the function works with, already started.
    workers
        Processes, and so requests in work at one time; others wait.
    """

    def __init__(self, aws: LocalAws, workers: int = 2) -> None:
        variables = {
            **environment(aws.endpoint),
            **aws.settings.to_environment(),
            "ABEYANCE_CONSOLE_IDENTITY": "loopback",
            "ABEYANCE_CONSOLE_KEY": f"text:{secrets.token_hex(32)}",
        }
        self.workers = [Worker(FUNCTION, variables, TIMEOUT) for _ in range(workers)]
        self._idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        for worker in self.workers:
            self._idle.put(worker)

    def start(self) -> None:
        """Have the workers load their handler now, so that the first page does not wait for it."""
        for worker in self.workers:
            threading.Thread(target=_load, args=(worker,), name="console-start", daemon=True).start()

    def stop(self) -> None:
        """End the workers."""
        for worker in self.workers:
            worker.stop()

    @staticmethod
    def matches(environ: Mapping[str, Any]) -> bool:
        """Whether a request is for the console. No S3 client signs a request without this header or query."""
        path = str(environ.get("PATH_INFO", ""))
        signed = "HTTP_AUTHORIZATION" in environ or "X-Amz-" in str(environ.get("QUERY_STRING", ""))
        return (path == PATH or path.startswith(f"{PATH}/")) and not signed

    def __call__(self, environ: Mapping[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        length = int(environ.get("CONTENT_LENGTH") or 0)
        if length > MAX_BODY:
            start_response("413 Request Entity Too Large", [("Content-Length", "0"), ("Connection", "close")])
            return [b""]
        event = http_event(environ, environ["wsgi.input"].read(length))
        worker = self._idle.get()
        try:
            answer: dict[str, Any] = worker.invoke(event)
        except FunctionError as error:
            log.warning("console failed: %s", error)
            answer = {"statusCode": 502, "headers": {}, "body": "The console failed. Its log says why."}
        finally:
            self._idle.put(worker)
        text = answer.get("body", "")
        body = decode_base64(text) if answer.get("isBase64Encoded") else text.encode()
        headers = {**answer.get("headers", {}), "Content-Length": str(len(body))}
        pairs = [(name, value) for name, value in headers.items() if name.lower() != "content-length"]
        pairs += [("Set-Cookie", cookie) for cookie in answer.get("cookies", [])]
        start_response(f"{answer['statusCode']} Console", [*pairs, ("Content-Length", str(len(body)))])
        return [body]


def _load(worker: Worker) -> None:
    with contextlib.suppress(FunctionError, OSError, ValueError):  # whoever asks for a page is told
        worker.ready()


def http_event(environ: Mapping[str, Any], body: bytes) -> dict[str, Any]:
    """The event of an HTTP API, payload format 2.0."""
    headers = {
        name[5:].replace("_", "-").lower(): value
        for name, value in environ.items()
        if name.startswith("HTTP_")
    }
    cookies = [one.strip() for one in headers.pop("cookie", "").split(";") if one.strip()]
    if environ.get("CONTENT_TYPE"):
        headers["content-type"] = environ["CONTENT_TYPE"]
    headers["content-length"] = str(len(body))
    query = str(environ.get("QUERY_STRING", ""))
    # As an HTTP API gives it: decoded, but for the sign that says what is encoded.
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


def mount(aws: LocalAws, workers: int = 2) -> Console:
    """Serve the console at the local URL; stop the returned application before ``aws``."""
    console = Console(aws, workers)
    aws.front.mount(console.matches, console)
    console.start()
    return console
