"""The ports of the stages beside the table of uploads. The adapters for AWS are in :mod:`abeyance.pipeline.aws`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from abeyance.pipeline.events import Event, Upload


class ObjectGone(Exception):
    """An object that is not there, or no longer in the version that was asked for."""


class Heads(Protocol):
    """The metadata of uploaded objects."""

    def head(self, upload: Upload) -> Mapping[str, str]:
        """Return the uploader's metadata of exactly that version.

        Raises :class:`ObjectGone`, or :class:`~abeyance.aws.objects.ObjectUnreadable` if S3 would not give its bytes.
        """
        ...

    def tags(self, upload: Upload) -> Mapping[str, str]:
        """Return the tags of that version, which take the place of metadata in a bucket that a tenant registered.

        Raises :class:`ObjectGone`, or :class:`~abeyance.aws.objects.ObjectUnreadable`.
        """
        ...


class ObjectStore(Heads, Protocol):
    """Objects in several buckets, and in the versions that were uploaded."""

    def read(self, upload: Upload) -> bytes:
        """Return the bytes of exactly that version.

        Raises :class:`ObjectGone` or :class:`~abeyance.aws.objects.ObjectUnreadable`.
        """
        ...

    def read_range(self, upload: Upload, first: int, last: int) -> bytes:
        """Return the bytes from ``first`` to ``last``, both included, of exactly that version; raises as ``read``."""
        ...

    def get(self, bucket: str, key: str) -> bytes:
        """Return the object's bytes; raises :class:`ObjectGone`."""
        ...

    def put(self, bucket: str, key: str, body: bytes, content_type: str) -> None:
        """Write the object."""
        ...

    def change(self, bucket: str, key: str, edit: Callable[[bytes], bytes], content_type: str) -> None:
        """Write what ``edit`` makes of the object's bytes; raises :class:`ObjectGone`.

        It is made again of the new bytes if the object changes meanwhile, and an object that is deleted stays so.
        """
        ...

    def delete(self, bucket: str, key: str) -> None:
        """Delete the object; no error if there is none."""
        ...

    def delete_all(self, bucket: str, prefix: str, keep: Collection[str] = ()) -> None:
        """Delete every object whose key begins with ``prefix``, but for the keys in ``keep``."""
        ...


class EventBus(Protocol):
    """The bus of our events."""

    def emit(self, events: Sequence[Event]) -> None:
        """Return when all events were taken; if it raises, any of them may have been."""
        ...
