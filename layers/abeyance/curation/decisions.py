"""Merges, splits and verdicts. Each is on the ledger before anything changes.

A merge or a split makes a template of a user anew, so it is decided as ``index``. A verdict only takes matches away.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from abeyance.aws.timestamps import timestamp
from abeyance.erasure.traces import subject_pseudonym
from abeyance.gallery.errors import GalleryError, UserExists
from abeyance.gallery.facade import Gallery
from abeyance.gallery.model import CollectionRef, Face, TemplateKind, User
from abeyance.gallery.verdicts import CollectionSubject
from abeyance.ledger.admissible import named
from abeyance.ledger.entry import Record
from abeyance.ledger.errors import LedgerUnavailable
from abeyance.ledger.queue import RecordQueue
from abeyance.moratorium.decide import Decision
from abeyance.moratorium.guard import Guard
from abeyance.moratorium.vocabulary import Action

if TYPE_CHECKING:
    from abeyance.curation.findings import Finding
    from abeyance.vision.similarity import SimilarityScale

#: Types of ledger entries.
MERGED: Final = "person.merged"
SPLIT: Final = "person.split"
NOT_THE_PERSON: Final = "person.not"
WITHDRAWN: Final = "person.not.withdrawn"
CHECKED: Final = "person.checked"
SEEN: Final = "person.seen"
DENIED: Final = "person.denied"

_NAMED_BY: Final = {TemplateKind.FACE: "face_id", TemplateKind.USER: "user_id"}


class CurationRefused(Exception):
    """A decision that cannot be made; the message says why. Nothing was changed."""


class UserFaces(msgspec.Struct, frozen=True):
    """A user with their faces, and the faces and users that people said are somebody else."""

    user: User
    faces: tuple[Face, ...]
    others: tuple[CollectionSubject, ...]


class Curation:
    """The decisions of people about the users of collections.

    Parameters
    ----------
    guard
        Decides merges and splits.
    ledger
        Takes every decision before it has an effect.
    hide
        Makes the pseudonyms of names and principals.
    scale_of
        Returns the similarity scale of a model; None for one that is not known.
    """

    def __init__(
        self,
        gallery: Gallery,
        guard: Guard,
        ledger: RecordQueue,
        hide: Callable[[str], str],
        scale_of: Callable[[str], SimilarityScale | None],
    ) -> None:
        self._scale_of = scale_of
        self._gallery = gallery
        self._guard = guard
        self._ledger = ledger
        self._hide = hide

    def show(self, ref: CollectionRef, user_id: str) -> UserFaces:
        """Return a user with their faces."""
        with _refusals():
            collection = self._gallery.describe(ref)
            user = self._user(ref, user_id)
            faces = tuple(self._gallery.get_faces(collection, user.face_ids))
            others = self._gallery.verdicts_of(collection, _user_subject(user_id))
            return UserFaces(user, faces, tuple(sorted(others)))

    def see(self, principal: str, ref: CollectionRef, user_id: str, purpose: str) -> bool:
        """Return whether somebody may see pictures of a user's faces side by side, which is decided as ``compare``."""
        with _refusals():
            if not (decision := self._guard.decide(ref.tenant, Action.COMPARE, purpose)).permitted:
                return False
            self._record(SEEN, principal, ref, {"subject": _user_subject(user_id)}, decision)
            return True

    def may_see(self, ref: CollectionRef, purpose: str) -> bool:
        """Return whether pictures of a tenant's faces may be seen now; what is seen is recorded by :meth:`see`."""
        return self._guard.decide(ref.tenant, Action.COMPARE, purpose).permitted

    def merge(self, principal: str, ref: CollectionRef, keep: str, gone: str, purpose: str) -> int:
        """Give all faces of the user ``gone`` to the user ``keep``, and delete ``gone``; return the number of faces.

        Call it again if it is interrupted.
        """
        with _refusals():
            first, second = self._user(ref, keep), self._user(ref, gone)
            if keep == gone:
                raise CurationRefused("Name two users.")
            others = self._gallery.verdicts_of(ref, _user_subject(keep))
            parts = {_user_subject(gone), *map(_face_subject, second.face_ids)}
            theirs = self._gallery.verdicts_of(ref, _user_subject(gone))
            if parts & others or set(map(_face_subject, first.face_ids)) & theirs:
                raise CurationRefused(
                    "People have said that they are not the same person. Withdraw that first."
                )
            decision = self._decide(ref, purpose)
            subjects = {"kept": _user_subject(keep), "gone": _user_subject(gone)}
            self._record(MERGED, principal, ref, subjects, decision, faces=len(second.face_ids))
            moved = self._gallery.move_faces(ref, gone, keep, second.face_ids) if second.face_ids else 0
            for other in theirs - {_user_subject(keep)}:
                self._gallery.add_verdict(ref, _user_subject(keep), other)
            self._gallery.delete_user(ref, gone)
            return moved

    def split(
        self,
        principal: str,
        ref: CollectionRef,
        user_id: str,
        new: str,
        face_ids: Sequence[str],
        purpose: str,
    ) -> int:
        """Give some faces of a user to a user that is made for them; return the number of faces.

        The two are not taken for one person again. Call it again if it is interrupted.
        """
        with _refusals():
            user = self._user(ref, user_id)
            mine = [face_id for face_id in dict.fromkeys(face_ids) if face_id in user.face_ids]
            found = self._gallery.get_users(ref, [new])
            made_before = found and set(found[0].face_ids) <= set(face_ids)
            if not mine and found and found[0].face_ids and made_before:
                # The call before ended after the faces were moved.
                self._gallery.add_verdict(ref, _user_subject(user_id), _user_subject(new))
                return 0
            if not mine or len(mine) == len(user.face_ids):
                raise CurationRefused("Choose some of the user's faces, and not all.")
            if found and not made_before:
                raise CurationRefused("There is a user of that name already; choose another name.")
            decision = self._decide(ref, purpose)
            subjects = {"kept": _user_subject(user_id), "made": _user_subject(new)}
            self._record(SPLIT, principal, ref, subjects, decision, faces=len(mine))
            with contextlib.suppress(UserExists):
                self._gallery.create_user(ref, new)
            moved = self._gallery.move_faces(ref, user_id, new, mine)
            self._gallery.add_verdict(ref, _user_subject(user_id), _user_subject(new))
            return moved

    def reject(
        self, principal: str, ref: CollectionRef, one: CollectionSubject, other: CollectionSubject
    ) -> None:
        """Note that two faces or users are not the same person: no answer brings them together again.

        A face that is associated with a user who it is not is taken from them.
        """
        with _refusals():
            self._require(ref, one, other)
            self._record(NOT_THE_PERSON, principal, ref, {"one": one, "other": other})
            self._gallery.add_verdict(ref, one, other)
            for face, user in ((one, other), (other, one)):
                if face.kind is TemplateKind.FACE and user.kind is TemplateKind.USER:
                    (found,) = self._gallery.get_faces(ref, [face.id])
                    if found.user_id == user.id:
                        self._gallery.disassociate_faces(ref, user.id, [face.id])

    def withdraw(
        self, principal: str, ref: CollectionRef, one: CollectionSubject, other: CollectionSubject
    ) -> None:
        """Take a verdict back. A face that was taken from a user stays without one."""
        with _refusals():
            if other not in self._gallery.verdicts_of(ref, one):
                raise CurationRefused("There is no such verdict.")
            self._record(WITHDRAWN, principal, ref, {"one": one, "other": other})
            self._gallery.withdraw_verdict(ref, one, other)

    def check(
        self,
        principal: str,
        ref: CollectionRef,
        purpose: str,
        *,
        threshold: float,
        ages: Callable[[Face], tuple[int, int] | None] | None = None,
    ) -> list[Finding]:
        """Return what people should look at in a collection; see :func:`abeyance.curation.findings.findings`.

        Comparing all users with each other is decided as ``search``, reading ages as ``analyze``.
        """
        from abeyance.curation.findings import findings

        with _refusals():
            model = self._gallery.describe(ref).model
            scale = self._scale_of(model)
            if scale is None:
                raise CurationRefused(f"Nothing here knows what similarity means for {model}.")
            decision = self._decide(ref, purpose, Action.SEARCH)
            if decision.human_review:
                raise CurationRefused("Every match needs several reviewers here; a list of them cannot wait.")
            self._record(CHECKED, principal, ref, {}, decision)
            if ages:
                self._record(CHECKED, principal, ref, {}, self._decide(ref, purpose, Action.ANALYZE))
            least = max(threshold, decision.min_similarity or 0.0)
            return list(findings(self._gallery, ref, scale, threshold=least, ages=ages))

    def _user(self, ref: CollectionRef, user_id: str) -> User:
        found = self._gallery.get_users(ref, [user_id])
        if not found:
            raise CurationRefused("The collection has no user of that name.")
        return found[0]

    def _require(self, ref: CollectionRef, *subjects: CollectionSubject) -> None:
        for subject in subjects:
            known: Sequence[object] = (
                self._gallery.get_faces(ref, [subject.id])
                if subject.kind is TemplateKind.FACE
                else self._gallery.get_users(ref, [subject.id])
            )
            if not known:
                raise CurationRefused("The collection has no such face or user.")

    def _decide(self, ref: CollectionRef, purpose: str, action: Action = Action.INDEX) -> Decision:
        decision = self._guard.decide(ref.tenant, action, purpose)
        if not decision.permitted:
            self._ledger.put(self._entry(DENIED, ref, {"decision": msgspec.to_builtins(decision)}))
            raise CurationRefused(decision.reason)
        return decision

    def _record(
        self,
        kind: str,
        principal: str,
        ref: CollectionRef,
        subjects: dict[str, CollectionSubject],
        decision: Decision | None = None,
        **more: int,
    ) -> None:
        pseudonyms = {
            role: subject_pseudonym(self._hide, ref, _NAMED_BY[subject.kind], subject.id)
            for role, subject in subjects.items()
        }
        decided = {"decision": msgspec.to_builtins(decision)} if decision else {}
        body = {"principal": self._hide(f"principal/{principal}"), **pseudonyms, **decided, **more}
        self._ledger.put(self._entry(kind, ref, body))

    def _entry(self, kind: str, ref: CollectionRef, body: dict[str, Any]) -> Record:
        about = {"tenant": ref.tenant, **named(ref.name)}
        return Record(f"{kind}:{secrets.token_hex(8)}", kind, timestamp(), {**about, **body})


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except GalleryError as error:
        raise CurationRefused(str(error)) from None
    except LedgerUnavailable:
        raise CurationRefused("The ledger did not confirm. Try again; nothing was changed.") from None


def _user_subject(user_id: str) -> CollectionSubject:
    return CollectionSubject(TemplateKind.USER, user_id)


def _face_subject(face_id: str) -> CollectionSubject:
    return CollectionSubject(TemplateKind.FACE, face_id)
