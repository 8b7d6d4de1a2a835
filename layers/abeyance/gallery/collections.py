"""Collections: created, listed, and removed with everything in them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from abeyance.aws.table import LAST_SORT, PARTITION, SORT, Condition, Conflict, Delete, Item, Put
from abeyance.gallery.errors import (
    CollectionChanged,
    CollectionExists,
    CollectionNotFound,
    InvalidInput,
)
from abeyance.gallery.items import Meta, keyed, meta_key, object_prefix, purge_key, tags_key
from abeyance.gallery.model import Collection, CollectionRef, Page
from abeyance.gallery.paging import page_of, page_start
from abeyance.gallery.storage import Storage
from abeyance.gallery.tags import put_tags

#: Changes in a segment.
SPAN = 16_384


class CollectionStore:
    """The collections of all tenants; for parameters see :class:`~abeyance.gallery.facade.Gallery`."""

    def __init__(self, storage: Storage, *, span: int = SPAN, vector_index: str = "") -> None:
        self._storage = storage
        self._span = span
        self._vector_index = vector_index

    def create(
        self, ref: CollectionRef, *, model: str, dimension: int, tags: Mapping[str, str] | None = None
    ) -> Collection:
        """Create an empty collection, pinned to one embedding model, with its tags.

        Raises
        ------
        CollectionExists
            The tenant has one of that name.
        TooManyTags
            More than a collection can have.
        """
        if not model or dimension < 1:
            raise InvalidInput("a collection needs the identity of its model and the length of its templates")
        generation = uuid.uuid4().hex[:16]
        meta = Meta(
            ref, generation, model, dimension, self._storage.now(), self._span, index=self._vector_index
        )
        also = [put_tags(meta, tags, {"tags": None})] if tags else []
        try:
            self._storage.table.transact([Put(meta.item(), absent=True), *also])
        except Conflict:
            # It exists, or somebody is creating it at this moment.
            raise CollectionExists("there is a collection of that name already") from None
        return meta.public()

    def describe(self, ref: CollectionRef) -> Collection:
        """Return the collection as it is now."""
        return self._storage.meta(ref).public()

    def page(self, tenant: str, *, limit: int = 100, token: str = "") -> Page[Collection]:
        """Return a page of the tenant's collections, by name. Raises ``InvalidPage`` on a token not from here."""
        CollectionRef(tenant, "any")
        listing = f"collections of {tenant}"
        items = self._storage.list_items(tenant, "C#", page_start(listing, token), limit)
        found = [Meta.of(item).public() for item in items]
        return page_of(listing, found, [collection.ref.name for collection in found], limit)

    def delete(self, ref: CollectionRef) -> None:
        """Remove a collection with everything in it, here and in snapshots. It is gone at once.

        After a failure half-way the name is free already; call again to have the rest removed. A call with
        nothing to do or to finish raises ``CollectionNotFound``.
        """
        existed = self._storage.retry(self.unlist, ref)
        if not self._purge(ref.tenant, f"D#{ref.name}#") and not existed:
            raise CollectionNotFound("there is no collection of that name")

    def exchange(self, one: Collection, other: Collection) -> tuple[Collection, Collection]:
        """Let two collections of a tenant have each other's name and tags, at once; return them as they are then.

        Raises :class:`CollectionChanged` unless both are as they were when they were read.
        """
        if one.ref.tenant != other.ref.tenant or one.ref == other.ref:
            raise InvalidInput("two collections of one tenant exchange their names")
        first, second = (self._as_read(known) for known in (one, other))
        moves = [
            Put(_renamed(second, one.ref), expect=_unmoved(first)),
            Put(_renamed(first, other.ref), expect=_unmoved(second)),
        ]
        tagged = [self._storage.table.get(tags_key(known.pk)) for known in (one, other)]
        texts = [str((item or {}).get("tags", "")) for item in tagged]
        if any(texts):
            moves += [
                Put(keyed(tags_key(known.pk)) | {"tags": text or "{}"}, expect={"tags": stored or None})
                for known, stored, text in zip((one, other), texts, texts[::-1], strict=True)
            ]
        try:
            self._storage.table.transact(moves)
        except Conflict:
            raise _changed() from None
        return self.describe(one.ref), self.describe(other.ref)

    def _as_read(self, known: Collection) -> Item:
        item = self._storage.table.get(meta_key(known.ref))
        now = Meta.of(item).public() if item else None
        if item is None or now is None or (now.generation, now.seq) != (known.generation, known.seq):
            raise _changed()
        return item

    def sweep(self, tenant: str) -> int:
        """Finish the interrupted deletions of a tenant's collections; return how many there were."""
        return self._purge(tenant, "D#")

    def unlist(self, ref: CollectionRef) -> bool:
        """Remove a collection from the listing and note that its items are to be removed.

        Returns whether there was one. Raises :class:`Conflict` when another writer changes it at this moment.
        """
        meta = self._storage.find_meta(ref)
        if meta is None:
            return False
        pk, sk = purge_key(ref, meta.generation)
        note = Put({PARTITION: pk, SORT: sk, "since": self._storage.now(), "home": meta.origin.name})
        self._storage.table.transact([Delete(meta.key, expect={"generation": meta.generation}), note])
        return True

    def _purge(self, tenant: str, prefix: str) -> int:
        table, objects = self._storage.table, self._storage.objects
        count = 0
        for note in table.query(tenant, prefix, f"{prefix}{LAST_SORT}"):
            name, generation = note[SORT][2:].split("#")
            ref = CollectionRef(tenant, note.get("home", name))
            pk = ref.pk(generation)
            table.delete_many((pk, item[SORT]) for item in table.query(pk, attributes=(SORT,)))
            objects.delete(objects.list(object_prefix(ref, generation)))
            table.delete_many([(tenant, note[SORT])])
            count += 1
        return count


def _renamed(item: Item, ref: CollectionRef) -> Item:
    """Return META of a collection under another name; everything else of it stays where it is."""
    home = Meta.of(item).origin.name
    renamed = {name: value for name, value in item.items() if name != "home"} | keyed(meta_key(ref))
    return renamed | ({"home": home} if home != ref.name else {})


def _unmoved(item: Item) -> Condition:
    """Return the condition that META is as it was read; ``pending`` only grows when ``seq`` moves."""
    names = ("generation", "seq", "covered", "erasures", "uploading", "restored", "verdicts")
    return {name: item.get(name) for name in names}


def _changed() -> CollectionChanged:
    return CollectionChanged("one of the collections changed meanwhile; bring them level and try again")
