"""What the pages are made of: the rooms, ready to be asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from abeyance.console.books import Books
from abeyance.console.desk import Desk
from abeyance.console.erase import Galleries
from abeyance.console.identity import Identity
from abeyance.console.pictures import Pictures
from abeyance.console.policy import Policy


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """What similarity means with the model in use."""

    model: str
    about: str
    provenance: str
    #: (similarity, false-match rate in the worst group).
    anchors: tuple[tuple[float, float], ...]


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """See :func:`abeyance.console.assemble.parts`."""

    identity: Identity
    key: bytes
    desk: Desk
    pictures: Pictures
    policy: Policy
    books: Books
    galleries: Galleries
    scale: Callable[[], Scale]
    #: An accuracy report as ``abeyance audit`` writes it; None where none was put there.
    report: Path | None = None
