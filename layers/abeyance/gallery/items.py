"""Keys and items of the gallery table.

==========================  ===============  =============================================================
partition                   sort             content
==========================  ===============  =============================================================
``tenant``                  ``C#name``       META of a collection: model, counters, the name it began with
``tenant``                  ``D#name#gen``   a deleted collection whose items are still being removed
``tenant#name#generation``  ``F#face id``    a face without its template
..                          ``S#seq``        change log: a template that came, or a void; ``of`` names one that went
..                          ``O#sha256``     a source object: its version and its faces
..                          ``U#user id``    a user and its faces
..                          ``T#sha256``     an idempotency token that was used
..                          ``G#number``     a snapshot segment: its key in the bucket
..                          ``M#tags``       the collection's tags, as JSON
..                          ``N#a#b``        a verdict that two subjects are not the same person
==========================  ===============  =============================================================

Every partition begins with the tenant, so an IAM policy can hold a role to one tenant with
``dynamodb:LeadingKeys``. The generation in the partition keeps a deleted collection, still being removed,
apart from a new one of the same name, and never shows a searcher one as the other.

A change writes new log items: a template under the next seq, or a void that says in ``of`` the seq of the template
that went. The log item of a template that went becomes a void itself. So every seq up to META's has its
log item until a void's time to live is over, and a reader recognises by a gap that it has not read everything.

Where a collection is in DynamoDB's vector index, each template's log item also has it as a list of numbers, in an
attribute named after its length (:func:`vector_attribute`); a void has none, and is in no index.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import msgspec

from abeyance.aws.sequencer import sequencer_order
from abeyance.aws.table import PARTITION, SORT, TTL, Item, Key
from abeyance.gallery.model import (
    Collection,
    CollectionRef,
    Face,
    FaceDetails,
    SourceObject,
    User,
    UserStatus,
    path_part,
)

#: Attribute of a log item, and its values: a template of a face, of a user, or a void.
LOG_KIND = "k"
FACE, USER, VOID = "F", "U", "V"
#: Time to live of voids and of marks of deleted sources. Queues and their dead-letter queues together keep
#: an event for up to 28 days; a searcher that was idle for longer reads everything again.
KEEP_S = 35 * 24 * 3600

#: Attributes of a new collection's META; the others are added when they are first needed.
_NEW_META = (
    *("generation", "model", "dimension", "created", "span"),
    *("seq", "faces", "users", "covered", "erasures"),
)


@dataclass(frozen=True, slots=True)
class Meta:
    """A collection's META item."""

    ref: CollectionRef
    generation: str
    model: str
    dimension: int
    created: str
    #: Changes in a segment.
    span: int
    seq: int = 0
    faces: int = 0
    users: int = 0
    #: Changes up to this one are in segments.
    covered: int = 0
    #: Counts erasures, so that a segment made of a log read before one is not committed after it.
    erasures: int = 0
    #: Seqs of erased templates that may still be in segments.
    pending: frozenset[int] = frozenset()
    #: 1 while a writer makes the next segment: an object may lie there that nothing points to yet.
    uploading: int = 0
    #: When seq moved last, RFC 3339; empty if it never did.
    changed: str = ""
    #: Name of the vector index that has every template of the collection; empty for none. Decided when the
    #: collection is created: an index that is turned on later would not have the templates written before.
    index: str = ""
    #: Another text after each restore from a backup; see :meth:`~abeyance.gallery.facade.Gallery.renew`.
    restored: str = ""
    #: Name that it was created with, if it took another one since: its items stay where they are.
    home: str = ""
    #: How many verdicts there are that two subjects are not the same person.
    verdicts: int = 0

    @property
    def key(self) -> Key:
        """Key of the item."""
        return meta_key(self.ref)

    @property
    def pk(self) -> str:
        """Partition of the collection's own items."""
        return self.origin.pk(self.generation)

    @property
    def origin(self) -> CollectionRef:
        """The collection under the name that it was created with."""
        return CollectionRef(self.ref.tenant, self.home) if self.home else self.ref

    @property
    def prefix(self) -> str:
        """Prefix of the collection's segments in the bucket."""
        return object_prefix(self.origin, self.generation)

    @property
    def public_generation(self) -> str:
        """The generation as searchers compare it: another one after each restore."""
        return f"{self.generation}.{self.restored}" if self.restored else self.generation

    def public(self) -> Collection:
        """Return the collection as callers see it."""
        return Collection(
            ref=self.ref,
            model=self.model,
            dimension=self.dimension,
            created=self.created,
            changed=self.changed or self.created,
            face_count=self.faces,
            user_count=self.users,
            seq=self.seq,
            generation=self.public_generation,
            vector_index=self.index,
            home=self.home,
            verdicts=self.verdicts,
        )

    def item(self) -> Item:
        """Return the item of a new collection; later changes update single attributes."""
        item = keyed(self.key) | {name: getattr(self, name) for name in _NEW_META}
        return item | ({"index": self.index} if self.index else {})

    @classmethod
    def of(cls, item: Item) -> Meta:
        """Read META from its item."""
        rest = {k: v for k, v in item.items() if k not in (PARTITION, SORT)}
        return cls(ref=CollectionRef(item[PARTITION], item[SORT][2:]), **rest)


def keyed(key: Key) -> Item:
    """Return the key as the attributes of an item."""
    return {PARTITION: key[0], SORT: key[1]}


def object_prefix(ref: CollectionRef, generation: str) -> str:
    """Return the prefix of a collection's segments in the bucket."""
    return f"{ref.tenant}/{path_part(ref.name)}/{generation}/"


