"""A deployment's stores in memory with a few people in them, and calls that end the process."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from tests.fakes import MemoryObjects, MemoryTable

from abeyance.console.reviews import ReviewService
from abeyance.embedding.npy import decode_chips, encode
from abeyance.erasure.erase import Erasures
from abeyance.erasure.remains import Retention
from abeyance.erasure.store import ErasureStore
from abeyance.erasure.walk import PersonWalk
from abeyance.gallery.facade import Gallery
from abeyance.gallery.model import CollectionRef, NewFace, SourceObject
from abeyance.ledger.admissible import check_body
from abeyance.ledger.entry import Record
from abeyance.moratorium.decide import Clause, Decision
from abeyance.pipeline import events
from abeyance.pipeline.batch import Batch, Message
from abeyance.pipeline.events import (
    DetectedFace,
    Event,
    FacesMatched,
    IndexedFace,
    Match,
    SearchedFace,
    Upload,
)
from abeyance.pipeline.leftovers import face_id, review_key
from abeyance.pipeline.outbox import Outbox
from abeyance.pipeline.ports import ObjectGone
from abeyance.pipeline.review import EnqueueReviews
from abeyance.pipeline.review_store import ReviewStore
from abeyance.pipeline.upload_records import KEY, UploadRecords
from abeyance.pipeline.uploads import chips_key, result_key

STAFF = CollectionRef("acme", "staff")
MODEL = "test-model@000000000000"
DECISION = Decision(
    outcome="permit",
    clause=Clause.PERMITTED,
    reason="ok",
    tenant="acme",
    action="search",
    purpose="access_control",
    human_review=1,
)


class Died(BaseException):
    """The end of the process, which no code catches."""


class Mortality:
    """Ends the process before or after the n-th call of a port, counted over all ports."""

    def __init__(self) -> None:
        self.calls, self.dies_at, self.after = 0, -1, False

    def wrap(self, port: Any) -> Any:
        """Return the port with calls that can end the process."""
        mortality = self

        class Mortal:
            def __getattr__(self, name: str) -> Any:
                inner = getattr(port, name)
                if not callable(inner):
                    return inner

                def call(*args: Any, **named: Any) -> Any:
                    mortality.calls += 1
                    dies = mortality.calls == mortality.dies_at
                    if dies and not mortality.after:
                        raise Died
                    try:
                        return inner(*args, **named)
                    finally:
                        if dies:
                            raise Died

                return call

        return Mortal()


class Buckets:
    """Objects by bucket and key."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, str], bytes] = {}

    def get(self, bucket: str, key: str) -> bytes:
        try:
            return self.held[bucket, key]
        except KeyError:
            raise ObjectGone from None

    def put(self, bucket: str, key: str, body: bytes, content_type: str) -> None:
        self.held[bucket, key] = body

    def change(self, bucket: str, key: str, edit: Callable[[bytes], bytes], content_type: str) -> None:
        self.held[bucket, key] = edit(self.get(bucket, key))

    def delete(self, bucket: str, key: str) -> None:
        self.held.pop((bucket, key), None)


