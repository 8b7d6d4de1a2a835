"""Errors by the service's names, and the one table that turns the rooms' errors into them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from abeyance.embedding.port import EmbedderUnavailable
from abeyance.gallery import errors as gallery
from abeyance.gallery.table import Conflict
from abeyance.vision.errors import ImageRejected, RejectReason

#: Errors that are the service's fault, HTTP 500, as the API reference says; every other one is 400.
FAULTS: Final = frozenset({"InternalServerError", "ThrottlingException"})


class ApiError(Exception):
    """What a caller is told: a name that its SDK knows, and words. The words hold nothing personal."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name

    @property
    def status(self) -> int:
        """HTTP status."""
        return 500 if self.name in FAULTS else 400


def invalid(message: str = "Request has invalid parameters") -> ApiError:
    """InvalidParameterException."""
    return ApiError("InvalidParameterException", message)


def denied(reason: str) -> ApiError:
    """AccessDeniedException."""
    return ApiError("AccessDeniedException", reason)


NO_FACE: Final = "There are no faces in the image. Should be at least 1."
NO_OBJECT: Final = (
    "Unable to get object metadata from S3. Check object key, region and/or access permissions."
)

#: The rooms' errors, most special first -> the service's. The words of a gallery error are meant for callers.
NAMES: Final[Mapping[type[Exception], str]] = {
    gallery.CollectionNotFound: "ResourceNotFoundException",
    gallery.UserNotFound: "ResourceNotFoundException",
    gallery.CollectionExists: "ResourceAlreadyExistsException",
    gallery.UserExists: "ConflictException",
    gallery.TooManyFaces: "ServiceQuotaExceededException",
    gallery.TokenReused: "IdempotentParameterMismatchException",
    gallery.InvalidPage: "InvalidPaginationTokenException",
    gallery.GalleryBusy: "ThrottlingException",
    Conflict: "ThrottlingException",
    EmbedderUnavailable: "ThrottlingException",
    gallery.ModelMismatch: "InvalidParameterException",
    gallery.InvalidInput: "InvalidParameterException",
}

#: Why an image is not worked on -> the service's error.
IMAGES: Final[Mapping[RejectReason, str]] = {
    RejectReason.EMPTY: "InvalidImageFormatException",
    RejectReason.TOO_MANY_BYTES: "ImageTooLargeException",
    RejectReason.TOO_MANY_PIXELS: "ImageTooLargeException",
    RejectReason.UNSUPPORTED_FORMAT: "InvalidImageFormatException",
    RejectReason.TRUNCATED: "InvalidImageFormatException",
    RejectReason.CORRUPT: "InvalidImageFormatException",
    RejectReason.ANIMATED: "InvalidImageFormatException",
    RejectReason.TOO_SMALL: "InvalidParameterException",
}

#: What AWS says when it is asked too often. Passed on as a throttle, so that the caller's SDK waits and retries.
_THROTTLES: Final = frozenset(
    {
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "SlowDown",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)


def translate(error: Exception) -> ApiError:
    """The service's error for whatever went wrong; InternalServerError for what is in no table."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, ImageRejected):
        return ApiError(IMAGES[error.reason], str(error))
    for kind, name in NAMES.items():
        if isinstance(error, kind):
            return ApiError(name, f"{error}")
    if aws_code(error) in _THROTTLES:
        return ApiError("ThrottlingException", "Slow down; sudden increase in rate of requests")
    return ApiError("InternalServerError", "Internal server error")


def aws_code(error: Exception) -> str:
    """The code of an error of AWS, as botocore carries it; empty for any other."""
    response = getattr(error, "response", None)
    code = response.get("Error", {}).get("Code", "") if isinstance(response, dict) else ""
    return code if isinstance(code, str) else ""