def meta_key(ref: CollectionRef) -> Key:
    """Return the key of META."""
    return ref.tenant, f"C#{ref.name}"


def purge_key(ref: CollectionRef, generation: str) -> Key:
    """Return the key of the note that a deleted collection is still being removed."""
    return ref.tenant, f"D#{ref.name}#{generation}"


def log_key(pk: str, seq: int) -> Key:
    """Return the key of the log item of a change."""
    return pk, f"S#{seq:016d}"


def vector_attribute(dimension: int) -> str:
    """Return the attribute in which a log item has its template for the vector index.

    DynamoDB refuses to write an item whose vector has not the length that an index on the attribute has. With the
    length in the name, collections of a former model can still be changed beside the index of the present one.
    """
    return f"vector{dimension}"


def face_key(pk: str, face_id: str) -> Key:
    """Return the key of a face."""
    return pk, f"F#{face_id}"


def user_key(pk: str, user_id: str) -> Key:
    """Return the key of a user."""
    return pk, f"U#{user_id}"


def segment_key(pk: str, number: int) -> Key:
    """Return the key of the item that points to a segment."""
    return pk, f"G#{number:010d}"


def tags_key(pk: str) -> Key:
    """Return the key of a collection's tags."""
    return pk, "M#tags"


def source_key(pk: str, bucket: str, key: str) -> Key:
    """Return the key of a source object."""
    return pk, f"O#{digest(bucket, key)}"


def token_key(pk: str, operation: str, token: str) -> Key:
    """Return the key of an idempotency token."""
    return pk, f"T#{digest(operation, token)}"


def digest(*parts: str) -> str:
    """Return the SHA-256 of parts, each with its length, so that no two lists of parts are hashed alike."""
    joined = b"".join(len(b).to_bytes(4, "big") + b for b in (p.encode() for p in parts))
    return hashlib.sha256(joined).hexdigest()


class _FaceDocument(FaceDetails, frozen=True, kw_only=True, omit_defaults=True):
    """The part of a face that is written once, as JSON in one attribute."""

    created: str
    source: SourceObject | None = None


_decoder = msgspec.json.Decoder(_FaceDocument)


def details_of(face: FaceDetails) -> dict[str, Any]:
    """Return the fields that are the same for a new, a stored and a returned face."""
    return {name: getattr(face, name) for name in FaceDetails.__struct_fields__}


def face_item(pk: str, face: Face) -> Item:
    """Return the item of a face."""
    document = _FaceDocument(created=face.created, source=face.source, **details_of(face))
    item = keyed(face_key(pk, face.id)) | {"seq": face.seq, "face": msgspec.json.encode(document).decode()}
    return item | ({"user": face.user_id} if face.user_id else {})


def face_of(ref: CollectionRef, item: Item) -> Face:
    """Read a face from its item."""
    document = _decoder.decode(item["face"])
    return Face(
        id=item[SORT][2:],
        collection=ref,
        seq=item["seq"],
        user_id=item.get("user", ""),
        created=document.created,
        source=document.source,
        **details_of(document),
    )


def user_item(pk: str, user: User) -> Item:
    """Return the item of a user."""
    return keyed(user_key(pk, user.id)) | {
        "status": user.status.value,
        "faces": list(user.face_ids),
        "seq": user.seq,
        "created": user.created,
    }


def user_of(ref: CollectionRef, item: Item) -> User:
    """Read a user from its item."""
    return User(
        id=item[SORT][2:],
        collection=ref,
        status=UserStatus(item["status"]),
        face_ids=tuple(item["faces"]),
        seq=item["seq"],
        created=item["created"],
    )


#: Uploads of one version that a record names at most beside the latest.
_EARLIER_UPLOADS = 20


class SourceRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The record of a source object."""

    version: str
    sequencer: str
    #: The sequencers of earlier uploads of the same version that indexed it, or began to.
    earlier: tuple[str, ...] = ()
    #: Deleted; kept for a while to refuse index events that come late.
    gone: bool = False
    #: Faces that are in the collection, or are still to be removed from it.
    faces: tuple[str, ...] = ()
    #: How many of this version's faces have been put.
    done: int = 0
    #: All of this version's faces have been put.
    complete: bool = False

    def item(self, pk: str, source: SourceObject, expires: int = 0) -> Item:
        """Return the item; it expires at that epoch second unless that is 0."""
        flags = {"gone": int(self.gone), "complete": int(self.complete)}
        lists = {"faces": list(self.faces), "earlier": list(self.earlier)}
        item = keyed(source_key(pk, source.bucket, source.key)) | msgspec.structs.asdict(self) | flags | lists
        return item | ({TTL: expires} if expires else {})

    def renewed(self, sequencer: str) -> SourceRecord:
        """Return the record after another upload of the same version; the later one stands for it."""
        first, last = sorted((self.sequencer, sequencer), key=sequencer_order)
        known = (*self.earlier, first) if first != last else self.earlier
        return msgspec.structs.replace(self, sequencer=last, earlier=known[-_EARLIER_UPLOADS:])

    @classmethod
    def of(cls, item: Item) -> SourceRecord:
        """Read a record from its item."""
        return msgspec.convert(item, cls, strict=False)


def is_later(a: str, b: str) -> bool:
    """Return whether S3 sequencer ``a`` comes after ``b``; an empty one cannot be compared, so it does not."""
    return bool(a and b) and sequencer_order(a) > sequencer_order(b)
