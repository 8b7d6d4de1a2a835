"""The ports: a gallery, and the part of it that a searcher reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from abeyance.gallery.model import (
    Collection,
    CollectionRef,
    Face,
    FacesOutcome,
    NewFace,
    Page,
    SourceObject,
    TemplateKind,
    User,
)

#: Bytes of an id in a :class:`Block`: a UUID's 16, or a user id padded with NUL.
ID_BYTES = {TemplateKind.FACE: 16, TemplateKind.USER: 128}


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Columns of templates, in ascending order of seq.

    Attributes
    ----------
    kind
        Faces or users.
    seqs
        (n,) int64, strictly ascending.
    ids
        (n, 16) uint8 for faces, the bytes of the UUIDs; (n, 128) uint8 for users, padded with NUL.
    templates
        (n, d) float16, unit length before rounding.
    """

    kind: TemplateKind
    seqs: npt.NDArray[np.int64]
    ids: npt.NDArray[np.uint8]
    templates: npt.NDArray[np.float16]


@dataclass(frozen=True, slots=True, eq=False)
class Changes:
    """The changes of a collection after a moment.

    Attributes
    ----------
    reset
        Forget everything read before: these blocks are the whole collection.
    collection
        The collection with these changes.
    blocks
        Templates that came.
    dead
        Seqs of templates that went: of blocks read earlier or of these. The order in which blocks and ``dead`` are
        applied does not matter, because a seq is never used twice.
    """

    reset: bool
    collection: Collection
    blocks: tuple[Block, ...] = ()
    dead: Sequence[int] = ()


class Feed(Protocol):
    """The part of a gallery that a searcher reads."""

    def changes(self, ref: CollectionRef, after: Collection | None = None) -> Changes:
        """Return everything that changed since a moment; the whole collection for ``None``.

        Strongly consistent: a change whose call has returned is in the answer.

        Raises
        ------
        CollectionNotFound
            There is no such collection (any more).
        """
        ...


