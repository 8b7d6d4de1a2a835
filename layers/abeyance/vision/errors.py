"""What can go wrong between bytes and templates. Imports nothing heavy, so that any room may catch these."""

from __future__ import annotations

from enum import StrEnum


class RejectReason(StrEnum):
    """Why an image was not decoded. The values are in events, results and the API, and never change."""

    #: Zero bytes.
    EMPTY = "EMPTY"
    #: The file is larger than the limit.
    TOO_MANY_BYTES = "TOO_MANY_BYTES"
    #: Not one of the accepted formats, whatever its name ends in.
    UNSUPPORTED_FORMAT = "UNSUPPORTED_FORMAT"
    #: The header declares more pixels, or a longer side, than the limit.
    TOO_MANY_PIXELS = "TOO_MANY_PIXELS"
    #: A side is shorter than the limit.
    TOO_SMALL = "TOO_SMALL"
    #: The file ends before its pixels do.
    TRUNCATED = "TRUNCATED"
    #: The format is accepted but the content cannot be decoded.
    CORRUPT = "CORRUPT"
    #: More than one frame: which of them is meant is not for us to guess.
    ANIMATED = "ANIMATED"


class ImageRejected(ValueError):
    """An image that is not worked on, and why.

    Attributes
    ----------
    reason
        Machine-readable; the text of the exception is for people and says what to do. Neither holds any
        content of the image.
    """

    def __init__(self, reason: RejectReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ModelError(Exception):
    """A model cannot be had or used. The text says what to do."""


class ManifestInvalid(ModelError):
    """The manifest, or an entry of it, is missing or malformed."""


class ModelMissing(ModelError):
    """The model is in the manifest but not on this machine."""


class ModelCorrupt(ModelError):
    """A file, downloaded or stored, is not the one that the manifest names."""


class ModelUnusable(ModelError):
    """The file does not do what its entry says: wrong shapes, or a failed conversion check."""


class PackageUnavailable(ModelError):
    """A registry package could not be downloaded: no client, no network, or no such version."""
