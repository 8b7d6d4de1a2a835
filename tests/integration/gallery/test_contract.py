"""The contract of a gallery: the same tests on DynamoDB (moto) and in memory, over every method of the port."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
import numpy as np
import pytest

from abeyance.gallery.errors import (
    CollectionChanged,
    CollectionExists,
    CollectionNotFound,
    FaceTaken,
    InvalidInput,
    InvalidPage,
    ModelMismatch,
    Superseded,
    TokenReused,
    TooManyFaces,
    TooManyTags,
    UserExists,
    UserNotFound,
)
from abeyance.gallery.facade import Gallery
from abeyance.gallery.model import (
    CollectionRef,
    NewFace,
    RefusalReason,
    SourceObject,
    TemplateKind,
    UserStatus,
)
from abeyance.gallery.search import Searcher
from abeyance.gallery.verdicts import CollectionSubject

MODEL = "test@000000000000"
STAFF = CollectionRef("acme", "staff")
MakeFace = Callable[..., NewFace]


@pytest.fixture
def staff(gallery: Gallery) -> Gallery:
    gallery.create_collection(STAFF, model=MODEL, dimension=8)
    return gallery


def ids(gallery: Gallery, ref: CollectionRef = STAFF, kind: TemplateKind = TemplateKind.FACE) -> set[str]:
    """Return the ids of everything that a cold search can find."""
    probe = np.ones((1, 8), dtype=np.float32)
    return {c.face_id for c in Searcher(gallery).search(ref, probe, limit=10_000, kind=kind)[0]}


class TestTags:
    def test_a_collection_has_the_tags_it_was_given(self, gallery: Gallery) -> None:
        gallery.create_collection(STAFF, model=MODEL, dimension=8, tags={"team": "a", "stage": "live"})
        assert gallery.tags(STAFF) == {"team": "a", "stage": "live"}
        gallery.add_tags(STAFF, {"team": "b"})
        gallery.remove_tags(STAFF, ["stage", "unknown"])
        assert gallery.tags(STAFF) == {"team": "b"}
        before = gallery.describe(STAFF)
        gallery.add_tags(STAFF, {"team": "c"})
        assert gallery.describe(STAFF) == before

    def test_two_hundred_are_the_most(self, gallery: Gallery) -> None:
        many = {f"k{number}": "" for number in range(201)}
        with pytest.raises(TooManyTags):
            gallery.create_collection(STAFF, model=MODEL, dimension=8, tags=many)
        with pytest.raises(CollectionNotFound):
            gallery.tags(STAFF)
        gallery.create_collection(STAFF, model=MODEL, dimension=8)
        del many["k0"]
        gallery.add_tags(STAFF, many)
        with pytest.raises(TooManyTags):
            gallery.add_tags(STAFF, {"k0": ""})
        assert gallery.tags(STAFF) == many

    def test_they_go_with_their_collection(self, gallery: Gallery) -> None:
        gallery.create_collection(STAFF, model=MODEL, dimension=8, tags={"team": "a"})
        generation = gallery.describe(STAFF).generation
        gallery.delete_collection(STAFF)
        assert not list(gallery.table.query(STAFF.pk(generation)))
        gallery.create_collection(STAFF, model=MODEL, dimension=8)
        assert gallery.tags(STAFF) == {}
        for change in (gallery.add_tags, gallery.remove_tags):
            with pytest.raises(CollectionNotFound):
                change(CollectionRef("acme", "other"), {"a": "b"})


class TestCollections:
    def test_a_collection_is_described_as_it_was_created(self, gallery: Gallery) -> None:
        made = gallery.create_collection(STAFF, model=MODEL, dimension=8)
        assert (made.model, made.dimension, made.face_count, made.user_count) == (MODEL, 8, 0, 0)
        assert gallery.describe(STAFF) == made
        assert ids(gallery) == set()

    def test_the_time_of_the_last_change(
        self, make_gallery: Callable[..., Gallery], new_face: MakeFace
    ) -> None:
        now = datetime(2026, 1, 1, tzinfo=UTC)
        gallery = make_gallery(clock=lambda: now)
        made = gallery.create_collection(STAFF, model=MODEL, dimension=8)
        assert made.changed == made.created == "2026-01-01T00:00:00.000Z"
        for hour, change in enumerate(
            (
                lambda: gallery.index(STAFF, [new_face("x")]),
                lambda: gallery.create_user(STAFF, "ann"),
                lambda: gallery.delete_faces(STAFF, [new_face("x").id]),
            ),
            start=1,
        ):
            now = datetime(2026, 1, 1, hour, tzinfo=UTC)
            change()
            assert gallery.describe(STAFF).changed == f"2026-01-01T0{hour}:00:00.000Z"
        assert gallery.describe(STAFF).created == made.created

    @pytest.mark.parametrize("name", [".", "..", "...", "-", "_.", "a" * 255])
    def test_a_name_that_looks_like_a_path(self, gallery: Gallery, new_face: MakeFace, name: str) -> None:
        ref, other = CollectionRef("acme", name), CollectionRef("acme", "other")
        for one in (ref, other):
            gallery.create_collection(one, model=MODEL, dimension=8)
            gallery.index(one, [new_face(str(number)) for number in range(40)])
        assert ids(gallery, ref) == ids(gallery, other)
        assert len(ids(gallery, ref)) == 40
        gone = new_face("3").id
        gallery.delete_faces(ref, [gone])
        assert gone not in ids(gallery, ref)
        assert gone in ids(gallery, other)
        gallery.delete_collection(ref)
        assert len(ids(gallery, other)) == 40
        assert [found.ref for found in gallery.list_collections("acme").items] == [other]

    def test_a_name_is_taken_once(self, staff: Gallery) -> None:
        with pytest.raises(CollectionExists):
            staff.create_collection(STAFF, model="other@0", dimension=8)

    def test_every_method_needs_a_collection(self, gallery: Gallery, new_face: MakeFace) -> None:
        face = new_face("x")
        for attempt in (
            lambda: gallery.describe(STAFF),
            lambda: gallery.index(STAFF, [face]),
            lambda: gallery.delete_faces(STAFF, [face.id]),
            lambda: gallery.delete_source(STAFF, SourceObject("b", "k")),
            lambda: gallery.list_faces(STAFF),
            lambda: gallery.create_user(STAFF, "ann"),
            lambda: gallery.changes(STAFF),
            lambda: gallery.delete_collection(STAFF),
            lambda: Searcher(gallery).search(STAFF, face.template[None]),
        ):
            with pytest.raises(CollectionNotFound):
                attempt()

    def test_collections_are_listed_by_name_in_pages(self, gallery: Gallery) -> None:
        names = ["a", "a-b", "a.b", "aa", "b", "B", "x" * 255]
        for name in names:
            gallery.create_collection(CollectionRef("acme", name), model=MODEL, dimension=8)
        gallery.create_collection(CollectionRef("acme-2", "zoo"), model=MODEL, dimension=8)
        listed: list[str] = []
        token = ""
        while True:
            page = gallery.list_collections("acme", limit=2, token=token)
            assert len(page.items) <= 2
            listed += [item.ref.name for item in page.items]
            token = page.next_token
            if not token:
                break
        assert listed == sorted(names)

    def test_a_deleted_collection_is_gone_and_its_name_free(self, staff: Gallery, new_face: MakeFace) -> None:
        searcher = Searcher(staff)
        faces = [new_face(f"{n}") for n in range(60)]
        staff.index(STAFF, faces)
        assert len(searcher.search(STAFF, faces[0].template[None], limit=99)[0]) == 60
        staff.delete_collection(STAFF)
        with pytest.raises(CollectionNotFound):
            searcher.search(STAFF, faces[0].template[None])
        assert staff.list_collections("acme").items == ()
        staff.create_collection(STAFF, model="other@1", dimension=4)
        probe = np.ones((1, 4), dtype=np.float32)
        assert searcher.search(STAFF, probe) == [[]]
        with pytest.raises(InvalidPage):
            staff.list_collections("acme", token="AAAA")

    def test_a_warm_searcher_does_not_take_a_new_collection_for_the_old_one(
        self, staff: Gallery, new_face: MakeFace
    ) -> None:
        searcher = Searcher(staff)
        old, new = new_face("old"), new_face("new")
        staff.index(STAFF, [old])
        searcher.refresh(STAFF)
        staff.delete_collection(STAFF)
        staff.create_collection(STAFF, model=MODEL, dimension=8)
        staff.index(STAFF, [new])
        assert [c.face_id for c in searcher.search(STAFF, old.template[None])[0]] == [new.id]

    def test_reads_take_a_described_collection_in_place_of_its_name(
        self, staff: Gallery, new_face: MakeFace
    ) -> None:
        first, second = new_face("first"), new_face("second")
        staff.index(STAFF, [first])
        staff.create_user(STAFF, "ann")
        known = staff.describe(STAFF)
        searcher = Searcher(staff)
        assert searcher.refresh(STAFF) == known
        # Later changes are seen too, by reads; and by searches, which see at least everything up to then.
        staff.index(STAFF, [second])
        staff.associate_faces(STAFF, "ann", [second.id])
        both = [first.id, second.id]
        assert staff.get_faces(known, both) == staff.get_faces(STAFF, both)
        assert staff.get_users(known, ["ann"]) == staff.get_users(STAFF, ["ann"])
        assert staff.templates(known, both).keys() == set(both)
        template = staff.user_template(known, "ann")
        assert template is not None
        np.testing.assert_array_equal(template, staff.user_template(STAFF, "ann"))
        for some in (searcher, Searcher(staff)):
            assert {c.face_id for c in some.search(known, first.template[None])[0]} >= {first.id}
        late = staff.describe(STAFF)
        assert {c.face_id for c in searcher.search(late, first.template[None])[0]} == set(both)

    def test_compaction_is_repeatable_and_changes_no_result(
        self, make_gallery: Callable[..., Gallery], new_face: MakeFace
    ) -> None:
        gallery = make_gallery(span=8, auto_compact=False)
        gallery.create_collection(STAFF, model=MODEL, dimension=8)
        faces = [new_face(f"{n}") for n in range(40)]
        gallery.index(STAFF, faces)
        gallery.delete_faces(STAFF, [faces[3].id])
        before = ids(gallery)
        assert gallery.compact(STAFF) == 4
        assert gallery.compact(STAFF) == 0
        assert ids(gallery) == before == {face.id for face in faces} - {faces[3].id}

    def test_a_sweep_has_nothing_to_finish_after_whole_deletions(
        self, staff: Gallery, new_face: MakeFace
    ) -> None:
        staff.index(STAFF, [new_face("x")])
        staff.delete_collection(STAFF)
        assert staff.sweep("acme") == 0

    @pytest.mark.parametrize(("tenant", "name"), [("acme", "a#b"), ("ac#me", "a"), ("a", "b"), ("acme", "")])
    def test_names_cannot_reach_into_other_keys(self, tenant: str, name: str) -> None:
        with pytest.raises(InvalidInput):
            CollectionRef(tenant, name)

    def test_tenants_do_not_see_each_other(self, staff: Gallery, new_face: MakeFace) -> None:
        theirs = CollectionRef("other", "staff")
        staff.create_collection(theirs, model=MODEL, dimension=8)
        face = new_face("x")
        staff.index(STAFF, [face])
        assert ids(staff, theirs) == set()
        assert staff.get_faces(theirs, [face.id]) == []
        assert staff.delete_faces(theirs, [face.id]).refused[0].reason is RefusalReason.FACE_NOT_FOUND
        assert [c.ref for c in staff.list_collections("other").items] == [theirs]
        token = staff.list_faces(STAFF, limit=1).next_token
        assert token == ""
        assert ids(staff) == {face.id}


class TestFaces:
    def test_a_face_comes_back_as_it_went_in(self, staff: Gallery, new_face: MakeFace) -> None:
        face = new_face(
            "x",
            image_id="photo",
            external_image_id="ann",
            box=(0.1, -0.2, 0.3, 0.4),
            confidence=0.99,
            quality={"sharpness": 81.5},
        )
        source = SourceObject("bucket", "key", "v1", "01")
        (indexed,) = staff.index(STAFF, [face], source=source)
        assert staff.get_faces(STAFF, [face.id]) == [indexed]
        assert indexed.seq > 0
        for name in ("id", "image_id", "external_image_id", "box", "confidence", "quality", "model"):
            assert getattr(indexed, name) == getattr(face, name)
        assert (indexed.source, indexed.collection, indexed.user_id) == (source, STAFF, "")
        template = staff.templates(STAFF, [face.id])[face.id]
        np.testing.assert_array_equal(template, face.template.astype(np.float16).astype(np.float32))

    def test_the_same_face_again_adds_nothing(self, staff: Gallery, new_face: MakeFace) -> None:
        faces = [new_face("x"), new_face("y")]
        first = staff.index(STAFF, faces)
        seq = staff.describe(STAFF).seq
        assert staff.index(STAFF, faces) == first
        assert staff.describe(STAFF).seq == seq
        assert staff.describe(STAFF).face_count == 2

    def test_a_photo_may_have_a_hundred_faces(self, staff: Gallery, new_face: MakeFace) -> None:
        faces = [new_face(f"{n}") for n in range(100)]
        assert [face.id for face in staff.index(STAFF, faces)] == [face.id for face in faces]
        assert ids(staff) == {face.id for face in faces}
        assert staff.describe(STAFF).face_count == 100

    def test_bad_faces_are_refused_whole(self, staff: Gallery, new_face: MakeFace) -> None:
        good = new_face("good")
        for bad, error in (
            (new_face("x", model="other@0"), ModelMismatch),
            (new_face("x", dimension=4), InvalidInput),
            (msgspec.structs.replace(good, id="not-a-uuid"), InvalidInput),
            (msgspec.structs.replace(good, id=good.id.upper()), InvalidInput),
            (msgspec.structs.replace(new_face("x"), template=good.template * 2), InvalidInput),
            (msgspec.structs.replace(new_face("x"), template=good.template * np.nan), InvalidInput),
            (good, InvalidInput),
        ):
            with pytest.raises(error):
                staff.index(STAFF, [good, bad])
        assert ids(staff) == set()

    def test_faces_are_listed_by_id_in_pages(self, staff: Gallery, new_face: MakeFace) -> None:
        faces = sorted(new_face(f"{n}").id for n in range(7))
        staff.index(STAFF, [new_face(f"{n}") for n in range(7)])
        first = staff.list_faces(STAFF, limit=4)
        rest = staff.list_faces(STAFF, limit=4, token=first.next_token)
        assert [face.id for face in first.items + rest.items] == faces
        assert rest.next_token == ""
        for token in ("nonsense", first.next_token[:-1], "é", "AAAA"):
            with pytest.raises(InvalidPage):
                staff.list_faces(STAFF, token=token)
        with pytest.raises(InvalidPage):
            staff.list_users(STAFF, token=first.next_token)

    def test_deleted_faces_are_gone_and_missing_ones_are_named(
        self, staff: Gallery, new_face: MakeFace
    ) -> None:
        faces = [new_face(f"{n}") for n in range(70)]
        staff.index(STAFF, faces)
        outcome = staff.delete_faces(STAFF, [face.id for face in faces[:65]] + [new_face("no").id])
        assert outcome.done == tuple(face.id for face in faces[:65])
        assert [r.reason for r in outcome.refused] == [RefusalReason.FACE_NOT_FOUND]
        assert ids(staff) == {face.id for face in faces[65:]}
        assert staff.templates(STAFF, [faces[0].id, faces[69].id]).keys() == {faces[69].id}

    def test_an_erased_face_may_come_again(self, staff: Gallery, new_face: MakeFace) -> None:
        face = new_face("x")
        searcher = Searcher(staff)
        for _ in range(3):
            staff.index(STAFF, [face])
            assert len(searcher.search(STAFF, face.template[None])[0]) == 1
            staff.delete_faces(STAFF, [face.id])
            assert searcher.search(STAFF, face.template[None]) == [[]]

    def test_an_erased_template_is_in_no_item_and_no_object(self, staff: Gallery, new_face: MakeFace) -> None:
        faces = [new_face(f"{n}") for n in range(100)]
        staff.index(STAFF, faces)
        objects, table = staff.objects, staff.table  # type: ignore[attr-defined]
        assert len(objects.list("")) >= 4
        staff.delete_faces(STAFF, [face.id for face in faces[::2]])
        pk = f"acme#staff#{staff.describe(STAFF).generation}"
        stored = [item["v"] for item in table.query(pk, "S#", "S#~") if "v" in item]
        assert len(stored) == 50
        stored += [objects.get(key) for key in objects.list("")]
        erased = [face.template.astype("<f2").tobytes() for face in faces[::2]]
        assert not any(template in body for template in erased for body in stored)
        assert ids(staff) == {face.id for face in faces[1::2]}


class TestSources:
    def test_the_same_version_again_changes_nothing(self, staff: Gallery, new_face: MakeFace) -> None:
        faces, source = [new_face("a"), new_face("b")], SourceObject("bucket", "key", "v1", "01")
        first = staff.index(STAFF, faces, source=source)
        seq = staff.describe(STAFF).seq
        assert staff.index(STAFF, faces, source=source) == first
        assert staff.describe(STAFF).seq == seq
        # Not even where a face was deleted since.
        staff.delete_faces(STAFF, [faces[0].id])
        assert staff.index(STAFF, faces, source=source) == first[1:]

    def test_every_upload_that_indexed_a_version_is_known(self, staff: Gallery, new_face: MakeFace) -> None:
        faces = [new_face("a")]
        for sequencer in ("01", "03", "02", "03"):
            staff.index(STAFF, faces, source=SourceObject("bucket", "key", "v1", sequencer))
        known = staff.indexed_by(STAFF, SourceObject("bucket", "key", "v1", "04"))
        assert {"01", "03"} <= set(known)
        assert known[-1] == "03"
        assert staff.indexed_by(STAFF, SourceObject("bucket", "key", "v2", "04")) == ()
        staff.delete_source(STAFF, SourceObject("bucket", "key", "", "04"))
        assert staff.indexed_by(STAFF, SourceObject("bucket", "key", "v1", "05")) == ()

    @pytest.mark.parametrize(("old", "new"), [(1, 1), (0, 2), (2, 0), (3, 100), (100, 100)])
    def test_a_newer_version_replaces_the_older_ones_faces(
        self, staff: Gallery, new_face: MakeFace, old: int, new: int
    ) -> None:
        before = [new_face(f"old {n}") for n in range(old)]
        after = [new_face(f"new {n}") for n in range(new)]
        warm = Searcher(staff)
        staff.index(STAFF, before, source=SourceObject("bucket", "key", "v1", "01"))
        warm.refresh(STAFF)
        staff.index(STAFF, after, source=SourceObject("bucket", "key", "v2", "02"))
        assert ids(staff) == {face.id for face in after}
        found = warm.search(STAFF, np.ones((1, 8)), limit=999)[0]
        assert {c.face_id for c in found} == {face.id for face in after}
        with pytest.raises(Superseded):
            staff.index(STAFF, before, source=SourceObject("bucket", "key", "v1", "01"))

    def test_deleting_the_source_erases_its_faces_and_refuses_late_events(
        self, staff: Gallery, new_face: MakeFace
    ) -> None:
        faces, other = [new_face(f"{n}") for n in range(100)], new_face("other")
        staff.index(STAFF, faces, source=SourceObject("bucket", "key", "v1", "01"))
        staff.index(STAFF, [other], source=SourceObject("bucket", "other key", "v1", "01"))
        gone = staff.delete_source(STAFF, SourceObject("bucket", "key", "", "02"))
        assert set(gone) == {face.id for face in faces}
        assert staff.delete_source(STAFF, SourceObject("bucket", "key", "", "02")) == ()
        assert ids(staff) == {other.id}
        with pytest.raises(Superseded):
            staff.index(STAFF, faces, source=SourceObject("bucket", "key", "v1", "01"))
        # An upload after the deletion counts, even of the same bytes.
        staff.index(STAFF, faces[:1], source=SourceObject("bucket", "key", "v1", "03"))
        assert ids(staff) == {other.id, faces[0].id}

    def test_events_may_come_in_any_order(self, staff: Gallery, new_face: MakeFace) -> None:
        old, new = [new_face("old")], [new_face("new")]
        staff.index(STAFF, new, source=SourceObject("bucket", "key", "v2", "03"))
        assert staff.delete_source(STAFF, SourceObject("bucket", "key", "", "02")) == ()
        with pytest.raises(Superseded):
            staff.index(STAFF, old, source=SourceObject("bucket", "key", "v1", "01"))
        assert ids(staff) == {new[0].id}
        # Deleting before the event of the upload itself has come.
        staff.delete_source(STAFF, SourceObject("bucket", "second", "", "02"))
        with pytest.raises(Superseded):
            staff.index(STAFF, old, source=SourceObject("bucket", "second", "v1", "01"))

    def test_the_same_bytes_uploaded_again_outlive_a_deletion_between(
        self, staff: Gallery, new_face: MakeFace
    ) -> None:
        face = new_face("x")
        for sequencer in ("01", "03"):
            staff.index(STAFF, [face], source=SourceObject("bucket", "key", "etag", sequencer))
        staff.delete_source(STAFF, SourceObject("bucket", "key", "", "02"))
        assert ids(staff) == {face.id}

    @pytest.mark.parametrize("count", [1, 100])
    def test_the_same_bytes_uploaded_again_with_another_name_rename_their_faces(
        self, staff: Gallery, new_face: MakeFace, count: int
    ) -> None:
        def named(name: str) -> list[NewFace]:
            return [new_face(f"{n}", external_image_id=name) for n in range(count)]

        def names() -> set[str]:
            return {face.external_image_id for face in staff.list_faces(STAFF).items}

        staff.index(STAFF, named("wrong"), source=SourceObject("bucket", "key", "etag", "01"))
        again = staff.index(STAFF, named("right"), source=SourceObject("bucket", "key", "etag", "03"))
        assert {face.external_image_id for face in again} == names() == {"right"}
        assert len(again) == staff.describe(STAFF).face_count == count
        # A late delivery of the first upload does not name them back.
        staff.index(STAFF, named("wrong"), source=SourceObject("bucket", "key", "etag", "01"))
        assert names() == {"right"}

    def test_sequencers_of_different_length_compare_as_s3_says(
        self, staff: Gallery, new_face: MakeFace
    ) -> None:
        staff.index(STAFF, [new_face("a")], source=SourceObject("bucket", "key", "v1", "00ff"))
        staff.index(STAFF, [new_face("b")], source=SourceObject("bucket", "key", "v2", "00FF01"))
        with pytest.raises(Superseded):
            staff.index(STAFF, [new_face("c")], source=SourceObject("bucket", "key", "v3", "00ff00"))

    def test_deleting_an_old_version_leaves_the_present_one(self, staff: Gallery, new_face: MakeFace) -> None:
        face = new_face("x")
        staff.index(STAFF, [face], source=SourceObject("bucket", "key", "v2", "02"))
        assert staff.delete_source(STAFF, SourceObject("bucket", "key", "v1", "03")) == ()
        assert ids(staff) == {face.id}
        assert staff.delete_source(STAFF, SourceObject("bucket", "key", "v2", "04")) == (face.id,)

    def test_photos_that_are_new_are_indexed_in_one_change(self, staff: Gallery, new_face: MakeFace) -> None:
        photos = [
            (
                [new_face(f"{number}-{face}") for face in range(number)],
                SourceObject("bucket", f"{number}", "v", "01"),
            )
            for number in range(4)
        ]
        before = staff.describe(STAFF).seq
        indexed = staff.index_new(STAFF, photos)
        assert [len(faces or ()) for faces in indexed] == [0, 1, 2, 3]
        assert ids(staff) == {face.id for faces, _ in photos for face in faces}
        assert staff.describe(STAFF).seq == before + 6
        # What the collection knows now is for ``index``, which finds it complete.
        assert staff.index_new(STAFF, photos) == [None] * 4
        assert [staff.index(STAFF, faces, source=source) for faces, source in photos] == indexed
        assert staff.describe(STAFF).seq == before + 6

    def test_what_is_not_new_is_left_for_an_index_of_its_own(
        self, staff: Gallery, new_face: MakeFace
    ) -> None:
        def photo(key: str, *faces: NewFace) -> tuple[list[NewFace], SourceObject]:
            return list(faces), SourceObject("bucket", key, "v1", "01")

        staff.index(STAFF, [new_face("known")], source=SourceObject("bucket", "known", "v0", "00"))
        staff.delete_source(STAFF, SourceObject("bucket", "deleted", "", "02"))
        staff.index(STAFF, [new_face("other's")])
        photos = [
            photo("known", new_face("a")),
            photo("deleted", new_face("b")),
            photo("taken", new_face("other's")),
            photo("mismatch", new_face("c", model="other@000000000000")),
            photo("wide", new_face("d", dimension=9)),
            photo("twice", new_face("e"), new_face("e")),
            photo("new", new_face("f")),
            photo("new", new_face("g")),
            photo("crowd", *(new_face(f"crowd-{number}") for number in range(60))),
        ]
        indexed = staff.index_new(STAFF, photos)
        assert [faces is not None for faces in indexed] == [False] * 6 + [True] + [False] * 2
        assert ids(staff) == {new_face(name).id for name in ("known", "other's", "f")}

    def test_more_new_photos_than_a_transaction_takes(self, staff: Gallery, new_face: MakeFace) -> None:
        photos = [
            (
                [new_face(f"{number}-{face}") for face in range(20)],
                SourceObject("bucket", f"{number}", "v", "01"),
            )
            for number in range(5)
        ]
        assert [len(faces or ()) for faces in staff.index_new(STAFF, photos)] == [20] * 5
        assert len(ids(staff)) == 100

    def test_an_id_of_another_source_is_refused(self, staff: Gallery, new_face: MakeFace) -> None:
        staff.index(STAFF, [new_face("x")], source=SourceObject("bucket", "key", "v1", "01"))
        for source in (None, SourceObject("bucket", "other", "v1", "01")):
            with pytest.raises(FaceTaken):
                staff.index(STAFF, [new_face("x")], source=source)

    def test_the_faces_of_a_user_go_with_their_source(self, staff: Gallery, new_face: MakeFace) -> None:
        faces = [new_face("a"), new_face("b")]
        staff.index(STAFF, faces, source=SourceObject("bucket", "key", "v1", "01"))
        staff.index(STAFF, [new_face("c")])
        staff.create_user(STAFF, "ann")
        staff.associate_faces(STAFF, "ann", [*(face.id for face in faces), new_face("c").id])
        staff.delete_source(STAFF, SourceObject("bucket", "key", "", "02"))
        (user,) = staff.get_users(STAFF, ["ann"])
        assert user.face_ids == (new_face("c").id,)
        template = staff.user_template(STAFF, "ann")
        assert template is not None
        np.testing.assert_allclose(template, new_face("c").template, atol=1e-3)


class TestUsers:
    @pytest.fixture
    def faces(self, staff: Gallery, new_face: MakeFace) -> list[NewFace]:
        faces = [new_face(f"{n}") for n in range(100)]
        staff.index(STAFF, faces)
        staff.create_user(STAFF, "ann")
        return faces

    def test_a_user_begins_without_faces(self, staff: Gallery) -> None:
        user = staff.create_user(STAFF, "ann:1", token="t")
        assert (user.status, user.face_ids) == (UserStatus.CREATED, ())
        assert staff.create_user(STAFF, "ann:1", token="t") == user
        for token in ("", "u"):
            with pytest.raises(UserExists):
                staff.create_user(STAFF, "ann:1", token=token)
        assert staff.user_template(STAFF, "ann:1") is None
        assert ids(staff, kind=TemplateKind.USER) == set()
        assert staff.describe(STAFF).user_count == 1
        with pytest.raises(InvalidInput):
            staff.create_user(STAFF, "a#b")

    def test_a_user_is_found_by_the_mean_of_its_faces(self, staff: Gallery, faces: list[NewFace]) -> None:
        warm = Searcher(staff)
        warm.refresh(STAFF)
        for some in (faces[:1], faces[1:4]):
            outcome = staff.associate_faces(STAFF, "ann", [face.id for face in some])
            assert outcome.done == tuple(face.id for face in some)
            assert outcome.status is UserStatus.ACTIVE
        mean = np.sum([face.template for face in faces[:4]], axis=0)
        for searcher in (warm, Searcher(staff)):
            (found,) = searcher.search(STAFF, mean[None], kind=TemplateKind.USER)
            assert [c.face_id for c in found] == ["ann"]
            assert found[0].cosine == pytest.approx(1, abs=1e-3)
        assert {face.user_id for face in staff.get_faces(STAFF, [f.id for f in faces[:4]])} == {"ann"}
        listed = staff.list_faces(STAFF, user_id="ann").items
        assert [face.id for face in listed] == sorted(face.id for face in faces[:4])

    def test_a_refused_association_has_its_reason(
        self, staff: Gallery, faces: list[NewFace], new_face: MakeFace
    ) -> None:
        staff.create_user(STAFF, "bob")
        staff.associate_faces(STAFF, "bob", [faces[1].id])
        staff.associate_faces(STAFF, "ann", [faces[0].id])
        asked = [faces[0].id, faces[1].id, new_face("no").id, faces[2].id]
        outcome = staff.associate_faces(STAFF, "ann", asked, min_cosine=0.999)
        assert outcome.done == ()
        assert [(r.face_id, r.reason) for r in outcome.refused] == [
            (asked[1], RefusalReason.ASSOCIATED_TO_A_DIFFERENT_USER),
            (asked[2], RefusalReason.FACE_NOT_FOUND),
            (asked[3], RefusalReason.LOW_MATCH_CONFIDENCE),
        ]
        assert outcome.refused[0].user_id == "bob"
        assert outcome.refused[2].cosine == pytest.approx(
            float(faces[0].template @ faces[2].template), abs=1e-3
        )

    def test_a_user_has_at_most_a_hundred_faces(
        self, staff: Gallery, faces: list[NewFace], new_face: MakeFace
    ) -> None:
        outcome = staff.associate_faces(STAFF, "ann", [face.id for face in faces])
        assert len(outcome.done) == 100
        assert outcome.status is UserStatus.ACTIVE
        staff.index(STAFF, [new_face("one more")])
        with pytest.raises(TooManyFaces):
            staff.associate_faces(STAFF, "ann", [new_face("one more").id])
        outcome = staff.disassociate_faces(STAFF, "ann", [face.id for face in faces])
        assert (len(outcome.done), outcome.status) == (100, UserStatus.CREATED)
        assert ids(staff, kind=TemplateKind.USER) == set()

    def test_faces_of_a_user_are_not_deleted(self, staff: Gallery, faces: list[NewFace]) -> None:
        staff.associate_faces(STAFF, "ann", [faces[0].id])
        outcome = staff.delete_faces(STAFF, [faces[0].id, faces[1].id])
        assert outcome.done == (faces[1].id,)
        assert outcome.refused[0].reason is RefusalReason.ASSOCIATED_TO_AN_EXISTING_USER
        assert outcome.refused[0].user_id == "ann"
        staff.disassociate_faces(STAFF, "ann", [faces[0].id])
        assert staff.delete_faces(STAFF, [faces[0].id]).done == (faces[0].id,)

    def test_a_deleted_user_leaves_its_faces(self, staff: Gallery, faces: list[NewFace]) -> None:
        warm = Searcher(staff)
        staff.associate_faces(STAFF, "ann", [face.id for face in faces])
        warm.refresh(STAFF)
        staff.delete_user(STAFF, "ann", token="t")
        staff.delete_user(STAFF, "ann", token="t")
        with pytest.raises(UserNotFound):
            staff.delete_user(STAFF, "ann")
        assert warm.search(STAFF, faces[0].template[None], kind=TemplateKind.USER) == [[]]
        assert {face.user_id for face in staff.list_faces(STAFF).items} == {""}
        assert staff.describe(STAFF).user_count == 0

    def test_a_token_returns_the_same_outcome_and_is_for_one_request(
        self, staff: Gallery, faces: list[NewFace]
    ) -> None:
        everybody = [face.id for face in faces]
        first = staff.associate_faces(STAFF, "ann", everybody, token="t")
        assert staff.associate_faces(STAFF, "ann", everybody, token="t") == first
        # Without the token, those who are the user's already are left out.
        assert staff.associate_faces(STAFF, "ann", everybody).done == ()
        with pytest.raises(TokenReused):
            staff.associate_faces(STAFF, "ann", everybody[1:], token="t")

    def test_users_are_listed_by_id_in_pages(self, staff: Gallery) -> None:
        for name in ("c", "a", "b"):
            staff.create_user(STAFF, name)
        first = staff.list_users(STAFF, limit=2)
        rest = staff.list_users(STAFF, limit=2, token=first.next_token)
        assert [user.id for user in first.items + rest.items] == ["a", "b", "c"]

    def test_an_unknown_user_is_not_found(self, staff: Gallery, new_face: MakeFace) -> None:
        for attempt in (
            lambda: staff.associate_faces(STAFF, "nobody", [new_face("x").id]),
            lambda: staff.disassociate_faces(STAFF, "nobody", [new_face("x").id]),
            lambda: staff.delete_user(STAFF, "nobody"),
            lambda: staff.user_template(STAFF, "nobody"),
            lambda: staff.list_faces(STAFF, user_id="nobody"),
        ):
            with pytest.raises(UserNotFound):
                attempt()


class TestExchange:
    NEXT = CollectionRef("acme", "staff.next")

    def filled(self, gallery: Gallery, new_face: MakeFace) -> tuple[str, str]:
        """Fill two collections, the second with another model; return the face of each."""
        gallery.create_collection(self.NEXT, model="next@0", dimension=8, tags={"stage": "next"})
        gallery.add_tags(STAFF, {"stage": "live"})
        (one,) = gallery.index(STAFF, [new_face("ada")])
        for number in range(40):
            gallery.index(self.NEXT, [new_face(f"b{number}", model="next@0")])
        (other,) = gallery.index(self.NEXT, [new_face("ben", model="next@0")])
        return one.id, other.id

    def test_two_collections_take_each_others_name_and_back(self, staff: Gallery, new_face: MakeFace) -> None:
        one, other = self.filled(staff, new_face)
        searcher = Searcher(staff)
        probe = np.ones((1, 8), dtype=np.float32)

        def found(ref: CollectionRef) -> set[str]:
            return {c.face_id for c in searcher.search(ref, probe, limit=100)[0]}

        assert one in found(STAFF)
        before = staff.describe(STAFF), staff.describe(self.NEXT)
        named, renamed = staff.exchange(*before)
        assert (named.model, named.ref, renamed.model, renamed.ref) == ("next@0", STAFF, MODEL, self.NEXT)
        assert other in found(STAFF)
        assert one not in found(STAFF)
        assert found(self.NEXT) == {one}
        assert (staff.tags(STAFF), staff.tags(self.NEXT)) == ({"stage": "live"}, {"stage": "next"})
        # Changes go on under the new names, in snapshots too.
        staff.delete_faces(STAFF, [other])
        (more,) = staff.index(self.NEXT, [new_face("more")])
        assert ids(staff) == found(STAFF) == set(ids(staff)) - {other}
        assert found(self.NEXT) == {one, more.id}
        assert {c.ref.name: c.model for c in staff.list_collections("acme").items} == {
            "staff": "next@0",
            "staff.next": MODEL,
        }
        back, _ = staff.exchange(staff.describe(STAFF), staff.describe(self.NEXT))
        assert (back.model, back.home) == (MODEL, "")
        assert found(STAFF) == {one, more.id}

    def test_one_that_changed_meanwhile_is_not_exchanged(self, staff: Gallery, new_face: MakeFace) -> None:
        self.filled(staff, new_face)
        before = staff.describe(STAFF), staff.describe(self.NEXT)
        staff.index(STAFF, [new_face("late")])
        with pytest.raises(CollectionChanged):
            staff.exchange(*before)
        assert staff.describe(STAFF).model == MODEL

    def test_deletion_removes_what_it_named_and_leaves_the_other(
        self, staff: Gallery, new_face: MakeFace
    ) -> None:
        one, _ = self.filled(staff, new_face)
        staff.exchange(staff.describe(STAFF), staff.describe(self.NEXT))
        staff.delete_collection(STAFF)
        assert ids(staff, self.NEXT) == {one}
        assert [key for key in staff.objects.list("acme/") if "staff.next" in key] == []
        staff.create_collection(STAFF, model="third@0", dimension=8)
        assert ids(staff) == set()
        staff.delete_collection(self.NEXT)
        assert staff.sweep("acme") == 0

    def test_faces_of_a_photo(self, staff: Gallery, new_face: MakeFace) -> None:
        source = SourceObject("uploads", "acme/a.jpg", "v1", "01")
        faces = staff.index(STAFF, [new_face("one"), new_face("two")], source=source)
        assert {face.id for face in staff.faces_of_source(STAFF, source)} == {face.id for face in faces}
        assert staff.faces_of_source(STAFF, msgspec.structs.replace(source, version="v2")) == []


class TestVerdicts:
    def test_a_verdict_is_known_by_both_and_goes_with_the_user(
        self, staff: Gallery, new_face: MakeFace
    ) -> None:
        one, two = staff.index(STAFF, [new_face("one"), new_face("two")])
        staff.create_user(STAFF, "ann")
        staff.associate_faces(STAFF, "ann", [one.id, two.id])
        ann, face = CollectionSubject(TemplateKind.USER, "ann"), CollectionSubject(TemplateKind.FACE, one.id)
        assert staff.add_verdict(STAFF, ann, face)
        assert not staff.add_verdict(STAFF, face, ann)
        assert staff.verdicts_of(STAFF, ann) == {face}
        assert staff.verdicts_of(STAFF, face) == {ann}
        assert (staff.describe(STAFF).verdicts, list(staff.list_verdicts(STAFF))) == (1, [(face, ann)])
        assert staff.withdraw_verdict(STAFF, face, ann)
        assert not staff.withdraw_verdict(STAFF, face, ann)
        staff.add_verdict(STAFF, ann, face)
        staff.delete_user(STAFF, "ann")
        assert (staff.describe(STAFF).verdicts, list(staff.list_verdicts(STAFF))) == (0, [])

    def test_faces_move_from_one_user_to_another_at_once(self, staff: Gallery, new_face: MakeFace) -> None:
        faces = [staff.index(STAFF, [new_face(f"{n}")])[0].id for n in range(4)]
        for name in ("ann", "ben"):
            staff.create_user(STAFF, name)
        staff.associate_faces(STAFF, "ann", faces[:3])
        assert staff.move_faces(STAFF, "ann", "ben", faces[1:]) == 2
        ann, ben = staff.get_users(STAFF, ["ann", "ben"])
        assert (set(ann.face_ids), set(ben.face_ids)) == ({faces[0]}, set(faces[1:3]))
        assert staff.move_faces(STAFF, "ann", "ben", faces) == 1
        assert staff.get_users(STAFF, ["ann"])[0].status is UserStatus.CREATED
        assert {face.user_id for face in staff.get_faces(STAFF, faces[:3])} == {"ben"}
        assert ids(staff, kind=TemplateKind.USER) == {"ben"}
        with pytest.raises(UserNotFound):
            staff.move_faces(STAFF, "ben", "nobody", faces[:1])
