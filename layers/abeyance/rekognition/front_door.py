"""The way in: callers whom API Gateway has verified by IAM, and callers who sign with a key of this deployment."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from abeyance.rekognition.errors import ApiError
from abeyance.rekognition.gateway import error_response, request_of, response_of, signed_request_of
from abeyance.rekognition.service import Rekognition
from abeyance.rekognition.sigv4 import SignatureVerifier


class FrontDoor:
    """Answers proxy events of API Gateway.

    Parameters
    ----------
    service
        Answers requests of known principals.
    verifier
        Verifies signatures that API Gateway has not.
    """

    def __init__(self, service: Rekognition, verifier: SignatureVerifier) -> None:
        self._service = service
        self._verifier = verifier

    def __call__(self, event: Mapping[str, Any], region: str) -> dict[str, Any]:
        """Return the proxy response of the API of a region."""
        request = request_of(event, region)
        signed = signed_request_of(event)
        is_signed = "authorization" in signed.headers or "X-Amz-Signature" in signed.query
        if not request.principal and is_signed:
            try:
                key_id = self._verifier.verify(signed, request.region)
            except ApiError as error:
                return error_response(self._service.refuse_stranger(request, error))
            request = dataclasses.replace(request, principal=key_id)
        return response_of(self._service(request))
