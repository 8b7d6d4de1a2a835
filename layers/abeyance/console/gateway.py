"""The adapter from an HTTP API of API Gateway (payload format 2.0) to WSGI."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Response

from abeyance.encoding import decode_base64, encode_base64

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


def answer(application: WSGIApplication, event: Mapping[str, Any]) -> dict[str, Any]:
    """Answer an event. The body of the answer is always base64, because it may be text or bytes.

    The client address and the host name come from API Gateway's request context. Headers of a proxy, which anybody can
    send, are not read.
    """
    context, headers = event["requestContext"], dict(event["headers"])
    http = context["http"]
    headers["host"] = context.get("domainName") or headers.get("host", "localhost")
    if event.get("cookies"):
        headers["cookie"] = "; ".join(event["cookies"])
    text = event.get("body") or ""
    try:
        body = decode_base64(text) if event.get("isBase64Encoded") else text.encode()
    except ValueError:
        return {"statusCode": 400, "headers": {}, "body": "The body is not base64.", "isBase64Encoded": False}
    headers.pop("content-length", None)
    environ = EnvironBuilder(
        query_string=event.get("rawQueryString", ""),
        base_url=f"https://{headers['host']}/",
        method=http["method"],
        headers=headers,
        data=body,
        environ_base={"REMOTE_ADDR": http["sourceIp"]},
    ).get_environ()
    # Not by way of the builder, which would read it as an address. An HTTP API has decoded everything but %25.
    environ["PATH_INFO"] = unquote(event["rawPath"]).encode().decode("latin-1")
    response = Response.from_app(application, environ, buffered=True)
    return {
        "statusCode": response.status_code,
        "headers": {name: value for name, value in response.headers if name.lower() != "set-cookie"},
        "cookies": response.headers.getlist("Set-Cookie"),
        "body": encode_base64(response.get_data()),
        "isBase64Encoded": True,
    }
