"""Errors of images and models. Imports nothing heavy, so that any room may catch them."""

from __future__ import annotations

from enum import StrEnum


class RejectReason(StrEnum):
    """The reasons for rejecting an image or a video. The values are in events, results and the API; none changes."""

    #: Zero bytes.
    EMPTY = "EMPTY"
    #: The file is larger than the limit.
    TOO_MANY_BYTES = "TOO_MANY_BYTES"
    #: Not one of the accepted formats, whatever its name ends in.
    UNSUPPORTED_FORMAT = "UNSUPPORTED_FORMAT"
    #: The header declares more pixels, or a longer side, than the limit.
    TOO_MANY_PIXELS = "TOO_MANY_PIXELS"
    #: Decoding would take more memory or processor time than a photo may have.
    TOO_COSTLY = "TOO_COSTLY"
    #: A side is shorter than the limit.
    TOO_SMALL = "TOO_SMALL"
    #: The file ends before its pixels do.
    TRUNCATED = "TRUNCATED"
    #: The format is accepted but the content cannot be decoded.
    CORRUPT = "CORRUPT"
    #: More than one frame; which of them is meant is unknown.
    ANIMATED = "ANIMATED"
    #: A video takes longer than the limit.
    TOO_LONG = "TOO_LONG"
    #: A container without a video stream.
    NO_VIDEO = "NO_VIDEO"
    #: A video in a codec that is not accepted.
    UNSUPPORTED_CODEC = "UNSUPPORTED_CODEC"


class ImageRejected(ValueError):
    """An image that is not accepted, and the reason.

    Attributes
    ----------
    reason
        Machine-readable. The text of the exception is for people and says what to do. Neither holds content of the
        image.
    """

    def __init__(self, reason: RejectReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class VideoRejected(ImageRejected):
    """A video that is not accepted, and the reason, as of an image."""


class ModelError(Exception):
    """A model that cannot be had or used. The text says what to do."""


class ManifestInvalid(ModelError):
    """A manifest, or an entry of it, that is missing or malformed."""


class ModelMissing(ModelError):
    """A model of the manifest that is not on this machine."""


class ModelCorrupt(ModelError):
    """A file, downloaded or stored, that is not the one in the manifest."""


class ModelUnusable(ModelError):
    """A file that does not fit its entry: wrong shapes, or a failed conversion check."""


class PackageUnavailable(ModelError):
    """A registry package that cannot be downloaded: no client, no network, or no such version."""
