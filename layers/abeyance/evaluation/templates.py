"""From photos to templates, once: what was computed is kept, by the identity of the models and of the file.

The cache holds biometric templates of whoever is on the photos. It is readable by its owner only, lies in
the user's cache folder, and can be deleted at any time; a caller that passes no cache leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from abeyance.evaluation.errors import DataInvalid

if TYPE_CHECKING:
    from abeyance.embedding.port import Embedder
    from abeyance.vision.detector import Detector, FaceDetection

Tick = Callable[[], None]


@dataclass(frozen=True, slots=True, eq=False)
class Extracted:
    """Templates of photos, one row each, in the order asked for."""

    #: (n, d) float32 of unit length; zeros where no face was found.
    vectors: NDArray[np.float32]
    #: (n,) bool: a face was found.
    found: NDArray[np.bool_]
    #: (n,) float32, 0 to 1: the detector's confidence, 0 where no face was found.
    confidence: NDArray[np.float32]
    #: (n,) int64: faces in the photo.
    faces: NDArray[np.int64]
    #: Photos that could not be decoded.
    rejected: int
    #: Names detector, embedder and settings that made them.
    identity: str
    #: Photos that were computed now, not read from the cache, and the seconds that took.
    computed: int = 0
    seconds: float = 0.0

    def __len__(self) -> int:
        return len(self.vectors)


class Extractor:
    """Finds the one face that a photo is of, and makes its template.

    That is the face which is large and near the middle: the one with the greatest area less twice the
    squared distance of its centre from the photo's. A bystander at the border is not who the photo is of.

    Parameters
    ----------
    detector, embedder
        Of the same model manifest.
    detector_identity
        ``ModelEntry.identity`` of the detector.
    min_confidence
        0 to 1; a photo whose faces are all less certain counts as a failure to detect.
    cache
        Folder for templates; None keeps nothing.
    workers
        Threads; the models run on one each.
    """

    def __init__(
        self,
        detector: Detector,
        embedder: Embedder,
        *,
        detector_identity: str,
        min_confidence: float = 0.7,
        cache: Path | None = None,
        workers: int = 0,
    ) -> None:
        self.detector = detector
        self.embedder = embedder
        self.min_confidence = min_confidence
        self.identity = f"{detector_identity}>={min_confidence:g}+central-face+{embedder.identity}"
        self._cache = cache
        self._workers = workers or os.cpu_count() or 1

    def __call__(self, paths: Sequence[Path], tick: Tick | None = None) -> Extracted:
        """Templates of the photos at ``paths``; ``tick`` is called once for each.

        Raises
        ------
        DataInvalid
            If a photo cannot be read from disk. One that cannot be decoded is counted, not raised.
        """
        dimension = self.embedder.dimension
        rows: dict[str, bytes] = {}
        computed = 0
        started = time.perf_counter()
        with closing(_Store(self._cache, self.identity)) as store, ThreadPoolExecutor(self._workers) as pool:

            def one(path: Path) -> str:
                nonlocal computed
                try:
                    data = path.read_bytes()
                except OSError as error:
                    raise DataInvalid(f"cannot read a photo in {path.parent}: {error.strerror}") from error
                key = hashlib.sha256(data).hexdigest()
                if key not in rows:
                    known = store.get(key)
                    if known is None:
                        known = self._row(data)
                        computed += 1
                        store.put(key, known)
                    rows[key] = known
                if tick:
                    tick()
                return key

            keys = list(pool.map(one, paths))
        head, body = np.dtype([("confidence", "<f4"), ("faces", "<i4")]), np.dtype("<f4")
        size = head.itemsize + dimension * body.itemsize
        table = b"".join(rows[key] for key in keys)
        whole = np.frombuffer(table, np.dtype([("head", head), ("vector", body, (dimension,))]))
        assert len(table) == size * len(keys)
        faces = whole["head"]["faces"].astype(np.int64)
        return Extracted(
            vectors=np.ascontiguousarray(whole["vector"]),
            found=faces > 0,
            confidence=whole["head"]["confidence"].astype(np.float32),
            faces=np.maximum(faces, 0),
            rejected=int((faces < 0).sum()),
            identity=self.identity,
            computed=computed,
            seconds=time.perf_counter() - started,
        )

    def chip(self, path: Path) -> NDArray[np.uint8] | None:
        """The face of a photo as the embedder sees it: (112, 112, 3) uint8 RGB, or None."""
        from abeyance.vision.alignment import align
        from abeyance.vision.errors import ImageRejected
        from abeyance.vision.image import open_photo

        try:
            photo = open_photo(path.read_bytes())
        except ImageRejected:
            return None
        face = central(self.detector.detect(photo, min_confidence=self.min_confidence), photo.shape)
        if face is None:
            return None
        chip: NDArray[np.uint8] = align(photo, face.landmarks)[0]
        return chip

    def _row(self, data: bytes) -> bytes:
        """Confidence, number of faces (-1: not decodable) and template, as the cache keeps them."""
        from abeyance.vision.alignment import align
        from abeyance.vision.errors import ImageRejected
        from abeyance.vision.image import open_photo

        vector: NDArray[np.float32] = np.zeros(self.embedder.dimension, "<f4")
        confidence, count = 0.0, 0
        try:
            photo = open_photo(data)
        except ImageRejected:
            count = -1
        else:
            found = self.detector.detect(photo, min_confidence=self.min_confidence)
            face = central(found, photo.shape)
            count = len(found)
            if face is not None:
                confidence = face.confidence
                vector = self.embedder.embed(align(photo, face.landmarks))[0].astype("<f4")
        return np.array([confidence], "<f4").tobytes() + np.array([count], "<i4").tobytes() + vector.tobytes()


def central(faces: Sequence[FaceDetection], shape: Sequence[int]) -> FaceDetection | None:
    """The face that a photo of ``shape`` (h, w, ...) is of, or None if there are none."""

    def weight(face: FaceDetection) -> float:
        x, y, width, height = face.box
        distance = (x + width / 2 - shape[1] / 2) ** 2 + (y + height / 2 - shape[0] / 2) ** 2
        return width * height - 2 * distance

    return max(faces, key=weight, default=None)


class _Store:
    """Rows by SHA-256 of the photo, in one SQLite file per identity of the models; none if no folder."""

    def __init__(self, folder: Path | None, identity: str) -> None:
        self._database: sqlite3.Connection | None = None
        self._lock = threading.Lock()
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = folder / f"templates-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.sqlite"
        path.touch(mode=0o600)
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=30)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=NORMAL")
        self._database.execute("CREATE TABLE IF NOT EXISTS made (photo TEXT PRIMARY KEY, row BLOB NOT NULL)")

    def get(self, key: str) -> bytes | None:
        if self._database is None:
            return None
        with self._lock:
            found = self._database.execute("SELECT row FROM made WHERE photo = ?", (key,)).fetchone()
        return bytes(found[0]) if found else None

    def put(self, key: str, row: bytes) -> None:
        if self._database is not None:
            with self._lock:
                self._database.execute("INSERT OR REPLACE INTO made VALUES (?, ?)", (key, row))

    def close(self) -> None:
        if self._database is not None:
            self._database.close()
