"""usearch: its exact search of float16 templates, or its HNSW index."""

from __future__ import annotations

from _serve import SETTINGS, THREADS  # isort: skip
from typing import Any

import numpy as np
from _search import COUNT, DIMENSION, TOP, Probes, serve_search, templates
from usearch.index import Index, MetricKind, search

_every = np.concatenate(list(templates()))
if SETTINGS["index"] == "hnsw":
    _index = Index(ndim=DIMENSION, metric=MetricKind.IP, dtype="f16")
    _index.add(np.arange(COUNT), _every, threads=THREADS)


def _search(given: Probes, threads: int) -> Any:
    if SETTINGS["index"] == "hnsw":
        found: Any = _index.search(given, TOP, threads=threads)
    else:
        found = search(_every, given.astype(np.float16), TOP, MetricKind.IP, exact=True, threads=threads)
    return found, lambda found: np.atleast_2d(found.keys)


serve_search(_search)
