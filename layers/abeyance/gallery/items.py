"""Keys and items of the gallery table.

==========================  ===============  =============================================================
partition                   sort             what
==========================  ===============  =============================================================
``tenant``                  ``C#name``       META of a collection: model, counters, erasures under way
``tenant``                  ``D#name#gen``   a deleted collection whose items are still being removed
``tenant#name#generation``  ``F#face id``    a face without its template
..                          ``S#seq``        change log: a template that came, or a void; ``of`` names one that went
..                          ``O#sha256``     a source object: its version and its faces
..                          ``U#user id``    a user and its faces
..                          ``T#sha256``     an idempotency token that was used
..                          ``G#number``     a snapshot segment: where it lies in the bucket
==========================  ===============  =============================================================

Every partition begins with the tenant, so an IAM policy can hold a role to one tenant with
``dynamodb:LeadingKeys``. The generation in the partition keeps a deleted collection, still being removed,
apart from a new one of the same name, and never shows a searcher one as the other.

A change writes new log items: a template under the next seq, or a void that says ``of`` which seq the template
is that went. The log item of a template that went becomes a void itself. So every seq up to META's has its
log item until a void's time to live is over, and a reader knows from a gap that it has not seen everything.

Where a collection is in DynamoDB's vector index, each template's log item also has it as a list of numbers, in an
attribute named after its length (:func:`vector_attribute`); a void has none, and is in no index.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

import msgspec

from abeyance.gallery.model import Collection, CollectionRef, Face, Source, User, UserStatus
from abeyance.gallery.table import PARTITION, SORT, TTL, Item, Key

#: Sorts after every character that ids are made of.
END = "\uffff"

#: Attribute of a log item, and what it says: a template of a face, of a user, or a void.
LOG_KIND = "k"
FACE, USER, VOID = "F", "U", "V"
#: Seconds that voids and marks of deleted sources stay. Queues and their dead-letter queues together keep
#: an event for up to 28 days; a searcher that was idle for longer reads everything again.
KEEP = 35 * 24 * 3600


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
    #: Name of the vector index that has every template of the collection; empty for none. Settled when the
    #: collection is made: an index that is turned on later would not have the templates written before.
    index: str = ""

    @property
    def key(self) -> Key:
        return meta_key(self.ref)

    @property
    def pk(self) -> str:
        """Partition of the collection's own items."""
        return f"{self.ref.tenant}#{self.ref.name}#{self.generation}"

    def public(self) -> Collection:
        return Collection(
            ref=self.ref,
            model=self.model,
            dimension=self.dimension,
            created=self.created,
            changed=self.changed or self.created,
            face_count=self.faces,
            user_count=self.users,
            seq=self.seq,
            generation=self.generation,
        )

    def item(self) -> Item:
        """For a new collection; later changes are updates of single attributes."""
        item: Item = {
            PARTITION: self.key[0],
            SORT: self.key[1],
            "generation": self.generation,
            "model": self.model,
            "dimension": self.dimension,
            "created": self.created,
            "span": self.span,
            "seq": self.seq,
            "faces": self.faces,
            "users": self.users,
            "covered": self.covered,
            "erasures": self.erasures,
        }
        return item | ({"index": self.index} if self.index else {})

    @classmethod
    def of(cls, item: Item) -> Meta:
        rest = {k: v for k, v in item.items() if k not in (PARTITION, SORT)}
        return cls(ref=CollectionRef(item[PARTITION], item[SORT][2:]), **rest)


