"""The history of :mod:`test_history`, searched through a vector index that is up to date, and one that is not."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis.stateful import initialize, invariant
from tests.vector_index import over_memory

from abeyance.gallery.vector_index import IndexSearcher

from .test_history import DIMENSION, MODEL, STAFF, History


class IndexHistory(History):
    """``warm`` has the index alone; ``seldom`` has an index as of its last search, and the changes since."""

    @initialize()
    def begin(self) -> None:
        self.make_gallery(vector_index="templates-test")
        current = over_memory(self.table.inner, top=1000)
        behind = over_memory(self.table.inner, top=1000, catches_up="after")
        self.gallery.create_collection(STAFF, model=MODEL, dimension=DIMENSION)
        self.warm = IndexSearcher(self.gallery, current, exact_up_to=0, recent=0)
        self.seldom = IndexSearcher(self.gallery, behind, exact_up_to=0, recent=10_000)
        self.start()

    @invariant()
    def vectors_go_with_their_templates(self) -> None:
        for partition in self.table.inner._partitions.values():
            for key, item in partition.items():
                assert ("v" in item) == (f"vector{DIMENSION}" in item), key[:2]


TestIndexHistory = IndexHistory.TestCase
TestIndexHistory.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
