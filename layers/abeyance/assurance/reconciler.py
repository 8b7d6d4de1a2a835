"""The reconciler: reads the ledger and every store, and says what is missing. It changes nothing."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from abeyance.assurance.reconcile import GRACE, LOOKBACK, Reconciliation, Trace, reconcile
from abeyance.aws.timestamps import rfc3339
from abeyance.ledger.heads import HeadStore
from abeyance.ledger.objects import LogObjects
from abeyance.ledger.reading import LogReader
from abeyance.pipeline import topology

log = logging.getLogger("abeyance")

#: Time from one scheduled comparison to the next.
EVERY: Final = timedelta(minutes=topology.RECONCILE.every_minutes)
#: The line that is logged for every gap; an alarm rings on it.
GAP: Final = "ledger gap"


class Reconciler:
    """The comparison of a deployment's stores with its ledger.

    Parameters
    ----------
    heads, objects
        The ledger.
    stores
        Read the traces of a store each; see :mod:`abeyance.assurance.traces`.
    clock
        Now, with a time zone.
    """

    def __init__(
        self,
        heads: HeadStore,
        objects: LogObjects,
        stores: Sequence[Callable[[], Iterable[Trace]]],
        clock: Callable[[], datetime],
    ) -> None:
        self._heads = heads
        self._objects = objects
        self._stores = stores
        self._clock = clock

    def compare(
        self,
        since: datetime,
        more: Iterable[Trace] = (),
        *,
        grace: timedelta = GRACE,
        templates: int | None = None,
    ) -> Reconciliation:
        """Compare what happened since a moment with the ledger; see :func:`~abeyance.assurance.reconcile.reconcile`.

        ``more`` are traces from elsewhere. Stores are read before the ledger, so that nothing that happens meanwhile
        looks like a gap; what is younger than the grace is left to the next time.
        """
        now = self._clock()
        traces = itertools.chain(more, *(store() for store in self._stores))
        reader = LogReader(self._objects, self._heads.integrated())
        first = reader.first_since(rfc3339(since - LOOKBACK, "microseconds")) if reader.size else 0
        return reconcile(
            reader.entries(first), traces, since=since, now=now, grace=grace, templates=templates
        )

    def ring(self, grace: timedelta = GRACE) -> dict[str, Any]:
        """Compare the time since the last run, log every gap for the alarm, and return the numbers."""
        found = self.compare(self._clock() - EVERY - GRACE, grace=grace)
        for gap in found.gaps:
            log.error(GAP, extra={"kind": gap.kind.value, "what": gap.what, "event": gap.name})
        return {"gaps": found.found, "entries": found.entries, "traces": found.traces}
