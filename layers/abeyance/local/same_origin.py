"""Refuses what a web page of another origin sends to the local URL: cross-site requests and DNS rebinding.

Nothing at the local URL verifies a signature, so a browser on this machine must not be a way in for any page that it
has open. A request is let in if its ``Host`` is an address of this server, and if nothing that browsers add says that
another origin made it:

- ``Host``: a page whose name is rebound to 127.0.0.1 sends its own name.
- ``Origin``: sent with every cross-origin request but plain reads, with every POST, and as ``null`` by sandboxed pages.
- ``Sec-Fetch-Site``: sent with every request to a loopback address, plain reads included (images, scripts, links).

Programs, among them the AWS SDKs, send neither of the last two. What S3 serves is a file of somebody's; a browser gets
it sandboxed, so that a page among the files has no part in this server's origin.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

StartResponse = Callable[..., Any]

#: Addresses of this server, and below ``localhost`` the virtual-hosted buckets. ``localhost`` is nobody's domain
#: (RFC 6761), so no page of the web can have such a name.
_HOST: Final = re.compile(r"(?:127\.0\.0\.1|\[::1\]|(?:[a-z0-9.-]+\.)?localhost):(\d+)", re.ASCII)
#: ``same-origin`` is the console; ``none`` is what a person types or opens from a terminal.
_OWN_SITES: Final = frozenset({"same-origin", "none"})
#: The sandbox gives a page an origin of its own, which is sent as ``null``.
_SANDBOX: Final = (("Content-Security-Policy", "sandbox"), ("X-Content-Type-Options", "nosniff"))


def find_refusal(environ: Mapping[str, Any], port: int, *, origin_is_named: bool = False) -> str:
    """Return the reason for refusing a request, a sentence for its sender; empty for a request to let in.

    Parameters
    ----------
    environ
        The request's WSGI environment.
    port
        The server's own.
    origin_is_named
        Whether the person who started the server lets pages of the request's origin make this request.
    """
    host = str(environ.get("HTTP_HOST", "")).lower()
    named = _HOST.fullmatch(host)
    if named is None or int(named[1]) != port:
        return (
            f"This server answers to 127.0.0.1:{port} and localhost:{port} only; correct the request's Host."
        )
    if origin_is_named:
        return ""
    origin = environ.get("HTTP_ORIGIN")
    if origin is not None and origin.lower() != f"http://{host}":
        return "A web page of another origin cannot use this server; send the request from a program."
    if environ.get("HTTP_SEC_FETCH_SITE", "none") not in _OWN_SITES:
        return "A web page of another origin cannot use this server; open the address by hand."
    return ""


def refuse(reason: str, start_response: StartResponse) -> Iterable[bytes]:
    """Answer 403 with an AWS error that carries the reason."""
    body = json.dumps({"__type": "AccessDeniedException", "message": reason}).encode()
    headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("x-amzn-ErrorType", "AccessDeniedException"),
        # The body of a refused request is not read.
        ("Connection", "close"),
    ]
    start_response("403 Forbidden", headers)
    return [body]


def sandboxed(start_response: StartResponse) -> StartResponse:
    """Return ``start_response`` for an answer of AWS: shared with no other origin, and sandboxed in a browser."""

    def start(status: str, headers: Iterable[tuple[str, str]], *more: Any) -> Any:
        own = [pair for pair in headers if not pair[0].lower().startswith("access-control-")]
        return start_response(status, [*own, *_SANDBOX], *more)

    return start
