"""Many writers and searchers at once: a search is never stale."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from abeyance.gallery.errors import GalleryBusy
from abeyance.gallery.facade import Gallery
from abeyance.gallery.model import CollectionRef, NewFace, SourceObject
from abeyance.gallery.search import Searcher

STAFF = CollectionRef("acme", "staff")
MakeFace = Callable[..., NewFace]
T = TypeVar("T")


def test_no_search_misses_what_was_indexed_or_finds_what_was_erased(
    make_gallery: Callable[..., Gallery], new_face: MakeFace
) -> None:
    first = make_gallery(span=16)
    first.create_collection(STAFF, model="test@000000000000", dimension=8)
    galleries = [first, *(make_gallery(span=16) for _ in range(3))]
    searchers = [Searcher(first), Searcher(galleries[1])]
    until = time.monotonic() + 4
    failures: list[str] = []
    kept: list[set[str]] = [set() for _ in galleries]

    def work(number: int) -> None:
        chance = random.Random(number)
        gallery, searcher = galleries[number], searchers[number % 2]
        mine: dict[str, NewFace] = {}
        turn = 0
        while time.monotonic() < until or turn < 5:
            turn += 1
            face = new_face(f"{number}/{turn}")
            source = SourceObject("bucket", f"{number}/{turn}", "v1", "01") if chance.random() < 0.5 else None
            _until_done(
                lambda gallery=gallery, face=face, source=source: gallery.index(STAFF, [face], source=source)
            )
            mine[face.id] = face
            gone = mine.pop(chance.choice(sorted(mine))) if len(mine) > 3 else None
            if gone:
                _until_done(lambda gallery=gallery, gone=gone: gallery.delete_faces(STAFF, [gone.id]))
            probes = [face, gone or face]
            for probe in probes:
                found = {c.face_id for c in searcher.search(STAFF, probe.template[None], limit=1000)[0]}
                if missing := set(mine) - found:
                    failures.append(f"missed {len(missing)}")
                if gone and gone.id in found:
                    failures.append("found an erased face")
        kept[number] = set(mine)

    with ThreadPoolExecutor(len(galleries)) as pool:
        list(pool.map(work, range(len(galleries))))
    assert failures == []
    everybody = set.union(*kept)
    for searcher in (*searchers, Searcher(first)):
        found = searcher.search(STAFF, new_face("x").template[None], limit=1000)[0]
        assert {c.face_id for c in found} == everybody
        assert len(found) == len(everybody)
    assert first.describe(STAFF).face_count == len(everybody)


def test_searches_share_a_refresh_only_with_those_that_began_after_them(
    make_gallery: Callable[..., Gallery], new_face: MakeFace
) -> None:
    gallery = make_gallery()
    gallery.create_collection(STAFF, model="test@000000000000", dimension=8)
    changes, reading, go = gallery.changes, threading.Semaphore(0), threading.Event()
    reads: list[int] = []

    class Slow:
        def changes(self, ref: CollectionRef, after: object = None) -> object:
            result = changes(ref, after)  # type: ignore[arg-type]
            reads.append(1)
            reading.release()
            go.wait(10)
            return result

    searcher = Searcher(Slow())  # type: ignore[arg-type]
    face = new_face("x")
    with ThreadPoolExecutor(6) as pool:
        early = pool.submit(searcher.search, STAFF, face.template[None])
        assert reading.acquire(timeout=10)
        gallery.index(STAFF, [face])
        late = [pool.submit(searcher.search, STAFF, face.template[None]) for _ in range(5)]
        time.sleep(0.2)
        go.set()
        assert early.result() == [[]]
        assert all(len(found.result()[0]) == 1 for found in late)
    assert len(reads) == 2


@pytest.mark.parametrize("writers", [6])
def test_the_same_upload_delivered_to_many_is_indexed_once(
    make_gallery: Callable[..., Gallery], new_face: MakeFace, writers: int
) -> None:
    first = make_gallery()
    first.create_collection(STAFF, model="test@000000000000", dimension=8)
    galleries = [make_gallery(span=16) for _ in range(writers)]
    faces = [new_face(f"{n}") for n in range(60)]
    source = SourceObject("bucket", "key", "v1", "01")
    with ThreadPoolExecutor(writers) as pool:
        results = list(
            pool.map(
                lambda g: _until_done(lambda: [f.id for f in g.index(STAFF, faces, source=source)]), galleries
            )
        )
    assert all(result == [face.id for face in faces] for result in results)
    assert first.describe(STAFF).face_count == 60
    found = Searcher(first).search(STAFF, faces[0].template[None], limit=100)[0]
    assert len(found) == 60


def _until_done(action: Callable[[], T]) -> T:
    for _ in range(20):
        try:
            return action()
        except GalleryBusy:
            continue
    raise AssertionError("the gallery stayed busy")
