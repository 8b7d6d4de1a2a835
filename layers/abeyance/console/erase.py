"""Erasing a person: every face of theirs, their user, their pictures and their open reviews, with a receipt.

The request is on the ledger before the first face goes, the receipt after the last one went. If it breaks off between
the two, erasing again goes on from there: every step is idempotent.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from abeyance.aws.timestamps import timestamp
from abeyance.console.desk import Desk, Ledger
from abeyance.console.errors import NotFound, Refused, Unavailable
from abeyance.console.people import Person
from abeyance.console.pictures import Pictures
from abeyance.gallery.errors import CollectionNotFound, UserNotFound
from abeyance.gallery.model import Collection, CollectionRef, Face
from abeyance.gallery.port import Gallery
from abeyance.ledger.chain import Record
from abeyance.ledger.errors import LedgerUnavailable

ASKED: Final = "person.erasing"
ERASED: Final = "person.erased"
#: How a person can be named.
BY: Final = ("user_id", "external_image_id", "face_id")
_CHUNK: Final = 100


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a person in one collection."""

    faces: tuple[Face, ...]
    users: tuple[str, ...]

    @property
    def photos(self) -> int:
        """Photos in the uploads bucket that they are in."""
        return len({(face.source.bucket, face.source.key) for face in self.faces if face.source})


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What was erased. ``id`` is that of the ledger's entry."""

    id: str
    faces: int
    users: int
    pictures: int
    comparisons: int
    photos: int


class Galleries:
    """What the gallery pages ask. ``pseudonym`` hides whom a receipt is about."""

    def __init__(
        self,
        gallery: Gallery,
        pictures: Pictures,
        desk: Desk,
        ledger: Ledger,
        pseudonym: Callable[[str], str],
    ) -> None:
        self._gallery = gallery
        self._pictures = pictures
        self._desk = desk
        self._ledger = ledger
        self._pseudonym = pseudonym

    def collections(self, tenant: str) -> Iterator[Collection]:
        """A tenant's collections, by name."""
        token = ""
        while True:
            page = self._gallery.list_collections(tenant, token=token)
            yield from page.items
            if not (token := page.next_token):
                return

    def describe(self, ref: CollectionRef) -> Collection:
        """One collection; raises :class:`NotFound`."""
        try:
            return self._gallery.describe(ref)
        except CollectionNotFound:
            raise NotFound("There is no such collection.") from None

    def find(self, ref: CollectionRef, by: str, name: str) -> Subject:
        """All faces of a person: those that are named so, and those of every user that one of them belongs to.

        Raises :class:`NotFound` if there is neither a face nor a user of that name.
        """
        if by not in BY or not name:
            raise Refused("Name a user, an external image id, or a face.")
        self.describe(ref)
        users = {name} if by == "user_id" else set()
        named = {
            face.id: face
            for face in self._all(ref)
            if (by == "external_image_id" and face.external_image_id == name)
            or (by == "face_id" and face.id == name)
        }
        users |= {face.user_id for face in named.values() if face.user_id}
        known = tuple(user.id for user in self._gallery.get_users(ref, sorted(users)))
        for user in known:
            named |= {face.id: face for face in self._all(ref, user)}
        if not named and not known:
            raise NotFound("Nobody in this collection has that name.")
        return Subject(faces=tuple(named[face_id] for face_id in sorted(named)), users=known)

    def erase(self, person: Person, ref: CollectionRef, by: str, name: str) -> Receipt:
        """Erase everything that :meth:`find` finds. Raises as it does, and :class:`Unavailable`."""
        subject = self.find(ref, by, name)
        token = secrets.token_hex(8)
        body: dict[str, Any] = {
            "tenant": ref.tenant,
            "collection": ref.name,
            "subject": self._pseudonym(f"{ref.tenant}/{ref.name}/{by}/{name}"),
            "named_by": by,
            "principal": self._pseudonym(f"principal/{person.principal}"),
            "faces": len(subject.faces),
            "users": len(subject.users),
        }
        self._tell(f"erase:{token}:asked", ASKED, body)
        ids = [face.id for face in subject.faces]
        for user in subject.users:
            self._release(ref, user)
        pictures = sum(self._pictures.blank(face) for face in subject.faces)
        for start in range(0, len(ids), _CHUNK):
            outcome = self._gallery.delete_faces(ref, ids[start : start + _CHUNK])
            stayed = [one for one in outcome.refused if str(one.reason) != "FACE_NOT_FOUND"]
            if stayed:
                raise Unavailable(f"{len(stayed)} faces could not be erased just now. Erase again.")
        self._gallery.compact(ref)
        ended = self._desk.forget(ref, ids)
        receipt = Receipt(
            id=f"erase:{token}:done",
            faces=len(ids),
            users=len(subject.users),
            pictures=pictures,
            comparisons=ended,
            photos=subject.photos,
        )
        self._tell(receipt.id, ERASED, {**body, "chips": pictures, "comparisons": ended})
        return receipt

    def _release(self, ref: CollectionRef, user: str) -> None:
        """Remove the user; its faces stay, and can be deleted then."""
        try:
            self._gallery.delete_user(ref, user)
        except UserNotFound:
            return

    def _all(self, ref: CollectionRef, user: str = "") -> Iterator[Face]:
        token = ""
        while True:
            page = self._gallery.list_faces(ref, token=token, user_id=user)
            yield from page.items
            if not (token := page.next_token):
                return

    def _tell(self, record_id: str, kind: str, body: dict[str, Any]) -> None:
        try:
            self._ledger.put(Record(id=record_id, type=kind, time=timestamp(), body=body))
        except LedgerUnavailable:
            raise Unavailable("The ledger did not confirm. Erase again.") from None
