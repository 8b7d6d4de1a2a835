"""A table that goes back to a backup, and the erasures that are done again after it, as docs/operations.md says."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
from tests.simulation import people
from tests.simulation.model import ALL_COLLECTIONS, PEOPLE, Backup

from abeyance.aws.timestamps import rfc3339
from abeyance.deployment import build
from abeyance.gallery.errors import CollectionNotFound
from abeyance.gallery.model import CollectionRef
from abeyance.gallery.search import Searcher

if TYPE_CHECKING:
    from tests.simulation.world import World

#: The tables that may be restored, by the names of their settings. That of the erasures never is.
_TABLES = ("gallery_table", "uploads_table", "reviews_table")
#: Attempts to do the erasures again while processes die.
_ATTEMPTS = 12


def back_up(world: World) -> None:
    """Remember the tables as they are, if there is no backup yet."""
    if world.backup:
        return
    tables = {
        setting: world.aws.dynamodb.tables[getattr(world.settings, setting)].copy() for setting in _TABLES
    }
    world.backup = Backup(world.clock.now_s, tables)


def restore(world: World) -> list[str]:
    """Restore a table or all, do the erasures since then again, and return which searches are wrong then."""
    assert world.backup
    world.restored = world.random.choice((*((one,) for one in _TABLES), _TABLES, _TABLES[2:]))
    with world.quietly():
        tenants = [tenant.id for tenant in build.build_tenants(world.settings, world.aws.client).all()]
        gallery = build.build_gallery(world.settings, world.aws.client)
        searcher = build.build_searcher(world.settings, gallery, world.aws.client)
        refs = [CollectionRef(tenant, name) for tenant in tenants for name in ALL_COLLECTIONS]
        for ref in refs:
            with contextlib.suppress(CollectionNotFound):
                searcher.refresh(ref)
    for setting in world.restored:
        world.aws.dynamodb.tables[getattr(world.settings, setting)] = world.backup.tables[setting].copy()
    since = rfc3339(datetime.fromtimestamp(world.backup.at_s, UTC))
    # Nobody works with the tables before the erasures are done again.
    world.faults.active, world.faults.interleaving = True, 0.0
    for _ in range(_ATTEMPTS):
        if _replay(world, since, tenants):
            break
    else:
        world.faults.active = False
        if not _replay(world, since, tenants):
            return ["the erasures after a restore cannot be done again"]
    world.faults.active = False
    with world.quietly():
        return [wrong for ref in refs for wrong in _searched(world, searcher, ref)]


def _replay(world: World, since: str, tenants: list[str]) -> bool:
    """Do the erasures again; return whether all were."""
    try:
        # The command and the console build the same erasures.
        ended, counts = world.run(
            "console", lambda: build.build_erasures(world.settings, world.aws.client).replay(since, tenants)
        )
    except Exception:
        return False
    return ended and not counts["unfinished"]


def _searched(world: World, searcher: Searcher, ref: CollectionRef) -> list[str]:
    """Compare what a searcher finds that knows the collection from before with the faces that there are."""
    gallery = build.build_gallery(world.settings, world.aws.client)
    try:
        faces = {face.id for face in gallery.list_faces(ref).items}
        probes = np.stack([people.template_of(person) for person in PEOPLE])
        found = searcher.search(
            searcher.refresh(ref), probes, limit=1000, min_cosine=0.99, model=people.MODEL
        )
    except CollectionNotFound:
        return []
    known = {candidate.face_id for row in found for candidate in row}
    return [f"a search after a restore differs from the gallery of {ref.name}"] if known != faces else []
