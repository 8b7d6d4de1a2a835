"""Errors by the names of Amazon Rekognition, and the table that turns the rooms' errors into them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from abeyance.aws.errors import THROTTLES, aws_code
from abeyance.aws.table import Conflict
from abeyance.embedding.port import EmbedderUnavailable
from abeyance.gallery import errors as gallery
from abeyance.pipeline.jobs import JobTokenReused
from abeyance.vision.errors import ImageRejected, ModelError, RejectReason

#: Errors with HTTP status 500, as the API reference says; every other one has 400.
FAULTS: Final = frozenset({"InternalServerError", "ThrottlingException"})


class ApiError(Exception):
    """An error for the caller: a name that its SDK knows, and a message without personal data."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name

    @property
    def status(self) -> int:
        """HTTP status code."""
        return 500 if self.name in FAULTS else 400


def invalid(message: str = "Request has invalid parameters") -> ApiError:
    """Return an InvalidParameterException."""
    return ApiError("InvalidParameterException", message)


SLOW_DOWN: Final = "Slow down; sudden increase in rate of requests"
#: A request that is refused for its size before it is read: here over 16 MiB, in AWS over 10 MB.
TOO_LARGE: Final = (
    "The request is too large. Send image bytes of at most 4.5 MB, or name a larger photo by S3Object."
)


def denied(reason: str) -> ApiError:
    """Return an AccessDeniedException."""
    return ApiError("AccessDeniedException", reason)


def unserved(reason: str) -> ApiError:
    """Return a ThrottlingException: nothing is permitted now, and the caller's SDK waits and asks again."""
    return ApiError("ThrottlingException", reason)


NO_FACE: Final = "There are no faces in the image. Should be at least 1."
NO_OBJECT: Final = (
    "Unable to get object metadata from S3. Check object key, region and/or access permissions. Abeyance reads the "
    "uploads bucket below the tenant's own id, and buckets that are registered for the tenant."
)

#: The rooms' errors, most special first -> the service's. Their messages are meant for callers.
NAMES: Final[Mapping[type[Exception], str]] = {
    gallery.CollectionNotFound: "ResourceNotFoundException",
    gallery.UserNotFound: "ResourceNotFoundException",
    gallery.CollectionExists: "ResourceAlreadyExistsException",
    gallery.UserExists: "ConflictException",
    gallery.CollectionChanged: "ConflictException",
    gallery.TooManyFaces: "ServiceQuotaExceededException",
    gallery.TooManyTags: "ServiceQuotaExceededException",
    gallery.TokenReused: "IdempotentParameterMismatchException",
    gallery.InvalidPage: "InvalidPaginationTokenException",
    gallery.GalleryBusy: "ThrottlingException",
    JobTokenReused: "IdempotentParameterMismatchException",
    Conflict: "ThrottlingException",
    EmbedderUnavailable: "ThrottlingException",
    gallery.ModelMismatch: "InvalidParameterException",
    gallery.InvalidInput: "InvalidParameterException",
    ModelError: "ResourceNotReadyException",
}

#: Reasons for rejecting an image, which none of a video alone is -> the service's error.
IMAGES: Final[Mapping[RejectReason, str]] = {
    RejectReason.EMPTY: "InvalidImageFormatException",
    RejectReason.TOO_MANY_BYTES: "ImageTooLargeException",
    RejectReason.TOO_MANY_PIXELS: "ImageTooLargeException",
    RejectReason.TOO_COSTLY: "ImageTooLargeException",
    RejectReason.UNSUPPORTED_FORMAT: "InvalidImageFormatException",
    RejectReason.TRUNCATED: "InvalidImageFormatException",
    RejectReason.CORRUPT: "InvalidImageFormatException",
    RejectReason.ANIMATED: "InvalidImageFormatException",
    RejectReason.TOO_SMALL: "InvalidParameterException",
}


def translate(error: Exception) -> ApiError:
    """Return the service's error for an exception; InternalServerError for one that is in no table."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, ImageRejected):
        return ApiError(IMAGES[error.reason], str(error))
    for kind, name in NAMES.items():
        if isinstance(error, kind):
            return ApiError(name, f"{error}")
    # Passed on as a throttle, so that the caller's SDK waits and retries.
    if aws_code(error) in THROTTLES:
        return ApiError("ThrottlingException", SLOW_DOWN)
    return ApiError("InternalServerError", "Internal server error")