class Ledger:
    """Records by id; another content under an id that is there is a conflict."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}

    def put(self, record: Record) -> None:
        check_body(record.body)
        assert self.records.setdefault(record.id, record) == record, "conflict on the ledger"


class Guard:
    def decide(self, *_: str) -> Decision:
        return DECISION


class World:
    """Stores that outlive processes, and the processes on them."""

    def __init__(self) -> None:
        self.mortality = Mortality()
        self.tables = {
            "gallery": MemoryTable(),
            "uploads": MemoryTable(partition=KEY, sort=""),
            "reviews": MemoryTable(),
            "erasures": MemoryTable(),
        }
        self.segments, self.buckets, self.ledger = MemoryObjects(), Buckets(), Ledger()
        self.emitted: list[Event] = []
        self.start()

    def start(self) -> None:
        """Start the process (again)."""
        wrap = self.mortality.wrap
        table = {name: wrap(one) for name, one in self.tables.items()}
        objects, ledger = wrap(self.buckets), wrap(self.ledger)
        self.gallery = Gallery(table["gallery"], wrap(self.segments), pause=lambda _: None, span=8)
        self.records = UploadRecords(table["uploads"], 30, lambda: 1e9)
        reviews = ReviewStore(table["reviews"])
        self.outbox = outbox = Outbox("review", self.records, wrap(self), objects, "results")
        self.reviews = ReviewService(
            reviews, objects, "chips", self.gallery, Guard(), outbox, ledger, self.hide, lambda: 1e9
        )
        self.store = ErasureStore(table["erasures"])
        self.erasures = Erasures(
            self.store,
            PersonWalk(self.gallery, self.records, reviews, objects, "chips"),
            self.gallery,
            self.records,
            outbox,
            objects,
            "chips",
            self.reviews,
            ledger,
            self.hide,
            Retention(retention_days=30, archive_days=7, recovery_days=35, log_days=90),
        )

    def emit(self, events: Sequence[Event]) -> None:
        """Take events, as the bus does."""
        self.emitted += events

    @staticmethod
    def hide(text: str) -> str:
        """Return a pseudonym."""
        return hashlib.sha256(text.encode()).hexdigest()

    # -- what was there before

    def upload(self, name: str, action: str = "index", **fields: Any) -> Upload:
        """Claim the key of an upload."""
        given = {"version": name, "sequencer": "0A", "etag": name, **fields}
        upload = Upload(
            bucket="uploads",
            key=f"acme/{action}/staff/{name}",
            tenant="acme",
            action=action,
            collection="staff",
            **given,
        )
        assert self.records.claim(upload)
        return upload

    def permit(self, upload: Upload, external_image_id: str = "") -> events.UploadPermitted:
        """Record the gate's permit."""
        permitted = events.UploadPermitted.of(
            upload, decision=DECISION, purpose="access_control", external_image_id=external_image_id
        )
        self.records.record("gate", permitted)
        return permitted

    def detect(self, upload: Upload, faces: int, external_image_id: str = "") -> events.FacesDetected:
        """Record the detected faces of a permitted upload, with their chips."""
        chips = np.arange(1, faces + 1, dtype=np.uint8)[:, None, None, None] * np.ones(
            (1, 112, 112, 3), np.uint8
        )
        self.buckets.put("chips", chips_key(upload), encode(chips), "")
        detected = events.FacesDetected.of(
            upload,
            permitted=self.permit(upload, external_image_id),
            width=640,
            height=480,
            chips=chips_key(upload),
            faces=tuple(face(chip) for chip in range(faces)),
        )
        self.records.record("detect", detected)
        return detected

    def enrol(self, name: str, external_image_id: str, faces: int = 1, *, recorded: bool = True) -> list[str]:
        """Index a photo's faces; ``recorded``: the stage came to its end. Returns their ids."""
        upload = self.upload(name)
        detected = self.detect(upload, faces, external_image_id)
        ids = [face_id(upload, chip) for chip in range(faces)]
        self.index(ids, external_image_id, SourceObject("uploads", upload.key, upload.version, "0A"))
        if recorded:
            indexed = events.FacesIndexed.of(
                upload,
                decision=DECISION,
                model=MODEL,
                faces=tuple(
                    IndexedFace(face_id=one, external_image_id=external_image_id, face=found)
                    for one, found in zip(ids, detected.faces, strict=True)
                ),
            )
            self.records.record("recognize", indexed)
            self.result(indexed)
        return ids

    def index(self, ids: Sequence[str], external_image_id: str, source: SourceObject | None = None) -> None:
        """Add faces to the gallery."""
        new = [
            NewFace(
                id=one,
                model=MODEL,
                template=unit(one),
                external_image_id=external_image_id,
            )
            for one in ids
        ]
        self.gallery.index(STAFF, new, source=source)

    def search(self, name: str, *candidates: tuple[str, str], reviewers: int = 0) -> Upload:
        """Record a search; each candidate is a face and its external image id."""
        upload = self.upload(name, "search")
        self.detect(upload, 1)
        matches = tuple(Match(face_id=one, similarity=95.0, external_image_id=its) for one, its in candidates)
        matched = FacesMatched.of(
            upload,
            decision=DECISION,
            model=MODEL,
            threshold=80.0,
            faces=(SearchedFace(face=face(0), matches=matches),),
            reviewers=reviewers,
        )
        if reviewers:
            self.buckets.put("chips", review_key(upload), msgspec.json.encode(matched), "")
            hidden = tuple(msgspec.structs.replace(one, matches=()) for one in matched.faces)
            matched = msgspec.structs.replace(matched, faces=hidden)
        self.records.record("recognize", matched)
        if reviewers:
            envelope = {"detail-type": matched.detail_type, "detail": msgspec.to_builtins(matched)}
            batch = Batch.of([Message("m", 1, envelope)])
            EnqueueReviews(self.tables["reviews"], self.outbox, 1e6)(batch)
            assert not batch.failures
        self.result(matched)
        return upload

    def result(self, event: Event) -> None:
        """Publish a result."""
        body = msgspec.json.encode({"event": event.detail_type, **msgspec.to_builtins(event)})
        self.buckets.put("results", result_key(event.upload.key), body, "")

    # -- what is there afterwards

    def mentions(self, *texts: str) -> list[str]:
        """Return where a text is found, but for the records that a receipt names."""
        found = []
        for name, table in self.tables.items():
            for item in table.scan({}):
                kept = name == "erasures" or str(item.get("sk", "")).startswith(("O#", "T#"))
                found += [f"{name}: {item}" for text in texts if text in repr(item) and not kept]
        for (bucket, key), body in self.buckets.held.items():
            found += [f"{bucket}/{key}" for text in texts if text.encode() in body]
        for record in self.ledger.records.values():
            found += [f"ledger {record.id}" for text in texts if text in repr(record)]
        for key in self.segments.list(""):
            raw = self.segments.get(key)
            found += [
                f"segment {key}"
                for text in texts
                if len(text) == 36 and bytes.fromhex(text.replace("-", "")) in raw
            ]
        return found

    def visible(self, upload: Upload) -> list[int]:
        """Return the rows of an upload's chips that are not blank."""
        chips = decode_chips(self.buckets.get("chips", chips_key(upload)), max_chips=100)
        return [row for row in range(len(chips)) if chips[row].any()]


def face(chip: int) -> DetectedFace:
    """Return a detected face."""
    return DetectedFace(
        box=events.Box(0.1, 0.1, 0.2, 0.2),
        confidence=99.0,
        quality=events.Quality(brightness=50, sharpness=50, yaw=0, pitch=0, roll=0),
        landmarks=((0.1, 0.1),) * 5,
        chip=chip,
    )


def unit(name: str) -> Any:
    """Return the template of a face: (8,) float32 of length 1."""
    vector = np.random.default_rng(abs(hash(name)) % 2**32).normal(size=8).astype(np.float32)
    return vector / np.linalg.norm(vector)


@pytest.fixture
def world() -> World:
    """Return a deployment with the collection ``staff``."""
    made = World()
    made.gallery.create_collection(STAFF, model=MODEL, dimension=8)
    return made
