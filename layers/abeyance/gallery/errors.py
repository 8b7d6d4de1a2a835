"""The errors of a gallery, each with what to do about it. No message carries personal data."""

from __future__ import annotations


class GalleryError(Exception):
    """Base of a gallery's errors."""


class InvalidInput(GalleryError, ValueError):
    """An argument breaks a documented rule: an id that is no UUID, a template that is not unit length, …"""


class InvalidPage(InvalidInput):
    """A paging token that is not from this listing. Start again without a token."""


class CollectionNotFound(GalleryError):
    """The tenant has no collection of that name. Create it first."""


class CollectionExists(GalleryError):
    """The tenant has a collection of that name already. Use it, or delete it first."""


class CollectionChanged(GalleryError):
    """A collection is not as it was when it was read. Read it again and decide anew."""


class ModelMismatch(GalleryError):
    """Templates of another model than the collection's. Re-embed into a new collection."""


class Superseded(GalleryError):
    """The source object was deleted or replaced after this version of it. Drop the event."""


class FaceTaken(GalleryError):
    """A face id is in use by a face of another source. Derive face ids from bucket, key and version."""


class UserNotFound(GalleryError):
    """The collection has no user of that id. Create it first."""


class UserExists(GalleryError):
    """The collection has a user of that id already. Use it, or delete it first."""


class TooManyFaces(GalleryError):
    """A user would have more than 100 associated faces. Disassociate some first."""


class TooManyTags(GalleryError):
    """A collection would have more than 200 tags. Remove some first."""


class TokenReused(GalleryError):
    """An idempotency token came back with another request. Use a fresh token for each request."""


class GalleryBusy(GalleryError):
    """Other writers won every attempt. Nothing more was changed; try again after a moment."""


class IndexUnavailable(GalleryError):
    """DynamoDB's vector index is not there or not filled yet. Wait until it is ACTIVE, or deploy without it."""
