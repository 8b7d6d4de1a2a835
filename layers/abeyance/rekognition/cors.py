"""Cross-origin calls from web pages, for origins that the operator names; without any, a browser lets no page in."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Final

#: A scheme, a host and a port, as browsers write an origin; ``*`` is none.
_ORIGIN: Final = re.compile(r"https?://[a-z0-9.-]+(:\d{1,5})?")
#: Request headers of AWS SDKs in a browser, and our own.
ALLOWED_HEADERS: Final = (
    "amz-sdk-invocation-id",
    "amz-sdk-request",
    "authorization",
    "content-type",
    "x-abeyance-authorization",
    "x-abeyance-purpose",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-target",
    "x-amz-user-agent",
)
EXPOSED_HEADERS: Final = (
    "server-timing",
    "x-abeyance-flags",
    "x-abeyance-similarity-threshold",
    "x-amzn-errortype",
    "x-amzn-requestid",
)
#: Time for which a browser need not ask again.
MAX_AGE_S: Final = 600


def parse_origins(text: str) -> frozenset[str]:
    """Return the origins in a setting, separated by blanks; raise ``ValueError`` for anything else."""
    origins = frozenset(text.split())
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            raise ValueError(
                f"{origin} is no origin: write scheme, host and port, such as https://app.example.org"
            )
    return origins


def answer_headers(origin: str, allowed: Collection[str]) -> dict[str, str]:
    """Return the headers by which a browser gives an answer to a page of ``origin``; none for one that is not named."""
    if not allowed:
        return {}
    # Caches must not give one origin's answer to another.
    headers = {"Vary": "Origin"}
    if origin in allowed:
        headers["Access-Control-Allow-Origin"] = origin
        headers["Access-Control-Expose-Headers"] = ",".join(EXPOSED_HEADERS)
    return headers


def is_preflight(method: str, headers: Mapping[str, str]) -> bool:
    """Return whether a browser asks if a page may call the API; header names are in lower case."""
    asked = headers.get("access-control-request-headers", "").lower().replace(" ", "").split(",")
    return (
        method == "OPTIONS"
        and headers.get("access-control-request-method") == "POST"
        and "x-amz-target" in asked
    )


def preflight_headers(origin: str, allowed: Collection[str]) -> dict[str, str]:
    """Return the headers of the answer to a preflight of a page of ``origin``."""
    headers = answer_headers(origin, allowed)
    if "Access-Control-Allow-Origin" in headers:
        headers["Access-Control-Allow-Methods"] = "POST"
        headers["Access-Control-Allow-Headers"] = ",".join(ALLOWED_HEADERS)
        headers["Access-Control-Max-Age"] = str(MAX_AGE_S)
    return headers
