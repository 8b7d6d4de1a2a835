"""Segments: their format, and their life among crashes and other writers."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.fakes import InMemoryGallery

from abeyance.gallery.model import CollectionRef, NewFace, SourceObject, TemplateKind
from abeyance.gallery.port import Block
from abeyance.gallery.search import Searcher
from abeyance.gallery.segments import SegmentCorrupt, SegmentHeader, decode, encode, without

STAFF = CollectionRef("acme", "staff")
HEADER = SegmentHeader(generation="g", number=0, first=1, last=8, model="m", dimension=8)
MakeFace = Callable[..., NewFace]


class Crash(BaseException):
    """The end of the process."""


@pytest.fixture
def gallery() -> InMemoryGallery:
    gallery = InMemoryGallery(span=8, auto_compact=False, pause=lambda attempt: None)
    gallery.create_collection(STAFF, model="test@000000000000", dimension=8)
    return gallery


def block(n: int, kind: TemplateKind = TemplateKind.FACE) -> Block:
    rng = np.random.default_rng(n)
    width = 16 if kind is TemplateKind.FACE else 128
    return Block(
        kind,
        np.arange(1, n + 1),
        rng.integers(0, 256, (n, width), dtype=np.uint8),
        rng.standard_normal((n, 8)).astype(np.float16),
    )


def bodies(gallery: InMemoryGallery) -> list[bytes]:
    return [gallery.objects.get(key) for key in gallery.objects.list("")]


def found(gallery: InMemoryGallery, face: NewFace) -> list[str]:
    return [c.face_id for c in Searcher(gallery).search(STAFF, face.template[None], limit=100)[0]]


class TestFormat:
    def test_a_segment_comes_back_as_it_was(self) -> None:
        blocks = (block(5), block(3, TemplateKind.USER))
        for before, after in zip(blocks, decode(encode(HEADER, blocks), HEADER), strict=True):
            assert before.kind is after.kind
            for name in ("seqs", "ids", "templates"):
                np.testing.assert_array_equal(getattr(before, name), getattr(after, name))

    def test_an_empty_segment_is_one(self) -> None:
        assert decode(encode(HEADER, ()), HEADER) == ()

    @pytest.mark.parametrize("at", [0, 9, 40, 200, -1])
    def test_a_changed_byte_is_noticed(self, at: int) -> None:
        body = bytearray(encode(HEADER, (block(5),)))
        body[at] ^= 1
        with pytest.raises(SegmentCorrupt):
            decode(bytes(body), HEADER)

    @pytest.mark.parametrize("size", [0, 8, 43, 100])
    def test_a_cut_segment_is_noticed(self, size: int) -> None:
        with pytest.raises(SegmentCorrupt):
            decode(encode(HEADER, (block(5),))[:size], HEADER)

    def test_another_collections_segment_is_noticed(self) -> None:
        other = SegmentHeader(generation="other", number=0, first=1, last=8, model="m", dimension=8)
        with pytest.raises(SegmentCorrupt):
            decode(encode(other, (block(5),)), HEADER)

    def test_without_leaves_the_others_as_they_were(self) -> None:
        assert without(block(5), np.array([2, 9])).seqs.tolist() == [1, 3, 4, 5]
        whole = block(5)
        assert without(whole, np.array([9])) is whole


class TestSnapshots:
    def test_a_cold_search_reads_segments_and_the_log_behind_them(
        self, gallery: InMemoryGallery, new_face: MakeFace
    ) -> None:
        faces = [new_face(f"{n}") for n in range(30)]
        gallery.index(STAFF, faces)
        assert gallery.compact(STAFF) == 2
        read: list[int] = []
        read_span = gallery.changelog.read_span
        gallery.changelog.read_span = lambda meta, first, last: (  # type: ignore[method-assign]
            read.append(first) or read_span(meta, first, last)  # type: ignore[func-returns-value]
        )
        assert sorted(found(gallery, faces[0])) == sorted(face.id for face in faces)
        assert min(read) == 17

    @pytest.mark.parametrize("name", [".", "..", "...", "a.", "-"])
    def test_no_segment_lies_under_a_path_that_resolves_to_another(
        self, gallery: InMemoryGallery, new_face: MakeFace, name: str
    ) -> None:
        ref = CollectionRef("acme", name)
        gallery.create_collection(ref, model="test@000000000000", dimension=8)
        gallery.index(ref, [new_face(str(number)) for number in range(16)])
        assert gallery.compact(ref)
        keys = gallery.objects.list("")
        assert keys
        assert all(posixpath.normpath(key) == key for key in keys)

    @pytest.mark.parametrize("damage", ["missing", "corrupt"])
    def test_a_damaged_segment_is_read_from_the_log(
        self, gallery: InMemoryGallery, new_face: MakeFace, damage: str
    ) -> None:
        faces = [new_face(f"{n}") for n in range(30)]
        gallery.index(STAFF, faces)
        gallery.compact(STAFF)
        gallery.delete_faces(STAFF, [faces[3].id])
        key = gallery.objects.list("")[0]
        gallery.objects.delete([key])
        if damage == "corrupt":
            gallery.objects.put(key, b"ABYSEG01 and then nothing")
        expected = sorted(face.id for face in faces if face is not faces[3])
        assert sorted(found(gallery, faces[0])) == expected
        # The next erasure in it mends it.
        gallery.delete_faces(STAFF, [faces[4].id])
        assert sum(len(body) > 100 for body in bodies(gallery)) == 2

    def test_an_upload_that_a_crash_left_is_gone_with_the_next_erasure(
        self, gallery: InMemoryGallery, new_face: MakeFace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        faces = [new_face(f"{n}") for n in range(20)]
        gallery.index(STAFF, faces)
        put = gallery.objects.put

        def put_and_crash(key: str, body: bytes) -> None:
            put(key, body)
            raise Crash

        monkeypatch.setattr(gallery.objects, "put", put_and_crash)
        with pytest.raises(Crash):
            gallery.compact(STAFF)
        monkeypatch.undo()
        assert len(bodies(gallery)) == 1
        gallery.delete_faces(STAFF, [faces[3].id])
        erased = faces[3].template.astype("<f2").tobytes()
        assert not any(erased in body for body in bodies(gallery))
        assert gallery.compact(STAFF) == 1
        assert sorted(found(gallery, faces[0])) == sorted(f.id for f in faces if f is not faces[3])

    def test_a_segment_made_while_a_face_in_it_is_erased_does_not_hold_it(
        self, gallery: InMemoryGallery, new_face: MakeFace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        faces = [new_face(f"{n}") for n in range(20)]
        gallery.index(STAFF, faces)
        put, meanwhile = gallery.objects.put, iter([faces[3], faces[5]])

        def put_while_erasing(key: str, body: bytes) -> None:
            for face in meanwhile:
                gallery.delete_faces(STAFF, [face.id])
                break
            put(key, body)

        monkeypatch.setattr(gallery.objects, "put", put_while_erasing)
        assert gallery.compact(STAFF) == 1
        for face in (faces[3], faces[5]):
            assert not any(face.template.astype("<f2").tobytes() in body for body in bodies(gallery))
        assert sorted(found(gallery, faces[0])) == sorted(
            f.id for f in faces if f not in (faces[3], faces[5])
        )

    def test_an_upload_swept_away_by_an_erasure_elsewhere_is_put_again(
        self, gallery: InMemoryGallery, new_face: MakeFace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        faces = [new_face(f"{n}") for n in range(20)]
        gallery.index(STAFF, faces)
        put = gallery.objects.put

        def put_then_sweep(key: str, body: bytes) -> None:
            put(key, body)
            monkeypatch.undo()
            gallery.delete_faces(STAFF, [new_face("nobody").id])

        monkeypatch.setattr(gallery.objects, "put", put_then_sweep)
        assert gallery.compact(STAFF) == 1
        assert len(bodies(gallery)) == 1

    def test_two_compactions_at_once_make_each_segment_once(
        self, gallery: InMemoryGallery, new_face: MakeFace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        faces = [new_face(f"{n}") for n in range(40)]
        gallery.index(STAFF, faces)
        put = gallery.objects.put

        def put_after_the_other(key: str, body: bytes) -> None:
            monkeypatch.undo()
            assert gallery.compact(STAFF) == 4
            put(key, body)

        monkeypatch.setattr(gallery.objects, "put", put_after_the_other)
        gallery.compact(STAFF)
        assert len(bodies(gallery)) == 4
        assert sorted(found(gallery, faces[0])) == sorted(face.id for face in faces)

    def test_a_failed_compaction_does_not_fail_the_write(
        self, new_face: MakeFace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        gallery = InMemoryGallery(span=8)
        gallery.create_collection(STAFF, model="test@000000000000", dimension=8)

        def denied(key: str, body: bytes) -> None:
            raise PermissionError("Access Denied")

        monkeypatch.setattr(gallery.objects, "put", denied)
        faces = [new_face(f"{n}") for n in range(20)]
        assert len(gallery.index(STAFF, faces)) == 20
        assert "compaction failed" in caplog.text
        assert len(found(gallery, faces[0])) == 20

    def test_a_searcher_behind_expired_log_items_reads_everything_again(
        self, gallery: InMemoryGallery, new_face: MakeFace
    ) -> None:
        faces = [new_face(f"{n}") for n in range(40)]
        gallery.index(STAFF, faces)
        searcher = Searcher(gallery)
        assert len(searcher.search(STAFF, faces[0].template[None], limit=99)[0]) == 40
        gallery.delete_faces(STAFF, [faces[0].id])
        gallery.delete_faces(STAFF, [face.id for face in faces[2:]])
        _expire(gallery)
        for some in (searcher, Searcher(gallery)):
            assert [c.face_id for c in some.search(STAFF, faces[0].template[None], limit=99)[0]] == [
                faces[1].id
            ]

    def test_a_searcher_that_was_away_for_long_reads_everything_again(
        self, gallery: InMemoryGallery, new_face: MakeFace
    ) -> None:
        now = [0.0]
        asked: list[Any] = []
        changes = gallery.changes
        gallery.changes = lambda ref, after=None: asked.append(after) or changes(ref, after)  # type: ignore[assignment, func-returns-value, misc]
        searcher = Searcher(gallery, clock=lambda: now[0])
        for now[0] in (0.0, 60.0, 60.0 + 30 * 86400):
            searcher.search(STAFF, new_face("x").template[None])
        assert [after is None for after in asked] == [True, False, True]


class TestCrashedIndex:
    def test_a_face_erased_between_the_halves_does_not_come_back(
        self, gallery: InMemoryGallery, new_face: MakeFace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        faces = [new_face(f"{n}") for n in range(100)]
        source = SourceObject("bucket", "key", "v1", "01")
        transact, calls = gallery.table.transact, iter([True, False])

        def transact_once(operations: Any) -> None:
            if not next(calls):
                raise Crash
            transact(operations)

        monkeypatch.setattr(gallery.table, "transact", transact_once)
        with pytest.raises(Crash):
            gallery.index(STAFF, faces, source=source)
        monkeypatch.undo()
        half = gallery.describe(STAFF).face_count
        assert 0 < half < 100
        gallery.delete_faces(STAFF, [faces[0].id])
        indexed = gallery.index(STAFF, faces, source=source)
        assert [face.id for face in indexed] == [face.id for face in faces[1:]]
        assert gallery.describe(STAFF).face_count == 99


def _expire(gallery: InMemoryGallery) -> None:
    """Remove items past their time to live, as DynamoDB does."""
    table: Any = gallery.table
    for pk, partition in table._partitions.items():
        table.delete_many([(pk, sk) for sk, item in partition.items() if "expires" in item])


class TestDeletion:
    def test_a_deletion_that_a_crash_interrupted_is_finished_by_the_next(
        self, gallery: InMemoryGallery, new_face: MakeFace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gallery.index(STAFF, [new_face(f"{n}") for n in range(30)])
        gallery.compact(STAFF)

        def crash(keys: Any) -> None:
            raise Crash

        monkeypatch.setattr(gallery.objects, "delete", crash)
        with pytest.raises(Crash):
            gallery.delete_collection(STAFF)
        monkeypatch.undo()
        assert gallery.list_collections("acme").items == ()
        # The name is free, and what is left of the old one does not touch the new.
        gallery.create_collection(STAFF, model="test@000000000000", dimension=8)
        face = new_face("new")
        gallery.index(STAFF, [face])
        assert gallery.sweep("acme") == 1
        assert bodies(gallery) == []
        assert found(gallery, face) == [face.id]
        assert gallery.sweep("acme") == 0
