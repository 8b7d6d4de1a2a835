"""The service: read a request, ask for access, call the operation, translate errors."""

from __future__ import annotations

import logging
from typing import Any, Final

from abeyance.moratorium.authorization import is_number
from abeyance.moratorium.vocabulary import PURPOSE_FORM, is_purpose
from abeyance.pipeline.batch import error_fields
from abeyance.rekognition import wire
from abeyance.rekognition.access import Access
from abeyance.rekognition.call import ApiRequest, ApiResponse, Call, Grant, Timings
from abeyance.rekognition.errors import ApiError, invalid, translate
from abeyance.rekognition.operations import OPERATIONS, Services

log = logging.getLogger("abeyance")

#: Errors that the operator has to see.
_LOGGED: Final = frozenset({"InternalServerError", "ResourceNotReadyException"})


class Rekognition:
    """The Rekognition API. One object may answer several requests at a time.

    Parameters
    ----------
    access
        Decides who may do what.
    services
        Ports and adapters of the operations.
    """

    def __init__(self, access: Access, services: Services) -> None:
        self._access = access
        self._services = services
        self._model = wire.model()

    def __call__(self, request: ApiRequest) -> ApiResponse:
        """Return the answer to a request; every error is an answer too."""
        headers = {"Content-Type": wire.CONTENT_TYPE, "x-amzn-RequestId": request.id}
        timings = Timings()
        try:
            body = wire.write(self._answer(request, headers, timings))
            status = 200
        except Exception as error:  # noqa: BLE001 - every error has an answer
            answered = translate(error)
            body, status = wire.write_error(answered, request.id), answered.status
            if answered.name in _LOGGED:
                log.error(
                    "request failed",
                    extra={"request": request.id, **error_fields(error)},
                )
        headers["Server-Timing"] = timings.header()
        return ApiResponse(status, headers, body)

    def refuse_stranger(self, request: ApiRequest, error: ApiError) -> ApiError:
        """Count a request whose signature is wrong with those of all strangers; return the error to answer."""
        try:
            self._access.admit(request)
        except ApiError as limit:
            return limit
        return error

    def _answer(self, request: ApiRequest, headers: dict[str, str], timings: Timings) -> dict[str, Any]:
        self._access.admit(request)
        try:
            if not is_purpose(request.purpose):
                raise invalid(f"The purpose of the request is badly written. {PURPOSE_FORM}")
            if request.authorization and not is_number(request.authorization):
                raise invalid("The authorisation of the request is badly written; give its number.")
            operation = self._model.operation(request.target)
            params = self._model.read(operation, request.body)
        except ApiError:
            # An unregistered caller learns nothing else, and its attempt is on the ledger.
            self._access.registered(request, "unreadable")
            raise
        grant = self._grant(request, operation.name, params, timings)
        call = Call(request, params, grant, timings, headers)
        if grant.flags:
            headers["x-abeyance-flags"] = ",".join(grant.flags)
        return OPERATIONS[operation.name].answer(call, self._services)

    def _grant(self, request: ApiRequest, name: str, params: dict[str, Any], timings: Timings) -> Grant:
        operation = OPERATIONS[name]
        actions = operation.actions(params)
        collection, other = operation.collection(params), operation.other(params)
        with timings.measure("decide"):
            if not actions:
                return self._access.manage(request, name, collection, other)
            return self._access.permit(request, name, actions, collection, other, waits=operation.waits)
