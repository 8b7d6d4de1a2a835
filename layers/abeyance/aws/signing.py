"""AWS Signature Version 4 of a request as it was received, made with botocore's own signer."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials


class _Signer(SigV4Auth):  # type: ignore[misc]
    """botocore's signer; it signs the headers that it is given, and always the body."""

    def headers_to_sign(self, request: AWSRequest) -> Mapping[str, str]:
        headers: Mapping[str, str] = request.headers
        return headers

    def payload(self, request: AWSRequest) -> str:
        return hashlib.sha256(request.data or b"").hexdigest()


def signature_of(
    method: str,
    url: str,
    query: Mapping[str, str],
    headers: Mapping[str, str],
    body: bytes,
    *,
    secret: str,
    time: str,
    region: str,
    service: str,
) -> str:
    """Return the signature, 64 hexadecimal digits, of a request.

    Parameters
    ----------
    method, url, body
        Of the request; the URL without its query.
    query
        The query, decoded, without a signature.
    headers
        The headers that are signed, with ``host``.
    secret
        Of the access key.
    time
        Of the signature, ``YYYYMMDDTHHMMSSZ``.
    region, service
        What is signed for.
    """
    request = AWSRequest(method=method, url=url, headers=dict(headers), params=dict(query), data=body)
    request.context["timestamp"] = time
    signer = _Signer(Credentials("any", secret), service, region)
    return str(signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request))
