"""API Gateway: proxy events to requests, answers to proxy responses."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Final

from abeyance.encoding import decode_base64
from abeyance.moratorium.vocabulary import UNSPECIFIED
from abeyance.rekognition.call import ApiRequest, ApiResponse, ReceivedRequest
from abeyance.rekognition.errors import ApiError
from abeyance.rekognition.wire import CONTENT_TYPE, write_error

#: Header with the purpose of a request.
PURPOSE_HEADER: Final = "x-abeyance-purpose"

#: Header with the number of the authorisation that a request uses.
AUTHORIZATION_HEADER: Final = "x-abeyance-authorization"


def request_of(event: Mapping[str, Any], region: str = "") -> ApiRequest:
    """Return the request in a REST API proxy event with IAM authorisation, to the API of a region.

    The principal comes from the signature that API Gateway verified, never from a header.
    """
    context = event.get("requestContext") or {}
    # API Gateway's own context has no region; the one of this machine has that of the signature.
    region = context.get("region") or region
    headers = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
    return ApiRequest(
        target=headers.get("x-amz-target", ""),
        body=_body(event),
        principal=(context.get("identity") or {}).get("userArn") or "",
        id=context.get("requestId") or str(uuid.uuid4()),
        purpose=headers.get(PURPOSE_HEADER, UNSPECIFIED),
        authorization=headers.get(AUTHORIZATION_HEADER, ""),
        account=context.get("accountId") or "",
        region=region,
    )


def response_of(answer: ApiResponse) -> dict[str, Any]:
    """Return the answer as a Lambda proxy response."""
    return {
        "statusCode": answer.status,
        "headers": dict(answer.headers),
        "body": answer.body.decode(),
        "isBase64Encoded": False,
    }


def signed_request_of(event: Mapping[str, Any]) -> ReceivedRequest:
    """Return the HTTP request in a proxy event, as it was signed."""
    context = event.get("requestContext") or {}
    headers = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
    body = _body(event)
    # API Gateway keeps this one to itself, and some SDKs sign it.
    headers.setdefault("content-length", str(len(body)))
    return ReceivedRequest(
        method=event.get("httpMethod", ""),
        host=headers.get("host", ""),
        path=context.get("path") or event.get("path") or "/",
        query=dict(event.get("queryStringParameters") or {}),
        headers=headers,
        body=body,
    )


def header_of(event: Mapping[str, Any], name: str) -> str:
    """Return a header of a proxy event, empty without it; ``name`` is in lower case."""
    return next((value for own, value in (event.get("headers") or {}).items() if own.lower() == name), "")


def error_response(error: ApiError) -> dict[str, Any]:
    """Return the Lambda proxy response of an error that is answered in front of the service."""
    request_id = str(uuid.uuid4())
    headers = {"Content-Type": CONTENT_TYPE, "x-amzn-RequestId": request_id}
    return response_of(ApiResponse(error.status, headers, write_error(error, request_id)))


def _body(event: Mapping[str, Any]) -> bytes:
    body: str = event.get("body") or ""
    if not event.get("isBase64Encoded"):
        return body.encode()
    try:
        return decode_base64(body)
    except ValueError:
        # No JSON either, which is what the caller is then told.
        return body.encode()
