"""A gallery in this process's memory, for tests and trials."""

from __future__ import annotations

from typing import Unpack

from abeyance.aws.memory import MemoryObjects, MemoryTable
from abeyance.gallery.facade import Options, TableGallery


class InMemoryGallery(TableGallery):
    """A :class:`~abeyance.gallery.port.Gallery` without AWS; its content is gone with the object."""

    def __init__(self, **options: Unpack[Options]) -> None:
        super().__init__(MemoryTable(), MemoryObjects(), **options)
