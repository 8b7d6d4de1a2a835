"""A transaction on a collection, in preparation."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from abeyance.aws.table import TRANSACTION_LIMIT, TTL, Delete, Operation, Put, Update
from abeyance.aws.timestamps import rfc3339
from abeyance.gallery.items import (
    FACE,
    KEEP_S,
    LOG_KIND,
    USER,
    VOID,
    Meta,
    face_item,
    face_key,
    keyed,
    log_key,
    user_item,
    user_key,
    vector_attribute,
)
from abeyance.gallery.model import Face, User

if TYPE_CHECKING:
    import numpy.typing as npt

#: Operations of a transaction beside META's own and one filler.
ROOM = TRANSACTION_LIMIT - 2
#: Operations that each of these costs in a transaction.
FACE_COST, ERASE_COST, USER_COST = 2, 3, 3


class ChangeDraft:
    """A list of operations, which :meth:`operations` completes by the move of META that makes them one change.

    META moves only from the state that the draft was made from, and every change moves its seq. So whatever
    was read from the collection after META was read is still true when the transaction is committed, and no
    operation needs a condition of its own.
    """

    def __init__(self, meta: Meta, now: datetime, before: Sequence[Any] = ()) -> None:
        self.meta = meta
        #: Results of the drafts of the same request that are committed already.
        self.before = before
        self.seq = meta.seq
        self.expires = int(now.timestamp()) + KEEP_S
        self._now = rfc3339(now)
        self._operations: list[Operation] = []
        self._faces = 0
        self._users = 0
        self._erased: list[int] = []

    @property
    def room(self) -> int:
        """Operations that still fit."""
        return ROOM - len(self._operations)

    @property
    def size(self) -> int:
        """Operations so far."""
        return len(self._operations)

    @property
    def empty(self) -> bool:
        """True if there is nothing to commit."""
        return not self._operations

    def add(self, operation: Operation) -> None:
        """Add an operation that moves no counter."""
        self._operations.append(operation)

    def put_face(self, face: Face, template: npt.NDArray[np.floating[Any]]) -> Face:
        """Add a face that is not there; return it with its seq."""
        face = msgspec.structs.replace(face, seq=self._log(FACE, face.id, template))
        self.add(Put(face_item(self.meta.pk, face), absent=True))
        self._faces += 1
        return face

    def set_user_of(self, face: Face, user_id: str) -> None:
        """Note on a face the user that it is associated with; empty for none."""
        key = face_key(self.meta.pk, face.id)
        self.add(Update(key, set={"user": user_id}) if user_id else Update(key, unset=("user",)))

    def erase_face(self, face: Face) -> None:
        """Remove a face and its template."""
        self.add(Delete(face_key(self.meta.pk, face.id)))
        self._erase_template(face.seq)
        self._faces -= 1

    def put_user(
        self, user: User, template: npt.NDArray[np.floating[Any]] | None, *, new: bool = False
    ) -> User:
        """Write a user, and its template in place of the one at ``user.seq`` (0: it had none)."""
        seq = 0
        if template is None:
            self._erase_template(user.seq)
        else:
            seq = self._log(USER, user.id, template, of=user.seq)
            self._void(user.seq)
        user = msgspec.structs.replace(user, seq=seq)
        self.add(Put(user_item(self.meta.pk, user)))
        self._users += new
        return user

    def erase_user(self, user: User) -> None:
        """Remove a user and its template."""
        self.add(Delete(user_key(self.meta.pk, user.id)))
        self._erase_template(user.seq)
        self._users -= 1

    def operations(self) -> Sequence[Operation]:
        """Return everything, with META's move. Call it once."""
        if self.seq == self.meta.seq:
            self._log(VOID)
        meta = self.meta
        in_segments = frozenset(seq for seq in self._erased if seq <= meta.covered)
        move: dict[str, Any] = {
            "seq": self.seq,
            "faces": meta.faces + self._faces,
            "users": meta.users + self._users,
            "changed": self._now,
        }
        expect: dict[str, Any] = {"generation": meta.generation, "seq": meta.seq}
        if self._erased:
            # A segment that is committed meanwhile could hold what is erased here; its commit moves
            # ``covered`` and expects ``erasures``, so only one of the two is committed.
            move["erasures"] = meta.erasures + 1
            expect["covered"] = meta.covered
        add = {"pending": in_segments} if in_segments else {}
        return [*self._operations, Update(meta.key, set=move, add=add, expect=expect)]

    def _log(
        self, kind: str, name: str = "", template: npt.NDArray[np.floating[Any]] | None = None, of: int = 0
    ) -> int:
        self.seq += 1
        item = keyed(log_key(self.meta.pk, self.seq)) | {LOG_KIND: kind} | ({"of": of} if of else {})
        if template is None:
            item[TTL] = self.expires
        else:
            stored = np.asarray(template, dtype="<f2")
            item |= {"id": name, "v": stored.tobytes()}
            if self.meta.index:
                # Six decimals find candidates; ``v`` is scored. Adding zero makes -0.0 a number.
                item[vector_attribute(len(stored))] = [round(x, 6) + 0.0 for x in stored.tolist()]
        self.add(Put(item))
        return self.seq

    def _erase_template(self, seq: int) -> None:
        """Make the log item of a template (0: there is none) a void, and log that it went."""
        if seq:
            self._log(VOID, of=seq)
            self._void(seq)

    def _void(self, seq: int) -> None:
        if not seq:
            return
        # ``of`` stays: a reader that has not come this far must still learn of what went before.
        vector = (vector_attribute(self.meta.dimension),) if self.meta.index else ()
        change = {LOG_KIND: VOID, TTL: self.expires}
        self.add(Update(log_key(self.meta.pk, seq), set=change, unset=("id", "v", *vector)))
        self._erased.append(seq)
