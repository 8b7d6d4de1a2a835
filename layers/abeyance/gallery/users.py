"""Users: people known by several faces."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from abeyance.gallery.core import page_start, page_token, require_face_ids
from abeyance.gallery.draft import USER_COST, Draft
from abeyance.gallery.errors import InvalidInput, TokenReused, TooManyFaces, UserExists
from abeyance.gallery.faces import Faces
from abeyance.gallery.items import END, Meta, digest, token_key, user_key, user_of
from abeyance.gallery.model import (
    FACES_PER_USER,
    USER_PATTERN,
    CollectionRef,
    Outcome,
    Page,
    Refusal,
    RefusalReason,
    User,
    UserStatus,
)
from abeyance.gallery.table import PARTITION, SORT, TTL, Put

#: Seconds that an idempotency token is remembered.
TOKEN_LIFE = 24 * 3600
#: Faces that one transaction changes; beside them it writes a user and a token.
CHUNK = 98 - USER_COST - 1


class TableGallery(Faces):
    """A whole :class:`~abeyance.gallery.port.Gallery` over a table and an object store."""

    def create_user(self, ref: CollectionRef, user_id: str, *, token: str = "") -> User:
        _require_user_id(user_id)

        def plan(draft: Draft) -> tuple[User, bool]:
            item = self.table.get(user_key(draft.meta.pk, user_id))
            if item is not None:
                if self._replayed(draft.meta, "create", token, user_id) is None:
                    raise UserExists("the collection has a user of that id already")
                return user_of(ref, item), False
            user = User(id=user_id, collection=ref, status=UserStatus.CREATED, seq=0, created=self.now())
            self._remember(draft, "create", token, user_id, Outcome())
            return draft.put_user(user, None, new=True), False

        return self.write(ref, plan).results[-1]

    def delete_user(self, ref: CollectionRef, user_id: str, *, token: str = "") -> None:
        _require_user_id(user_id)

        def plan(draft: Draft) -> tuple[None, bool]:
            if self._replayed(draft.meta, "delete", token, user_id) is not None:
                return None, False
            user = self.user(draft.meta, user_id)
            rest = self._release(draft, user, list(user.face_ids))
            if rest:
                left = [face_id for face_id in user.face_ids if face_id in rest]
                self.reshape(draft, user, left, UserStatus.UPDATING)
                return None, True
            self._remember(draft, "delete", token, user_id, Outcome())
            draft.erase_user(user)
            return None, False

        self.write(ref, plan)
        self.settle(ref)

    def get_users(self, ref: CollectionRef, user_ids: Sequence[str]) -> list[User]:
        meta = self.meta(ref)
        for user_id in user_ids:
            _require_user_id(user_id)
        items = self.table.get_many(user_key(meta.pk, user_id) for user_id in dict.fromkeys(user_ids))
        users = {key[1][2:]: user_of(ref, item) for key, item in items.items()}
        return [users[user_id] for user_id in user_ids if user_id in users]

    def list_users(self, ref: CollectionRef, *, limit: int = 500, token: str = "") -> Page[User]:
        meta = self.meta(ref)
        listing = f"users of {meta.pk}"
        start = page_start(listing, token)
        first = f"U#{start} " if start else "U#"
        found = [user_of(ref, item) for item in self.table.query(meta.pk, first, f"U#{END}", limit=limit + 1)]
        items = tuple(found[:limit])
        return Page(items, page_token(listing, items[-1].id) if len(found) > limit else "")

    def user_template(self, ref: CollectionRef, user_id: str) -> npt.NDArray[np.float32] | None:
        _require_user_id(user_id)
        return self._template(self.meta(ref), user_id)

    def associate_faces(
        self,
        ref: CollectionRef,
        user_id: str,
        face_ids: Sequence[str],
        *,
        min_cosine: float = -1.0,
        token: str = "",
    ) -> Outcome:
        asked = _require_request(user_id, face_ids)

        def step(draft: Draft, user: User) -> tuple[Outcome, bool]:
            faces = self.faces(draft.meta, asked)
            candidates = [i for i in asked if i in faces and not faces[i].user_id]
            refused = [Refusal(i, RefusalReason.FACE_NOT_FOUND) for i in asked if i not in faces]
            refused += [
                Refusal(i, RefusalReason.ASSOCIATED_TO_A_DIFFERENT_USER, faces[i].user_id)
                for i in asked
                if i in faces and faces[i].user_id not in ("", user_id)
            ]
            reference = self._template(draft.meta, user_id)
            if reference is not None:
                templates = self.face_templates(draft.meta, candidates)
                cosines = {i: float(reference @ templates[i]) for i in candidates if i in templates}
                unlike = [i for i in candidates if cosines.get(i, -2.0) < min_cosine]
                refused += [
                    Refusal(i, RefusalReason.LOW_MATCH_CONFIDENCE, "", cosines.get(i)) for i in unlike
                ]
                candidates = [i for i in candidates if i not in unlike]
            if len(user.face_ids) + len(candidates) > FACES_PER_USER:
                raise TooManyFaces(f"a user has at most {FACES_PER_USER} faces; disassociate some first")
            now, later = candidates[:CHUNK], candidates[CHUNK:]
            for face_id in now:
                draft.set_user_of(faces[face_id], user_id)
            status = UserStatus.UPDATING if later else UserStatus.ACTIVE
            if now or user.status is UserStatus.UPDATING:
                self.reshape(draft, user, [*user.face_ids, *now], status)
            else:
                status = user.status
            return Outcome(tuple(now), _ordered(refused, asked), status), bool(later)

        return self._change_user(ref, user_id, "associate", token, (*asked, str(min_cosine)), step)

    def disassociate_faces(
        self, ref: CollectionRef, user_id: str, face_ids: Sequence[str], *, token: str = ""
    ) -> Outcome:
        asked = _require_request(user_id, face_ids)

        def step(draft: Draft, user: User) -> tuple[Outcome, bool]:
            faces = self.faces(draft.meta, asked)
            mine = [i for i in asked if i in faces and faces[i].user_id == user_id]
            refused = [Refusal(i, RefusalReason.FACE_NOT_FOUND) for i in asked if i not in faces]
            refused += [
                Refusal(i, RefusalReason.ASSOCIATED_TO_A_DIFFERENT_USER, faces[i].user_id)
                for i in asked
                if i in faces and faces[i].user_id not in ("", user_id)
            ]
            later = self._release(draft, user, mine)
            now = [i for i in mine if i not in later]
            left = [i for i in user.face_ids if i not in now]
            status = UserStatus.UPDATING if later else UserStatus.ACTIVE if left else UserStatus.CREATED
            if now or user.status is UserStatus.UPDATING:
                self.reshape(draft, user, left, status)
            else:
                status = user.status
            return Outcome(tuple(now), _ordered(refused, asked), status), bool(later)

        return self._change_user(ref, user_id, "disassociate", token, asked, step)

    def _change_user(
        self,
        ref: CollectionRef,
        user_id: str,
        operation: str,
        token: str,
        request: tuple[str, ...],
        step: Callable[[Draft, User], tuple[Outcome, bool]],
    ) -> Outcome:
        """Do steps until there is no more to do, and put their outcomes together."""

        def plan(draft: Draft) -> tuple[Outcome, bool]:
            before = self._replayed(draft.meta, operation, token, user_id, *request)
            if before is not None:
                return before, False
            outcome, more = step(draft, self.user(draft.meta, user_id))
            if not more and not draft.empty:
                self._remember(
                    draft, operation, token, user_id, _together([*draft.before, outcome]), *request
                )
            return outcome, more

        outcome = _together(self.write(ref, plan).results)
        self.settle(ref)
        return outcome

    def _release(self, draft: Draft, user: User, face_ids: Sequence[str]) -> set[str]:
        """Draft as many of the user's faces to be nobody's as fit; returns those that do not."""
        now = list(face_ids[:CHUNK])
        faces = self.faces(draft.meta, now)
        for face_id in now:
            if face_id in faces and faces[face_id].user_id == user.id:
                draft.set_user_of(faces[face_id], "")
        return set(face_ids[CHUNK:])

    def _template(self, meta: Meta, user_id: str) -> npt.NDArray[np.float32] | None:
        user = self.user(meta, user_id)
        return self.templates_of(meta, [user.seq]).get(user.seq) if user.seq else None

    def _replayed(self, meta: Meta, operation: str, token: str, *request: str) -> Outcome | None:
        """What the request with this token did before, if it did; raises :class:`TokenReused`."""
        item = self.table.get(token_key(meta.pk, operation, token)) if token else None
        if item is None or item[TTL] < self._clock().timestamp():
            return None
        if item["request"] != digest(*request):
            raise TokenReused("the idempotency token was used for another request; use a fresh one")
        return msgspec.json.decode(item["outcome"], type=Outcome)

    def _remember(
        self, draft: Draft, operation: str, token: str, user_id: str, outcome: Outcome, *request: str
    ) -> None:
        if not token:
            return
        pk, sk = token_key(draft.meta.pk, operation, token)
        draft.add(
            Put(
                {
                    PARTITION: pk,
                    SORT: sk,
                    "request": digest(user_id, *request),
                    "outcome": msgspec.json.encode(outcome).decode(),
                    TTL: int(self._clock().timestamp()) + TOKEN_LIFE,
                }
            )
        )


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


def _together(steps: Sequence[Outcome]) -> Outcome:
    """What several steps of one request did."""
    refused = {refusal.face_id: refusal for step in steps for refusal in step.refused}
    return Outcome(
        tuple(face_id for step in steps for face_id in step.done), tuple(refused.values()), steps[-1].status
    )


def _ordered(refused: list[Refusal], asked: Sequence[str]) -> tuple[Refusal, ...]:
    place = {face_id: number for number, face_id in enumerate(asked)}
    return tuple(sorted(refused, key=lambda refusal: place[refusal.face_id]))