def rfc3339(moment: datetime) -> str:
    """An aware moment, in UTC, to the millisecond."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def meta_key(ref: CollectionRef) -> Key:
    return ref.tenant, f"C#{ref.name}"


def purge_key(ref: CollectionRef, generation: str) -> Key:
    return ref.tenant, f"D#{ref.name}#{generation}"


def log_key(pk: str, seq: int) -> Key:
    return pk, f"S#{seq:016d}"


def vector_attribute(dimension: int) -> str:
    """Where a log item has its template for the vector index.

    DynamoDB refuses to write an item whose vector has not the length that an index on the attribute has. With the
    length in the name, collections of a former model can still be changed beside the index of the present one.
    """
    return f"vector{dimension}"


def face_key(pk: str, face_id: str) -> Key:
    return pk, f"F#{face_id}"


def user_key(pk: str, user_id: str) -> Key:
    return pk, f"U#{user_id}"


def segment_key(pk: str, number: int) -> Key:
    return pk, f"G#{number:010d}"


def source_key(pk: str, bucket: str, key: str) -> Key:
    return pk, f"O#{digest(bucket, key)}"


def token_key(pk: str, operation: str, token: str) -> Key:
    return pk, f"T#{digest(operation, token)}"


def digest(*parts: str) -> str:
    """SHA-256 of parts that cannot run into each other."""
    joined = b"".join(len(b).to_bytes(4, "big") + b for b in (p.encode() for p in parts))
    return hashlib.sha256(joined).hexdigest()


class _Document(msgspec.Struct, omit_defaults=True):
    """What of a face never changes, as JSON in one attribute."""

    created: str
    model: str
    image_id: str = ""
    external_image_id: str = ""
    source: Source | None = None
    box: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    confidence: float = 0.0
    quality: dict[str, float] = {}


_decoder = msgspec.json.Decoder(_Document)


def face_item(pk: str, face: Face) -> Item:
    document = _Document(
        created=face.created,
        model=face.model,
        image_id=face.image_id,
        external_image_id=face.external_image_id,
        source=face.source,
        box=face.box,
        confidence=face.confidence,
        quality=face.quality,
    )
    pk, sk = face_key(pk, face.id)
    item = {PARTITION: pk, SORT: sk, "seq": face.seq, "face": msgspec.json.encode(document).decode()}
    return item | ({"user": face.user_id} if face.user_id else {})


def face_of(ref: CollectionRef, item: Item) -> Face:
    document = _decoder.decode(item["face"])
    return Face(
        id=item[SORT][2:],
        collection=ref,
        seq=item["seq"],
        user_id=item.get("user", ""),
        created=document.created,
        model=document.model,
        image_id=document.image_id,
        external_image_id=document.external_image_id,
        source=document.source,
        box=document.box,
        confidence=document.confidence,
        quality=document.quality,
    )


def user_item(pk: str, user: User) -> Item:
    pk, sk = user_key(pk, user.id)
    return {
        PARTITION: pk,
        SORT: sk,
        "status": user.status.value,
        "faces": list(user.face_ids),
        "seq": user.seq,
        "created": user.created,
    }


def user_of(ref: CollectionRef, item: Item) -> User:
    return User(
        id=item[SORT][2:],
        collection=ref,
        status=UserStatus(item["status"]),
        face_ids=tuple(item["faces"]),
        seq=item["seq"],
        created=item["created"],
    )


@dataclass(frozen=True, slots=True)
class Slot:
    """What is known of a source object."""

    version: str
    sequencer: str
    #: Deleted; kept for a while to refuse index events that come late.
    gone: bool
    #: Faces that are, or still have to go out of, the collection.
    faces: tuple[str, ...] = ()
    #: How many of this version's faces have been put.
    done: int = 0
    #: All of this version's faces have been put.
    complete: bool = False

    def item(self, pk: str, source: Source, expires: int = 0) -> Item:
        pk, sk = source_key(pk, source.bucket, source.key)
        item: Item = {
            PARTITION: pk,
            SORT: sk,
            "version": self.version,
            "sequencer": self.sequencer,
            "gone": int(self.gone),
            "faces": list(self.faces),
            "done": self.done,
            "complete": int(self.complete),
        }
        return item | ({TTL: expires} if expires else {})

    @classmethod
    def of(cls, item: Item) -> Slot:
        return cls(
            version=item["version"],
            sequencer=item["sequencer"],
            gone=bool(item["gone"]),
            faces=tuple(item["faces"]),
            done=item["done"],
            complete=bool(item["complete"]),
        )


def later(a: str, b: str) -> bool:
    """Whether S3 sequencer ``a`` is after ``b``; an empty one is never told apart, so it is not.

    Sequencers of different length compare after the shorter is padded on the right with zeros
    (https://repost.aws/knowledge-center/s3-duplicate-sqs-messages).
    """
    if not a or not b:
        return False
    width = max(len(a), len(b))
    return a.lower().ljust(width, "0") > b.lower().ljust(width, "0")
