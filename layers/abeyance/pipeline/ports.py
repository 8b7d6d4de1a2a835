"""What the stages ask of the world. The adapters for AWS are in :mod:`abeyance.pipeline.aws`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from abeyance.pipeline.events import Event, Upload


class ObjectGone(Exception):
    """The object is not there, or no longer in the version that was asked for."""


class Head(msgspec.Struct, frozen=True):
    """What an uploader said of an object, without its bytes."""

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


class Standing(msgspec.Struct, frozen=True):
    """How an upload stands."""

    #: Whether no later event has come on its key.
    latest: bool
    #: Stage -> the event with which it settled the upload.
    settled: Mapping[str, Event]


class Uploads(Protocol):
    """Which event of S3 is the latest on each key, and how each stage settled each upload.

    It is what makes the stages idempotent: the first event with which a stage settles an upload stays, also when a
    later upload takes the key; whoever comes again is handed that one.
    """

    def claim(self, upload: Upload) -> bool:
        """Make this the latest event on its key, unless a later one is; whether it is the latest now."""
        ...

    def look(self, uploads: Sequence[Upload]) -> list[Standing]:
        """How each of at most fifty uploads stands, all from one read."""
        ...

    def still_latest(self, uploads: Sequence[Upload]) -> list[bool]:
        """Of each of at most a hundred uploads, whether no later event has come on its key."""
        ...

    def latest(self, bucket: str, key: str) -> str:
        """Identity of the latest upload on a key; empty if there is none."""
        ...

    def settled(self, identity: str) -> Mapping[str, Event]:
        """Stage -> the event with which it settled the upload of that identity."""
        ...

    def settle(self, stage: str, event: Event) -> Event:
        """Store ``event`` unless the stage has settled its upload before; the one that stands."""
        ...
