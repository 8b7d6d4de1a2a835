"""Tags of collections: key and value, for their owners' own bookkeeping."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from abeyance.aws.table import Operation, Put, Require
from abeyance.gallery.errors import TooManyTags
from abeyance.gallery.items import Meta, keyed, tags_key
from abeyance.gallery.model import CollectionRef
from abeyance.gallery.storage import Storage

#: Most tags of one collection (Amazon Rekognition's limit of a TagMap).
TAGS_PER_COLLECTION = 200


class TagStore:
    """The tags of collections. They are removed with their collection; one that takes its name has none."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def read(self, ref: CollectionRef) -> dict[str, str]:
        """Return a collection's tags, by key."""
        return _tags(self._stored(self._storage.meta(ref)))

    def add(self, ref: CollectionRef, tags: Mapping[str, str]) -> None:
        """Add tags; a key that is there gets the new value. Raises :class:`TooManyTags`."""
        self._storage.retry(self._change, ref, tags, ())

    def remove(self, ref: CollectionRef, keys: Iterable[str]) -> None:
        """Remove the tags of those of the keys that are there."""
        self._storage.retry(self._change, ref, {}, tuple(keys))

    def _change(self, ref: CollectionRef, tags: Mapping[str, str], keys: tuple[str, ...]) -> None:
        meta = self._storage.meta(ref)
        stored = self._stored(meta)
        before = _tags(stored)
        after = {key: value for key, value in (before | dict(tags)).items() if key not in keys}
        if after == before:
            return
        unchanged = {"tags": stored or None}
        self._storage.table.transact(
            [
                put_tags(meta, after, unchanged),
                # Nothing is written into a partition that a deletion is clearing.
                Require(meta.key, expect={"generation": meta.generation}),
            ]
        )

    def _stored(self, meta: Meta) -> str:
        return str((self._storage.table.get(tags_key(meta.pk)) or {}).get("tags", ""))


def put_tags(meta: Meta, tags: Mapping[str, str], unchanged: Mapping[str, str | None]) -> Operation:
    """Return the operation that writes a collection's tags. Raises :class:`TooManyTags`."""
    if len(tags) > TAGS_PER_COLLECTION:
        raise TooManyTags(f"a collection can have {TAGS_PER_COLLECTION} tags at most; remove some first")
    text = msgspec.json.encode(dict(tags), order="sorted").decode()
    return Put(keyed(tags_key(meta.pk)) | {"tags": text}, expect=unchanged)


def _tags(stored: str) -> dict[str, str]:
    return msgspec.json.decode(stored, type=dict[str, str]) if stored else {}
