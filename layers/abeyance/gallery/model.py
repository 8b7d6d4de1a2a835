"""The values that a gallery stores and returns. Frozen and slotted; no numpy, no AWS."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

from abeyance.gallery.errors import InvalidInput

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

T = TypeVar("T")

TENANT_PATTERN = re.compile(r"[a-z0-9][a-z0-9-]{1,62}")
#: Amazon Rekognition's pattern of a CollectionId.
COLLECTION_PATTERN = re.compile(r"[a-zA-Z0-9_.\-]{1,255}")
#: Amazon Rekognition's pattern of a UserId.
USER_PATTERN = re.compile(r"[a-zA-Z0-9_.\-:]{1,128}")
#: Canonical lower-case UUID.
FACE_PATTERN = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
#: Pattern of the last id of a page: any of the three.
LISTED_PATTERN = re.compile(r"[a-zA-Z0-9_.\-:]{1,255}")

#: Most faces that one user can have (Amazon Rekognition's limit).
FACES_PER_USER = 100


def path_part(collection: str) -> str:
    """Return a collection's name as a part of a path or an address, which would resolve ``.`` and ``..``."""
    return f"~{collection}" if collection in (".", "..") else collection


class CollectionRef(msgspec.Struct, frozen=True, order=True):
    """The name of a collection and its tenant. Raises :class:`InvalidInput` on a name that could not exist."""

    tenant: str
    name: str

    def __post_init__(self) -> None:
        if not TENANT_PATTERN.fullmatch(self.tenant):
            raise InvalidInput("a tenant id is 2 to 63 of a-z, 0-9 and '-', and does not begin with '-'")
        if not COLLECTION_PATTERN.fullmatch(self.name):
            raise InvalidInput("a collection name is 1 to 255 of a-z, A-Z, 0-9, '_', '.' and '-'")

    def pk(self, generation: str) -> str:
        """Return the partition of the collection's items in the gallery table."""
        return f"{self.tenant}#{self.name}#{generation}"


class Collection(msgspec.Struct, frozen=True, kw_only=True):
    """A collection as of one moment.

    Reads and searches take it in place of a :class:`CollectionRef`; they then do not look the name up again, and see
    at least everything up to that moment.
    """

    ref: CollectionRef
    #: Identity of the embedding model that every template in it comes from.
    model: str
    #: Length of a template.
    dimension: int
    #: RFC 3339, UTC.
    created: str
    #: When a face or a user last came, went or was renamed; RFC 3339, UTC.
    changed: str
    face_count: int
    user_count: int
    #: Moves with every change; a searcher at this number has seen everything.
    seq: int
    #: Never the same for two collections, even when one took the other's name, nor before and after a restore.
    generation: str
    #: Name of the vector index that has every template of the collection; empty for none.
    vector_index: str = ""
    #: Name that it was created with, if it took another one since; empty otherwise.
    home: str = ""
    #: How many verdicts there are that two faces or users are not the same person.
    verdicts: int = 0

    @property
    def origin(self) -> CollectionRef:
        """The collection under the name that it was created with."""
        return CollectionRef(self.ref.tenant, self.home) if self.home else self.ref

    @property
    def pk(self) -> str:
        """Partition of the collection's items in the gallery table; no other collection ever has the same."""
        return self.origin.pk(self.generation.partition(".")[0])


class SourceObject(msgspec.Struct, frozen=True):
    """The S3 object that faces came from.

    ``version`` is the version id, or the ETag where the bucket keeps no versions. ``sequencer`` is the S3
    event's field of that name: it orders the events of one key. Without one, events count in the order of
    their arrival. ``etag`` is needed to read the object again.
    """

    bucket: str
    key: str
    version: str = ""
    sequencer: str = ""
    etag: str = ""


class FaceDetails(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a face that its caller gives and that a change of users leaves alone."""

    #: Identity of the embedding model.
    model: str
    #: Names the photo that it is from.
    image_id: str = ""
    external_image_id: str = ""
    #: left, top, width, height as shares of the upright photo's width and height; may reach outside 0..1.
    box: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    #: 0..1, that this is a face.
    confidence: float = 0.0
    #: Named measurements, as the caller gave them.
    quality: dict[str, float] = {}


class Face(FaceDetails, frozen=True, kw_only=True):
    """A face in a collection; its template stays in the gallery (see ``Gallery.templates``)."""

    #: Canonical lower-case UUID.
    id: str
    collection: CollectionRef
    source: SourceObject | None = None
    #: Empty, or the user that the face is associated with.
    user_id: str = ""
    seq: int
    #: RFC 3339, UTC.
    created: str


class NewFace(FaceDetails, frozen=True, kw_only=True, eq=False):
    """A face to index. The caller chooses the id; the same id again is the same face, and adds nothing.

    Derive ``id`` (a UUID, version 5 suits) from what makes two index requests the same: bucket, key, version
    and the face's number for a source object; content hash, external image id and number otherwise.
    """

    id: str
    #: (d,) float32, unit length.
    template: npt.NDArray[np.float32]


class RefusalReason(StrEnum):
    """The reason for which a face of a request was left as it was, by its name in Amazon Rekognition."""

    FACE_NOT_FOUND = "FACE_NOT_FOUND"
    ASSOCIATED_TO_AN_EXISTING_USER = "ASSOCIATED_TO_AN_EXISTING_USER"
    ASSOCIATED_TO_A_DIFFERENT_USER = "ASSOCIATED_TO_A_DIFFERENT_USER"
    LOW_MATCH_CONFIDENCE = "LOW_MATCH_CONFIDENCE"


class Refusal(msgspec.Struct, frozen=True):
    """A face of a request that was left as it was."""

    face_id: str
    reason: RefusalReason
    #: The user that stands in the way; empty if that is not the reason.
    user_id: str = ""
    #: Cosine with the user's template, for ``LOW_MATCH_CONFIDENCE``.
    cosine: float | None = None


class FacesOutcome(msgspec.Struct, frozen=True):
    """The effect of a request on several faces."""

    #: Face ids, in the order asked for.
    done: tuple[str, ...] = ()
    refused: tuple[Refusal, ...] = ()
    #: Status of the user afterwards, for association and disassociation.
    status: UserStatus | None = None


class UserStatus(StrEnum):
    """Amazon Rekognition's states of a user."""

    CREATED = "CREATED"
    UPDATING = "UPDATING"
    ACTIVE = "ACTIVE"


class User(msgspec.Struct, frozen=True, kw_only=True):
    """A person known by several faces."""

    id: str
    collection: CollectionRef
    status: UserStatus
    face_ids: tuple[str, ...] = ()
    seq: int
    created: str


class Page(msgspec.Struct, Generic[T], frozen=True):
    """Some items of a listing, and the token of the next page."""

    items: tuple[T, ...]
    #: Pass it to the next call; empty at the end.
    next_token: str = ""


class TemplateKind(StrEnum):
    """The kind of template that a search compares with."""

    FACE = "FACE"
    USER = "USER"


class Candidate(msgspec.Struct, frozen=True):
    """One result of a search."""

    #: Face id; the user id where users were searched.
    face_id: str
    #: -1..1, of the float16 templates, rounded to float32.
    cosine: float
