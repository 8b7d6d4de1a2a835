"""What the stages ask of the world. The adapters for AWS are in :mod:`abeyance.pipeline.aws`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from abeyance.pipeline.events import Event, Upload


class ObjectGone(Exception):
    """The object is not there, or no longer in the version that was asked for."""


class Head(msgspec.Struct, frozen=True):
    """What S3 says of an object without giving its bytes."""

    size: int
    etag: str
    metadata: Mapping[str, str]


class Heads(Protocol):
    """Metadata of objects."""

    def head(self, upload: Upload) -> Head:
        """Raises :class:`ObjectGone` if that version of the object is not there any more."""
        ...


class Objects(Heads, Protocol):
    """Objects in buckets."""

    def read(self, upload: Upload) -> bytes:
        """The bytes of exactly that version; raises :class:`ObjectGone`."""
        ...

    def get(self, bucket: str, key: str) -> bytes:
        """The object's bytes; raises :class:`ObjectGone`."""
        ...

    def put(self, bucket: str, key: str, body: bytes, content_type: str) -> None:
        """Write the object."""
        ...

    def delete(self, bucket: str, key: str) -> None:
        """Delete the object; no error if there is none."""
        ...

    def delete_all(self, bucket: str, prefix: str) -> None:
        """Delete every object whose key begins with ``prefix``."""
        ...


class Bus(Protocol):
    """Where events go."""

    def emit(self, events: Sequence[Event]) -> None:
        """Returns when all of them were taken; raises otherwise, and then any of them may have been."""
        ...


class Record(msgspec.Struct, frozen=True):
    """What is known of the latest event on one key."""

    sequencer: str
    #: Stage -> the event with which it settled this upload.
    settled: Mapping[str, Event]


class Uploads(Protocol):
    """One record a key: which event of S3 is the latest, and how each stage settled it.

    It is what makes the stages idempotent: the first event with which a stage settles an upload stays; whoever
    comes later is handed that one.
    """

    def claim(self, upload: Upload) -> Record | None:
        """Make this the latest event on its key, or return the record if it is already; None if a later one is."""
        ...

    def get(self, upload: Upload) -> Record | None:
        """The record, if this upload is the latest on its key; else None."""
        ...

    def settle(self, stage: str, event: Event) -> Event | None:
        """Store ``event`` unless the stage has settled this upload before; the stored one; None if superseded."""
        ...
