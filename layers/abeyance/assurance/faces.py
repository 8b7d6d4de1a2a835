"""The faces of galleries, as traces of what happened. Apart, because who reads them reads templates."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

from abeyance.assurance.reconcile import Trace, TraceSource
from abeyance.gallery.facade import Gallery
from abeyance.gallery.model import CollectionRef, Face, Page
from abeyance.ledger.admissible import named
from abeyance.pipeline.events import FacesIndexed, Upload

_T = TypeVar("_T")


def of_faces(gallery: Gallery, tenants: Iterable[str]) -> Iterator[Trace]:
    """Yield every face of the tenants' collections."""
    for tenant in tenants:
        for collection in _pages(functools.partial(gallery.list_collections, tenant)):
            for face in _pages(functools.partial(gallery.list_faces, collection.ref)):
                yield _face(face, collection.origin)


def _face(face: Face, origin: CollectionRef) -> Trace:
    source = face.source
    if source is None:
        # The decision named the collection as it was called then.
        (collection,) = named(origin.name).values()
        return Trace(
            source=TraceSource.FACE,
            name=face.id,
            at=face.created,
            tenant=face.collection.tenant,
            collection=collection,
        )
    upload = Upload(bucket=source.bucket, key=source.key, version=source.version, sequencer=source.sequencer)
    entry = FacesIndexed.identify(upload)
    return Trace(source=TraceSource.FACE, name=face.id, at=face.created, entry=entry)


class _Listing(Protocol[_T]):
    def __call__(self, *, token: str) -> Page[_T]: ...


def _pages(read: _Listing[_T]) -> Iterator[_T]:
    token = ""
    while True:
        page = read(token=token)
        yield from page.items
        token = page.next_token
        if not token:
            return
