"""Collections, and erasure of a person: what is held about them, and its end, with a receipt."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

from abeyance.console.errors import NotFound, RequestRefused, Unavailable
from abeyance.console.roles import Person
from abeyance.erasure.erase import NAMED_BY, Erasures, ErasureUnfinished, NobodyFound
from abeyance.erasure.store import Erasure
from abeyance.erasure.view import Held
from abeyance.erasure.walk import items_of
from abeyance.gallery.errors import CollectionNotFound, InvalidPage
from abeyance.gallery.facade import Gallery
from abeyance.gallery.model import Collection, CollectionRef, Face, Page, User

#: Users of one page.
USERS_A_PAGE: Final = 100


class GalleryService:
    """Collections, and the erasures of :class:`~abeyance.erasure.erase.Erasures` with errors for people."""

    def __init__(self, gallery: Gallery, erasures: Erasures) -> None:
        self._gallery = gallery
        self._erasures = erasures
        self.resume = erasures.resume

    def collections(self, tenant: str) -> Iterator[Collection]:
        """Return a tenant's collections, by name."""
        return items_of(lambda token: self._gallery.list_collections(tenant, token=token))

    def describe(self, ref: CollectionRef) -> Collection:
        """Return one collection; raises :class:`NotFound`."""
        try:
            return self._gallery.describe(ref)
        except CollectionNotFound:
            raise NotFound("There is no such collection.") from None

    def users(self, ref: CollectionRef, token: str) -> Page[User]:
        """Return a page of a collection's users, by id; raises :class:`NotFound`."""
        try:
            return self._gallery.list_users(ref, limit=USERS_A_PAGE, token=token)
        except (CollectionNotFound, InvalidPage):
            raise NotFound("There is no such page of users.") from None

    def face(self, ref: CollectionRef, face_id: str) -> Face:
        """Return a face; raises :class:`NotFound`."""
        try:
            found = self._gallery.get_faces(ref, [face_id])
        except CollectionNotFound:
            found = []
        if not found:
            raise NotFound("There is no such face.")
        return found[0]

    def find(self, ref: CollectionRef, named_by: str, name: str) -> Held:
        """Return what is held about a person. Raises :class:`NotFound` and :class:`RequestRefused`."""
        with _errors_for_people(named_by, name):
            return self._erasures.find(ref, named_by, name)

    def erase(self, person: Person, ref: CollectionRef, named_by: str, name: str) -> Erasure:
        """Erase everything that :meth:`find` returns. Raises its errors, and :class:`Unavailable`."""
        with _errors_for_people(named_by, name):
            return self._erasures.erase(person.principal, ref, named_by, name)


@contextlib.contextmanager
def _errors_for_people(named_by: str, name: str) -> Iterator[None]:
    if named_by not in NAMED_BY or not name:
        raise RequestRefused("Name a user, an external image id, a file, or a face.")
    try:
        yield
    except NobodyFound as error:
        raise NotFound(str(error)) from None
    except ErasureUnfinished as error:
        raise Unavailable(str(error)) from None
