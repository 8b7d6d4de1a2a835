"""Collections, and erasure of a person: every face, the user, the pictures and the open reviews, with a receipt.

The request is on the ledger before the first face is deleted, the receipt after the last one. After a failure in
between, erase again: every step is idempotent.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

import msgspec

from abeyance.aws.timestamps import timestamp
from abeyance.console.errors import NotFound, RequestRefused, Unavailable
from abeyance.console.pictures import Pictures
from abeyance.console.reviews import RecordQueue, ReviewService
from abeyance.console.roles import Person
from abeyance.gallery.errors import CollectionNotFound, UserNotFound
from abeyance.gallery.model import Collection, CollectionRef, Face, Page
from abeyance.gallery.port import Gallery
from abeyance.ledger.chain import Record
from abeyance.ledger.errors import LedgerUnavailable

#: Ledger entry types: before the first deletion, and the receipt after the last one.
ERASING: Final = "person.erasing"
ERASED: Final = "person.erased"
#: The ways to name a person.
NAMED_BY: Final = ("user_id", "external_image_id", "face_id")
_FACES_A_DELETION: Final = 100

T = TypeVar("T")


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """The faces and users of one person in one collection."""

    faces: tuple[Face, ...]
    users: tuple[str, ...]

    @property
    def photos(self) -> int:
        """Number of photos in the uploads bucket that the faces come from."""
        return len({(face.source.bucket, face.source.key) for face in self.faces if face.source})


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of things erased; ``photos`` stay in the uploads bucket. ``id`` is that of the ledger entry."""

    id: str
    faces: int
    users: int
    pictures: int
    comparisons: int
    photos: int


class GalleryService:
    """Collections and erasure. ``pseudonym`` hides the person that a receipt is about and the person who erases."""

    def __init__(
        self,
        gallery: Gallery,
        pictures: Pictures,
        reviews: ReviewService,
        ledger: RecordQueue,
        pseudonym: Callable[[str], str],
    ) -> None:
        self._gallery = gallery
        self._pictures = pictures
        self._reviews = reviews
        self._ledger = ledger
        self._pseudonym = pseudonym

    def collections(self, tenant: str) -> Iterator[Collection]:
        """Return a tenant's collections, by name."""
        return _items(lambda token: self._gallery.list_collections(tenant, token=token))

    def describe(self, ref: CollectionRef) -> Collection:
        """Return one collection; raises :class:`NotFound`."""
        try:
            return self._gallery.describe(ref)
        except CollectionNotFound:
            raise NotFound("There is no such collection.") from None

    def find(self, ref: CollectionRef, named_by: str, name: str) -> Subject:
        """Find all faces of a person: those with the name, and those of every user that one of them belongs to.

        Raises :class:`NotFound` if no face and no user has the name.
        """
        if named_by not in NAMED_BY or not name:
            raise RequestRefused("Name a user, an external image id, or a face.")
        self.describe(ref)
        users = {name} if named_by == "user_id" else set()
        named = {
            face.id: face
            for face in self._faces(ref)
            if (named_by == "external_image_id" and face.external_image_id == name)
            or (named_by == "face_id" and face.id == name)
        }
        users |= {face.user_id for face in named.values() if face.user_id}
        known = tuple(user.id for user in self._gallery.get_users(ref, sorted(users)))
        for user in known:
            named |= {face.id: face for face in self._faces(ref, user)}
        if not named and not known:
            raise NotFound("No face or user in this collection has that name.")
        return Subject(faces=tuple(named[face_id] for face_id in sorted(named)), users=known)

    def erase(self, person: Person, ref: CollectionRef, named_by: str, name: str) -> Receipt:
        """Erase everything that :meth:`find` returns. Raises its errors, and :class:`Unavailable`."""
        subject = self.find(ref, named_by, name)
        token = secrets.token_hex(8)
        body: dict[str, Any] = {
            "tenant": ref.tenant,
            "collection": ref.name,
            "subject": self._pseudonym(f"{ref.tenant}/{ref.name}/{named_by}/{name}"),
            "named_by": named_by,
            "principal": self._pseudonym(f"principal/{person.principal}"),
            "faces": len(subject.faces),
            "users": len(subject.users),
        }
        self._record(f"erase:{token}:asked", ERASING, body)
        face_ids = [face.id for face in subject.faces]
        for user in subject.users:  # Its faces stay, and only then can be deleted.
            with contextlib.suppress(UserNotFound):
                self._gallery.delete_user(ref, user)
        pictures = sum(self._pictures.blank(face) for face in subject.faces)
        for start in range(0, len(face_ids), _FACES_A_DELETION):
            outcome = self._gallery.delete_faces(ref, face_ids[start : start + _FACES_A_DELETION])
            left = [one for one in outcome.refused if str(one.reason) != "FACE_NOT_FOUND"]
            if left:
                raise Unavailable(f"{len(left)} faces could not be erased now. Erase again.")
        self._gallery.compact(ref)
        comparisons = self._reviews.forget(ref, face_ids)
        receipt = Receipt(
            id=f"erase:{token}:done",
            faces=len(face_ids),
            users=len(subject.users),
            pictures=pictures,
            comparisons=comparisons,
            photos=subject.photos,
        )
        self._record(receipt.id, ERASED, {**body, "chips": pictures, "comparisons": comparisons})
        return receipt

    def _faces(self, ref: CollectionRef, user: str = "") -> Iterator[Face]:
        return _items(lambda token: self._gallery.list_faces(ref, token=token, user_id=user))

    def _record(self, record_id: str, kind: str, body: dict[str, Any]) -> None:
        try:
            self._ledger.put(Record(id=record_id, type=kind, time=timestamp(), body=body))
        except LedgerUnavailable:
            raise Unavailable("The ledger did not confirm. Erase again.") from None


def _items(page: Callable[[str], Page[T]]) -> Iterator[T]:
    """Yield the items of all pages; ``page`` returns the page of a token, the first one of ""."""
    token = ""
    while True:
        found = page(token)
        yield from found.items
        if not (token := found.next_token):
            return