class Gallery(Feed, Protocol):
    """Collections of faces and users. Every method is idempotent: after a failure, call it again.

    Any method on a collection raises :class:`~abeyance.gallery.errors.CollectionNotFound` where there is
    none, and any change raises :class:`~abeyance.gallery.errors.GalleryBusy` when other writers win every attempt.

    A read takes a collection's name, or the collection as :meth:`describe` or a search returned it. The latter saves
    the look-up of the name; once the collection is deleted, it finds what is not removed yet.
    """

    def create_collection(self, ref: CollectionRef, *, model: str, dimension: int) -> Collection:
        """Create an empty collection, pinned to one embedding model.

        Raises
        ------
        CollectionExists
            The tenant has one of that name.
        """
        ...

    def describe(self, ref: CollectionRef) -> Collection:
        """Return the collection as it is now."""
        ...

    def list_collections(self, tenant: str, *, limit: int = 100, token: str = "") -> Page[Collection]:
        """Return a page of the tenant's collections, by name. Raises ``InvalidPage`` on a token not from here."""
        ...

    def delete_collection(self, ref: CollectionRef) -> None:
        """Remove a collection with everything in it, here and in snapshots. It is gone at once.

        After a failure half-way the name is free already; call again to have the rest removed. A call with
        nothing to do or to finish raises ``CollectionNotFound``.
        """
        ...

    def sweep(self, tenant: str) -> int:
        """Finish the interrupted deletions of a tenant's collections; return how many there were."""
        ...

    def index(
        self, ref: CollectionRef, faces: Sequence[NewFace], *, source: SourceObject | None = None
    ) -> list[Face]:
        """Add faces; a face that is there stays as it is.

        With a ``source``, the faces become *all* the faces of that object: those of an older version of it are
        erased, and the same version again changes nothing, not even where a face was deleted since.

        Returns
        -------
        list of Face
            Those of ``faces`` that are in the collection now, in the order given.

        Raises
        ------
        ModelMismatch
            A template comes from another model than the collection's.
        Superseded
            The source object was deleted, or replaced, after this version.
        FaceTaken
            An id belongs to a face of another source.
        InvalidInput
            Ids that are no UUIDs or repeat, templates of another shape or not of unit length.
        """
        ...

    def get_faces(self, collection: CollectionRef | Collection, face_ids: Sequence[str]) -> list[Face]:
        """Return those of the faces that exist, in the order asked for."""
        ...

    def list_faces(
        self, ref: CollectionRef, *, limit: int = 1000, token: str = "", user_id: str = ""
    ) -> Page[Face]:
        """Return a page of faces, by id; with ``user_id``, that user's. Raises ``InvalidPage``, ``UserNotFound``."""
        ...

    def templates(
        self, collection: CollectionRef | Collection, face_ids: Sequence[str]
    ) -> dict[str, npt.NDArray[np.float32]]:
        """Return the templates of those of the faces that exist: (d,) float32, from float16. Personal data."""
        ...

    def delete_faces(self, ref: CollectionRef, face_ids: Sequence[str]) -> FacesOutcome:
        """Erase faces with their templates, in snapshots too; refuse, per face, those of a user."""
        ...

    def delete_source(self, ref: CollectionRef, source: SourceObject) -> tuple[str, ...]:
        """Erase every face of a source object, also those of a user, and refuse its late index events.

        With a ``version``, only if that is the version that is indexed: deleting an old version of an object
        leaves its present one alone. Returns the ids of the faces erased by this call.
        """
        ...

    def indexed_by(self, ref: CollectionRef, source: SourceObject) -> tuple[str, ...]:
        """Return the sequencers of the uploads that indexed this version of the object, or began to.

        Empty if another version or none is indexed.
        """
        ...

    def create_user(self, ref: CollectionRef, user_id: str, *, token: str = "") -> User:
        """Create a user without faces. Raises ``UserExists`` (unless the token says it was this request)."""
        ...

    def delete_user(
        self, ref: CollectionRef, user_id: str, *, token: str = "", only_empty: bool = False
    ) -> None:
        """Remove a user; its faces stay, without a user. Raises ``UserNotFound``.

        With ``only_empty``, a user that has faces stays.
        """
        ...

    def get_users(self, collection: CollectionRef | Collection, user_ids: Sequence[str]) -> list[User]:
        """Return those of the users that exist, in the order asked for."""
        ...

    def list_users(self, ref: CollectionRef, *, limit: int = 500, token: str = "") -> Page[User]:
        """Return a page of users, by id. Raises ``InvalidPage``."""
        ...

    def user_template(
        self, collection: CollectionRef | Collection, user_id: str
    ) -> npt.NDArray[np.float32] | None:
        """Return (d,) float32 from float16, or ``None`` for a user without faces. Raises ``UserNotFound``."""
        ...

    def associate_faces(
        self,
        ref: CollectionRef,
        user_id: str,
        face_ids: Sequence[str],
        *,
        min_cosine: float = -1.0,
        token: str = "",
    ) -> FacesOutcome:
        """Associate faces with the user. Those that are already are left out of the answer.

        A face whose cosine with the user's template is below ``min_cosine`` is refused; a user without
        faces has no template yet and takes any.

        Raises
        ------
        UserNotFound
            There is no such user.
        TooManyFaces
            The user would have more than 100.
        TokenReused
            The token was used for another request.
        """
        ...

    def disassociate_faces(
        self, ref: CollectionRef, user_id: str, face_ids: Sequence[str], *, token: str = ""
    ) -> FacesOutcome:
        """Take faces from the user; they stay in the collection. Raises ``UserNotFound``, ``TokenReused``."""
        ...

    def compact(self, ref: CollectionRef) -> int:
        """Write snapshot segments of the older changes, and finish erasures that a crash interrupted.

        Writers call it by themselves now and then. Returns how many segments this call wrote.
        """
        ...

    def renew(self, ref: CollectionRef) -> None:
        """Make searchers read a collection anew after its table was restored from a backup.

        Its seq went back, so a searcher could take changes from now on for those that it knows. Snapshots of after
        the backup are deleted. Nobody may write to the collection meanwhile.
        """
        ...
