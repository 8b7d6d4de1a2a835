"""The HTTP interface: SageMaker's two routes and Prometheus' one, as an ASGI application.

``GET /ping``, ``POST /invocations``, ``GET /metrics``. Every answer names the model; every refusal is JSON with a
``reason`` for programs and a ``message`` for people.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from abeyance.embedding import npy

from .batcher import ModelFailed, Overloaded
from .endpoint import Endpoint, NotServing, State
from .metrics import MEDIA_TYPE as METRICS_MEDIA_TYPE

log = logging.getLogger("abeyance.embedder")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

_ROUTES = {"/ping": "GET", "/invocations": "POST", "/metrics": "GET"}


class Refused(Exception):
    """An answer other than 200."""

    def __init__(
        self, status: int, reason: str, message: str, *, retry_after: int = 0, close: bool = False
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.retry_after = retry_after
        #: Close the connection after the answer. Only where the rest of the body may never come: a client that is
        #: still sending would lose the answer.
        self.close = close


class ClientGone(Exception):
    """The client has closed the connection."""


class App:
    """The ASGI application around an :class:`~embedder.endpoint.Endpoint`."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._max_bytes = npy.MAX_HEADER_BYTES + endpoint.settings.max_chips * npy.CHIP_BYTES

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        try:
            status, media_type, body = await self._answer(scope, receive)
            headers: Headers = []
        except Refused as refusal:
            status, media_type = refusal.status, "application/json"
            body = msgspec.json.encode({"reason": refusal.reason, "message": str(refusal)})
            headers = [(b"retry-after", str(refusal.retry_after).encode())] if refusal.retry_after else []
            if refusal.status == 405:
                headers.append((b"allow", _ROUTES[scope["path"]].encode()))
            if refusal.close:
                headers.append((b"connection", b"close"))
        except ClientGone:
            return
        headers += [(b"content-type", media_type.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers + self._identity()})
        await send({"type": "http.response.body", "body": body})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        self._endpoint.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._endpoint.stop()
        await send({"type": "lifespan.shutdown.complete"})

    def _identity(self) -> Headers:
        model = self._endpoint.model
        if model is None:
            return []
        name = model.identity.encode()
        return [(npy.MODEL_HEADER.lower().encode(), name), (npy.SAGEMAKER_HEADER.lower().encode(), name)]

    async def _answer(self, scope: Message, receive: Receive) -> tuple[int, str, bytes]:
        path = scope["path"]
        if path not in _ROUTES:
            raise Refused(404, "NOT_FOUND", "there are GET /ping, POST /invocations and GET /metrics")
        if scope["method"] != _ROUTES[path]:
            raise Refused(405, "METHOD", f"{path} takes {_ROUTES[path]}")
        if path == "/ping":
            state = self._endpoint.state
            status = 200 if state is State.READY else 503
            return status, "application/json", msgspec.json.encode({"state": state})
        if path == "/metrics":
            return 200, METRICS_MEDIA_TYPE, self._endpoint.metrics.text()
        began, status = time.monotonic(), 499  # the client is gone
        try:
            body = await self._invoke(dict(scope["headers"]), receive)
            status = 200
            self._endpoint.answered += 1
            return 200, npy.MEDIA_TYPE, body
        except Refused as refusal:
            status = refusal.status
            raise
        finally:
            self._endpoint.metrics.requests.labels(status).inc()
            self._endpoint.metrics.seconds.observe(time.monotonic() - began)

    async def _invoke(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        length = self._check_head(headers)
        try:
            batcher = self._endpoint.serving()
        except NotServing as error:
            raise Refused(503, "NOT_READY", str(error), retry_after=2) from error
        # Room is reserved before the body is read, so that refused requests cost no memory.
        most = self._endpoint.settings.max_chips
        room = most if length is None else min(most, math.ceil(length / npy.CHIP_BYTES))
        try:
            batcher.reserve(room)
        except Overloaded as error:
            raise Refused(429, "OVERLOADED", str(error), retry_after=error.retry_after) from error
        self._endpoint.metrics.pending.set(batcher.pending)
        try:
            return await self._embed(await self._body(length, receive), receive)
        finally:
            batcher.release(room)
            self._endpoint.metrics.pending.set(batcher.pending)

    def _check_head(self, headers: dict[bytes, bytes]) -> int | None:
        """Check media type and length, and return the declared length, None if there is none."""
        media_type = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
        if media_type != npy.MEDIA_TYPE.encode():
            raise Refused(415, "MEDIA_TYPE", f"the body must be {npy.MEDIA_TYPE}")
        if b"content-encoding" in headers:
            raise Refused(415, "CONTENT_ENCODING", "the body must not be compressed")
        declared = headers.get(b"content-length")
        length = int(declared) if declared else None  # the HTTP parser has checked that it is a number
        if length and length > self._max_bytes:
            raise self._too_large()
        return length

    def _too_large(self) -> Refused:
        chips = self._endpoint.settings.max_chips
        message = f"at most {self._max_bytes} bytes ({chips} chips); send several requests"
        return Refused(413, "TOO_LARGE", message)

    async def _body(self, length: int | None, receive: Receive) -> bytearray:
        body, seconds = bytearray(), self._endpoint.settings.body_timeout
        try:
            async with asyncio.timeout(seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    body += message.get("body", b"")
                    if len(body) > self._max_bytes:
                        raise self._too_large()
                    if not message.get("more_body", False):
                        return body
        except TimeoutError as error:
            raise Refused(408, "SLOW_BODY", f"the body took more than {seconds:g} s", close=True) from error

    async def _embed(self, body: bytearray, receive: Receive) -> bytes:
        try:
            chips = npy.decode_chips(body, self._endpoint.settings.max_chips)
        except npy.BadBody as error:
            status = 413 if error.reason == "TOO_MANY_CHIPS" else 400
            raise Refused(status, error.reason, str(error)) from error
        future = self._endpoint.serving().submit(chips)
        # Requests of clients that are gone must not take the model's time.
        gone: asyncio.Future[None] = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait((future, gone), return_when=asyncio.FIRST_COMPLETED)
            if not future.done():
                raise ClientGone
            return npy.encode(future.result())
        except ModelFailed as error:
            raise Refused(500, "MODEL_FAILED", str(error), retry_after=1) from error
        finally:
            gone.cancel()
            future.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
