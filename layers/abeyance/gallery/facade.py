"""A whole gallery, composed of its stores."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TypedDict

from abeyance.aws.dynamodb import back_off
from abeyance.aws.objects import Objects
from abeyance.aws.table import Table
from abeyance.aws.timestamps import utc_now
from abeyance.gallery.changelog import ChangeLog
from abeyance.gallery.collections import SPAN, CollectionStore
from abeyance.gallery.faces import FaceStore
from abeyance.gallery.snapshots import SnapshotStore
from abeyance.gallery.storage import Storage
from abeyance.gallery.tags import TagStore
from abeyance.gallery.users import UserStore
from abeyance.gallery.verdicts import VerdictStore


class Options(TypedDict, total=False):
    """The optional arguments of a gallery; see :class:`Gallery`."""

    clock: Callable[[], datetime]
    pause: Callable[[int], None]
    span: int
    vector_index: str
    auto_compact: bool


class Gallery:
    """Collections of faces and users in a table and a bucket.

    Every method is idempotent: after a failure, call it again. Any method on a collection raises
    :class:`~abeyance.gallery.errors.CollectionNotFound` where there is none, and any change raises
    :class:`~abeyance.gallery.errors.GalleryBusy` when other writers win every attempt.

    A read takes a collection's name, or the collection as :meth:`describe` or a search returned it. The latter saves
    the look-up of the name; once the collection is deleted, it finds what is not removed yet.

    Parameters
    ----------
    table, objects
        Where items and snapshot segments are stored.
    clock
        Returns the time for ``created``, ``changed`` and times to live.
    pause
        Waits before attempt n + 1 at a transaction that another writer stopped.
    span
        Changes in a snapshot segment of a collection that is created here.
    vector_index
        Name of the table's vector index, for the templates of collections that are created here; empty for none.
        It must be of their length.
    auto_compact
        Let writers write snapshot segments when there are enough changes for one.
    """

    def __init__(
        self,
        table: Table,
        objects: Objects,
        *,
        clock: Callable[[], datetime] = utc_now,
        pause: Callable[[int], None] = back_off,
        span: int = SPAN,
        vector_index: str = "",
        auto_compact: bool = True,
    ) -> None:
        self.table, self.objects = table, objects
        self.storage = storage = Storage(table, objects, clock, pause)
        self.collections = collections = CollectionStore(storage, span=span, vector_index=vector_index)
        self.changelog = changelog = ChangeLog(storage)
        snapshots = SnapshotStore(storage, changelog, auto_compact=auto_compact)
        verdicts = VerdictStore(storage)
        users = UserStore(storage, snapshots, verdicts)
        faces = FaceStore(storage, snapshots, users)
        tags = TagStore(storage)

        self.create_collection = collections.create
        self.describe = collections.describe
        self.list_collections = collections.page
        self.delete_collection = collections.delete
        self.sweep = collections.sweep
        self.exchange = collections.exchange
        self.finish_erasures = snapshots.finish_erasures
        self.tags = tags.read
        self.add_tags = tags.add
        self.remove_tags = tags.remove
        self.index = faces.index
        self.index_new = faces.index_new
        self.get_faces = faces.get
        self.list_faces = faces.page
        self.templates = faces.templates
        self.templates_of = faces.templates_of
        self.delete_faces = faces.delete
        self.delete_source = faces.delete_source
        self.indexed_by = faces.indexed_by
        self.faces_of_source = faces.of_source
        self.create_user = users.create
        self.delete_user = users.delete
        self.get_users = users.get
        self.list_users = users.page
        self.user_template = users.template
        self.associate_faces = users.associate
        self.disassociate_faces = users.disassociate
        self.move_faces = users.move
        self.add_verdict = verdicts.add
        self.withdraw_verdict = verdicts.withdraw
        self.verdicts_of = verdicts.of
        self.list_verdicts = verdicts.all
        self.match_verdicts = verdicts.match
        self.changes = snapshots.changes
        self.compact = snapshots.compact
        self.renew = snapshots.renew
