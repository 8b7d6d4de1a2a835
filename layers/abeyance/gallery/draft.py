"""One transaction on a collection, in the making."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from abeyance.gallery.items import (
    FACE,
    KEEP,
    USER,
    VOID,
    Meta,
    face_item,
    face_key,
    log_key,
    rfc3339,
    user_item,
    user_key,
    vector_attribute,
)
from abeyance.gallery.model import Face, User
from abeyance.gallery.table import (
    PARTITION,
    SORT,
    TRANSACTION_LIMIT,
    TTL,
    Delete,
    Item,
    Operation,
    Put,
    Update,
)

if TYPE_CHECKING:
    import numpy.typing as npt

#: Operations that each of these costs in a transaction.
FACE_COST, ERASE_COST, USER_COST = 2, 3, 3


class Draft:
    """Collects operations; :meth:`operations` adds the move of META that makes them one change.

    META moves only from the state that the draft was made from, and every change moves its seq. So whatever
    was read from the collection after META was read is still true when the transaction goes through, and no
    operation needs a condition of its own.
    """

    def __init__(self, meta: Meta, now: datetime, before: Sequence[Any] = ()) -> None:
        self.meta = meta
        #: Results of the drafts of the same request that are committed already.
        self.before = before
        self.seq = meta.seq
        self.expires = int(now.timestamp()) + KEEP
        self._now = rfc3339(now)
        self._operations: list[Operation] = []
        self._faces = 0
        self._users = 0
        self._erased: list[int] = []

    @property
    def room(self) -> int:
        """Operations that still fit, META's own and one filler set aside."""
        return TRANSACTION_LIMIT - 2 - len(self._operations)

    @property
    def empty(self) -> bool:
        return not self._operations

    def add(self, operation: Operation) -> None:
        """An operation that moves no counter."""
        self._operations.append(operation)

    def put_face(self, face: Face, template: npt.NDArray[np.floating[Any]]) -> Face:
        """Add a face; returns it with its seq."""
        face = msgspec.structs.replace(face, seq=self._log(FACE, face.id, template))
        self.add(Put(face_item(self.meta.pk, face)))
        self._faces += 1
        return face

    def set_user_of(self, face: Face, user_id: str) -> None:
        """Note on a face whose it is; empty for nobody's."""
        key = face_key(self.meta.pk, face.id)
        self.add(Update(key, set={"user": user_id}) if user_id else Update(key, unset=("user",)))

    def erase_face(self, face: Face) -> None:
        """Remove a face and its template."""
        self.add(Delete(face_key(self.meta.pk, face.id)))
        self._void(face.seq)
        self._log(VOID, of=face.seq)
        self._faces -= 1

    def put_user(
        self, user: User, template: npt.NDArray[np.floating[Any]] | None, *, new: bool = False
    ) -> User:
        """Write a user, and its template in place of the one at ``user.seq`` (0: it had none)."""
        old = user.seq
        seq = 0
        if template is not None:
            seq = self._log(USER, user.id, template, of=old)
        elif old:
            self._log(VOID, of=old)
        if old:
            self._void(old)
        user = msgspec.structs.replace(user, seq=seq)
        self.add(Put(user_item(self.meta.pk, user)))
        self._users += new
        return user

    def erase_user(self, user: User) -> None:
        """Remove a user and its template."""
        self.add(Delete(user_key(self.meta.pk, user.id)))
        if user.seq:
            self._void(user.seq)
            self._log(VOID, of=user.seq)
        self._users -= 1

    def operations(self) -> Sequence[Operation]:
        """Everything, with META's move. Call it once."""
        if self.seq == self.meta.seq:
            self._log(VOID)
        meta = self.meta
        covered = frozenset(seq for seq in self._erased if seq <= meta.covered)
        move: dict[str, Any] = {
            "seq": self.seq,
            "faces": meta.faces + self._faces,
            "users": meta.users + self._users,
            "changed": self._now,
        }
        expect: dict[str, Any] = {"generation": meta.generation, "seq": meta.seq}
        if self._erased:
            # A segment that is committed meanwhile could hold what is erased here; its commit moves
            # ``covered`` and expects ``erasures``, so only one of the two goes through.
            move["erasures"] = meta.erasures + 1
            expect["covered"] = meta.covered
        add = {"pending": covered} if covered else {}
        return [*self._operations, Update(meta.key, set=move, add=add, expect=expect)]

    def _log(
        self, kind: str, name: str = "", template: npt.NDArray[np.floating[Any]] | None = None, of: int = 0
    ) -> int:
        self.seq += 1
        pk, sk = log_key(self.meta.pk, self.seq)
        item: Item = {PARTITION: pk, SORT: sk, "k": kind}
        if of:
            item["of"] = of
        if template is None:
            item[TTL] = self.expires
        else:
            stored = np.asarray(template, dtype="<f2")
            item |= {"id": name, "v": stored.tobytes()}
            if self.meta.index:
                # Six decimals find candidates; what is scored is ``v``. Adding zero makes -0.0 a number.
                item[vector_attribute(len(stored))] = [round(x, 6) + 0.0 for x in stored.tolist()]
        self.add(Put(item))
        return self.seq

    def _void(self, seq: int) -> None:
        # ``of`` stays: a reader that has not come this far must still learn of what went before.
        vector = (vector_attribute(self.meta.dimension),) if self.meta.index else ()
        self.add(
            Update(
                log_key(self.meta.pk, seq),
                set={"k": VOID, TTL: self.expires},
                unset=("id", "v", *vector),
            )
        )
        self._erased.append(seq)
