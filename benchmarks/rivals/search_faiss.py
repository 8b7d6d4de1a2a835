"""FAISS: a flat index, of float32 or of float16."""

from __future__ import annotations

from _serve import SETTINGS  # isort: skip
from typing import Any

import faiss
import numpy as np
from _search import DIMENSION, TOP, Probes, serve_search, templates

if SETTINGS["index"] == "flat":
    _index = faiss.IndexFlatIP(DIMENSION)
else:
    _index = faiss.IndexScalarQuantizer(DIMENSION, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
for _chunk in templates():
    _index.add(_chunk.astype(np.float32))


def _search(given: Probes, threads: int) -> Any:
    faiss.omp_set_num_threads(threads)
    return _index.search(given, TOP), lambda found: found[1]


serve_search(_search)
