"""Users: people known by several faces."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from abeyance.aws.table import TTL, Put
from abeyance.gallery.draft import ROOM, USER_COST, ChangeDraft
from abeyance.gallery.errors import InvalidInput, TokenReused, TooManyFaces, UserExists, UserNotFound
from abeyance.gallery.items import Meta, digest, keyed, token_key, user_key, user_of
from abeyance.gallery.model import (
    FACES_PER_USER,
    USER_PATTERN,
    Collection,
    CollectionRef,
    Face,
    FacesOutcome,
    Page,
    Refusal,
    RefusalReason,
    TemplateKind,
    User,
    UserStatus,
)
from abeyance.gallery.paging import page_of, page_start
from abeyance.gallery.snapshots import SnapshotStore
from abeyance.gallery.storage import Storage, require_face_ids
from abeyance.gallery.verdicts import CollectionSubject, VerdictStore, rejected

#: Time that an idempotency token is remembered.
TOKEN_LIFE_S = 24 * 3600
#: Faces that one transaction changes; beside them it writes a user and a token.
CHUNK = ROOM - USER_COST - 1


class UserStore:
    """The users of a gallery's collections; its methods are those of :class:`~abeyance.gallery.facade.Gallery`."""

    def __init__(self, storage: Storage, snapshots: SnapshotStore, verdicts: VerdictStore) -> None:
        self._storage = storage
        self._snapshots = snapshots
        self._verdicts = verdicts

    def create(self, ref: CollectionRef, user_id: str, *, token: str = "") -> User:
        """Create a user without faces. Raises ``UserExists``, ``TokenReused``.

        A request that was done before, by its token, changes nothing: a user that was deleted since stays deleted.
        """
        _require_user_id(user_id)

        def plan(draft: ChangeDraft) -> tuple[User, bool]:
            item = self._storage.table.get(user_key(draft.meta.pk, user_id))
            created = self._storage.now()
            user = User(id=user_id, collection=ref, status=UserStatus.CREATED, seq=0, created=created)
            if self._remembered(draft.meta, "create", token, user_id) is not None:
                return user if item is None else user_of(ref, item), False
            if item is not None:
                raise UserExists("the collection has a user of that id already")
            self._remember(draft, "create", token, FacesOutcome(), user_id)
            return draft.put_user(user, None, new=True), False

        return self._storage.write(ref, plan).results[-1]

    def delete(self, ref: CollectionRef, user_id: str, *, token: str = "", only_empty: bool = False) -> None:
        """Remove a user; its faces stay, without a user. Raises ``UserNotFound``.

        With ``only_empty``, a user that has faces stays.
        """
        _require_user_id(user_id)

        def plan(draft: ChangeDraft) -> tuple[None, bool]:
            if self._remembered(draft.meta, "delete", token, user_id) is not None:
                return None, False
            user = self.find(draft.meta, user_id)
            if only_empty and user.face_ids:
                return None, False
            now, later = user.face_ids[:CHUNK], user.face_ids[CHUNK:]
            self._release(draft, user, now)
            if later:
                self.set_faces(draft, user, later, UserStatus.UPDATING)
                return None, True
            self._remember(draft, "delete", token, FacesOutcome(), user_id)
            draft.erase_user(user)
            return None, False

        if not (only_empty and any(user.face_ids for user in self.get(ref, [user_id]))):
            # Before the user goes, so that no verdict is left that names somebody who was erased.
            self._verdicts.forget(ref, CollectionSubject(TemplateKind.USER, user_id))
        self._storage.write(ref, plan)
        self._snapshots.finish_erasures(ref)

    def get(self, collection: CollectionRef | Collection, user_ids: Sequence[str]) -> list[User]:
        """Return those of the users that exist, in the order asked for."""
        opened = self._storage.open(collection)
        for user_id in user_ids:
            _require_user_id(user_id)
        keys = [user_key(opened.pk, user_id) for user_id in user_ids]
        items = self._storage.table.get_many(keys)
        return [user_of(opened.ref, items[key]) for key in keys if key in items]

    def page(self, ref: CollectionRef, *, limit: int = 500, token: str = "") -> Page[User]:
        """Return a page of users, by id. Raises ``InvalidPage``."""
        meta = self._storage.meta(ref)
        listing = f"users of {meta.pk}"
        items = self._storage.list_items(meta.pk, "U#", page_start(listing, token), limit)
        found = [user_of(ref, item) for item in items]
        return page_of(listing, found, [user.id for user in found], limit)

    def template(
        self, collection: CollectionRef | Collection, user_id: str
    ) -> npt.NDArray[np.float32] | None:
        """Return (d,) float32 from float16, or ``None`` for a user without faces. Raises ``UserNotFound``."""
        _require_user_id(user_id)
        opened = self._storage.open(collection)
        return self._template(opened, self.find(opened, user_id))

    def associate(
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
        asked = _require_request(user_id, face_ids)

        def step(draft: ChangeDraft, user: User) -> tuple[FacesOutcome, bool]:
            faces, refusals = self._sort_out(draft.meta, user, asked)
            candidates = [i for i in asked if i in faces and not faces[i].user_id]
            others = rejected(self._storage, draft.meta, CollectionSubject(TemplateKind.USER, user_id))
            refusals |= {
                i: Refusal(i, RefusalReason.LOW_MATCH_CONFIDENCE)
                for i in candidates
                if (TemplateKind.FACE, i) in others
            }
            candidates = [i for i in candidates if i not in refusals]
            reference = self._template(draft.meta, user)
            if reference is not None:
                templates = self._storage.face_templates(draft.meta, candidates)
                cosines = {i: float(reference @ templates[i]) for i in candidates if i in templates}
                unlike = [i for i in candidates if cosines.get(i, -2.0) < min_cosine]
                reason = RefusalReason.LOW_MATCH_CONFIDENCE
                refusals |= {i: Refusal(i, reason, "", cosines.get(i)) for i in unlike}
                candidates = [i for i in candidates if i not in refusals]
            if len(user.face_ids) + len(candidates) > FACES_PER_USER:
                raise TooManyFaces(f"a user has at most {FACES_PER_USER} faces; disassociate some first")
            now, later = candidates[:CHUNK], candidates[CHUNK:]
            for face_id in now:
                draft.set_user_of(faces[face_id], user_id)
            status = UserStatus.UPDATING if later else UserStatus.ACTIVE
            left = [*user.face_ids, *now]
            return self._outcome(draft, user, now, left, status, refusals, asked), bool(later)

        return self._change(ref, user_id, "associate", token, (*asked, str(min_cosine)), step)

    def disassociate(
        self, ref: CollectionRef, user_id: str, face_ids: Sequence[str], *, token: str = ""
    ) -> FacesOutcome:
        """Take faces from the user; they stay in the collection. Raises ``UserNotFound``, ``TokenReused``."""
        asked = _require_request(user_id, face_ids)

        def step(draft: ChangeDraft, user: User) -> tuple[FacesOutcome, bool]:
            faces, refusals = self._sort_out(draft.meta, user, asked)
            mine = [i for i in asked if i in faces and faces[i].user_id == user_id]
            now, later = mine[:CHUNK], mine[CHUNK:]
            self._release(draft, user, now)
            left = [i for i in user.face_ids if i not in now]
            status = UserStatus.UPDATING if later else UserStatus.ACTIVE if left else UserStatus.CREATED
            return self._outcome(draft, user, now, left, status, refusals, asked), bool(later)

        return self._change(ref, user_id, "disassociate", token, asked, step)

    def move(self, ref: CollectionRef, user_id: str, to: str, face_ids: Sequence[str]) -> int:
        """Give faces of one user to another, each at once; return how many. Those that are not the first one's stay.

        Raises
        ------
        UserNotFound
            One of them is not there.
        TooManyFaces
            The other would have more than 100.
        """
        if user_id == to:
            raise InvalidInput("faces are moved from one user to another")
        asked = _require_request(user_id, face_ids)

        def plan(draft: ChangeDraft) -> tuple[int, bool]:
            first, second = self.find(draft.meta, user_id), self.find(draft.meta, to)
            mine = [face_id for face_id in asked if face_id in first.face_ids]
            if len(second.face_ids) + len(mine) > FACES_PER_USER:
                raise TooManyFaces(f"a user has at most {FACES_PER_USER} faces; move fewer of them")
            now, later = mine[: ROOM - 2 * USER_COST], mine[ROOM - 2 * USER_COST :]
            if not now:
                return 0, False
            faces = self._storage.faces(draft.meta, now)
            for face_id in now:
                if face_id in faces:
                    draft.set_user_of(faces[face_id], to)
            left = [face_id for face_id in first.face_ids if face_id not in now]
            self.set_faces(draft, first, left, UserStatus.ACTIVE if left else UserStatus.CREATED)
            self.set_faces(draft, second, [*second.face_ids, *now], UserStatus.ACTIVE)
            return len(now), bool(later)

        moved = sum(self._storage.write(ref, plan).results)
        self._snapshots.finish_erasures(ref)
        return moved

    def find(self, collection: Meta | Collection, user_id: str) -> User:
        """Return a user. Raises :class:`UserNotFound`."""
        item = self._storage.table.get(user_key(collection.pk, user_id))
        if item is None:
            raise UserNotFound("the collection has no user of that id; create it first")
        return user_of(collection.ref, item)

    def set_faces(self, draft: ChangeDraft, user: User, face_ids: Sequence[str], status: UserStatus) -> None:
        """Draft a user with these faces, and their template: the faces' normalised mean."""
        templates = self._storage.face_templates(draft.meta, face_ids)
        mean: npt.NDArray[np.float32] | None = None
        if templates:
            # In the order of ids, so that the same faces make the same template in whatever order they came.
            mean = np.sum([templates[i] for i in sorted(templates)], axis=0, dtype=np.float32)
            length = float(np.linalg.norm(mean))
            # Opposite templates have no mean direction; then any one of them is as good.
            mean = mean / length if length > 1e-6 else next(iter(templates.values()))
        draft.put_user(msgspec.structs.replace(user, status=status, face_ids=tuple(face_ids)), mean)

    def _change(
        self,
        ref: CollectionRef,
        user_id: str,
        operation: str,
        token: str,
        request: tuple[str, ...],
        step: Callable[[ChangeDraft, User], tuple[FacesOutcome, bool]],
    ) -> FacesOutcome:
        """Repeat a step until there is no more to do, and return the outcome of them all."""

        def plan(draft: ChangeDraft) -> tuple[FacesOutcome, bool]:
            before = self._remembered(draft.meta, operation, token, user_id, *request)
            if before is not None:
                return before, False
            outcome, more = step(draft, self.find(draft.meta, user_id))
            if not more and not draft.empty:
                whole = _merged([*draft.before, outcome])
                self._remember(draft, operation, token, whole, user_id, *request)
            return outcome, more

        outcome = _merged(self._storage.write(ref, plan).results)
        self._snapshots.finish_erasures(ref)
        return outcome

    def _sort_out(
        self, meta: Meta, user: User, face_ids: Sequence[str]
    ) -> tuple[dict[str, Face], dict[str, Refusal]]:
        """Return the faces that exist, and the refusals of those that do not or are another user's."""
        faces = self._storage.faces(meta, face_ids)
        refusals = {i: Refusal(i, RefusalReason.FACE_NOT_FOUND) for i in face_ids if i not in faces}
        reason = RefusalReason.ASSOCIATED_TO_A_DIFFERENT_USER
        refusals |= {
            i: Refusal(i, reason, face.user_id)
            for i, face in faces.items()
            if face.user_id not in ("", user.id)
        }
        return faces, refusals

    def _outcome(
        self,
        draft: ChangeDraft,
        user: User,
        done: Sequence[str],
        face_ids: Sequence[str],
        status: UserStatus,
        refusals: dict[str, Refusal],
        asked: Sequence[str],
    ) -> FacesOutcome:
        """Draft the user's faces, if they change, and return the outcome of the step."""
        if done or user.status is UserStatus.UPDATING:
            self.set_faces(draft, user, face_ids, status)
        else:
            status = user.status
        return FacesOutcome(tuple(done), tuple(refusals[i] for i in asked if i in refusals), status)

    def _release(self, draft: ChangeDraft, user: User, face_ids: Sequence[str]) -> None:
        """Draft that the user's faces have no user."""
        faces = self._storage.faces(draft.meta, face_ids)
        for face_id in face_ids:
            if face_id in faces and faces[face_id].user_id == user.id:
                draft.set_user_of(faces[face_id], "")

    def _template(self, collection: Meta | Collection, user: User) -> npt.NDArray[np.float32] | None:
        return self._storage.templates(collection, [user.seq]).get(user.seq) if user.seq else None

    def _remembered(self, meta: Meta, operation: str, token: str, *request: str) -> FacesOutcome | None:
        """Return the outcome of the request with this token, if it was done. Raises :class:`TokenReused`."""
        item = self._storage.table.get(token_key(meta.pk, operation, token)) if token else None
        if item is None or item[TTL] < self._storage.clock().timestamp():
            return None
        if item["request"] != digest(*request):
            raise TokenReused("the idempotency token was used for another request; use a fresh one")
        return msgspec.json.decode(item["outcome"], type=FacesOutcome)

    def _remember(
        self, draft: ChangeDraft, operation: str, token: str, outcome: FacesOutcome, *request: str
    ) -> None:
        if not token:
            return
        item = {
            "request": digest(*request),
            "outcome": msgspec.json.encode(outcome).decode(),
            TTL: int(self._storage.clock().timestamp()) + TOKEN_LIFE_S,
        }
        draft.add(Put(keyed(token_key(draft.meta.pk, operation, token)) | item))


def _require_user_id(user_id: str) -> None:
    if not USER_PATTERN.fullmatch(user_id):
        raise InvalidInput("a user id is 1 to 128 of a-z, A-Z, 0-9, '_', '.', '-' and ':'")


def _require_request(user_id: str, face_ids: Sequence[str]) -> tuple[str, ...]:
    _require_user_id(user_id)
    require_face_ids(face_ids)
    asked = tuple(dict.fromkeys(face_ids))
    if not 1 <= len(asked) <= FACES_PER_USER:
        raise InvalidInput(f"a request names 1 to {FACES_PER_USER} faces")
    return asked


def _merged(steps: Sequence[FacesOutcome]) -> FacesOutcome:
    """Return the outcome of several steps of one request."""
    refused = {refusal.face_id: refusal for step in steps for refusal in step.refused}
    return FacesOutcome(
        tuple(face_id for step in steps for face_id in step.done), tuple(refused.values()), steps[-1].status
    )
