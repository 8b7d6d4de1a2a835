"""Templates of photos, computed once and cached by the identities of the models and the hash of the file.

The cache holds biometric templates. It is readable by its owner only, lies in the user's cache folder, and can be
deleted at any time; without a cache folder nothing is stored.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from abeyance.evaluation.arrays import BoolArray, Float32Array, FloatArray, IntArray
from abeyance.evaluation.datasets import PhotoSet
from abeyance.evaluation.errors import DataInvalid
from abeyance.evaluation.intervals import Rate, clustered_rate

if TYPE_CHECKING:
    from abeyance.embedding.port import Embedder
    from abeyance.vision.analysis import AnalyzedPhoto
    from abeyance.vision.detector import Detector, FaceDetection

Tick = Callable[[], None]


@dataclass(frozen=True, slots=True, eq=False)
class TemplateSet:
    """Templates of photos, one row each, in the order of the photos."""

    #: (n, d) float32 of unit length; zeros where no face was found.
    vectors: Float32Array
    #: (n,) bool: a face was found.
    found: BoolArray
    #: (n,) int64: faces in the photo.
    faces: IntArray
    #: Photos that could not be decoded.
    rejected: int
    #: Photos that were computed now, not read from the cache.
    computed: int = 0

    def __len__(self) -> int:
        return len(self.vectors)

    def rows(self, rows: IntArray) -> TemplateSet:
        """Return only the templates of some rows."""
        return replace(self, vectors=self.vectors[rows], found=self.found[rows], faces=self.faces[rows])

    @property
    def failures(self) -> int:
        """Photos in which no face was found."""
        return int((~self.found).sum())


@dataclass(frozen=True, slots=True, eq=False)
class MatedPairs:
    """All pairs of photos of one person."""

    #: (m,) int64 each: rows of the two photos.
    first: IntArray
    second: IntArray
    #: (m,) float64 cosines, -inf where either photo has no face.
    scores: FloatArray
    #: (m,) int64: number of the person.
    people: IntArray
    #: Pairs left out because they show the same shot.
    same_shot: int

    def fnmr(self, threshold: float) -> Rate:
        """Return the FNMR at a cosine."""
        return clustered_rate(self.scores < threshold, self.people)

    @classmethod
    def of(cls, photos: PhotoSet, templates: TemplateSet, same_shot: float) -> MatedPairs:
        """Pair the photos of each person.

        Parameters
        ----------
        same_shot
            Cosine from which a pair counts as one shot cropped twice, and is left out.
        """
        codes = photos.person_codes
        rows: dict[int, list[int]] = {}
        for row, person in enumerate(codes.tolist()):
            rows.setdefault(person, []).append(row)
        pairs = [pair for members in rows.values() for pair in combinations(members, 2)]
        first, second = np.array(pairs, np.int64).reshape(-1, 2).T
        scores = templates_cosine(templates, first, second)
        kept = scores < same_shot
        return cls(first[kept], second[kept], scores[kept], codes[first[kept]], int((~kept).sum()))


@dataclass(frozen=True, slots=True, eq=False)
class MatedVectors:
    """The templates of mated pairs, to be compared after a map."""

    #: (m, d) float32 each, unit length; zeros where no face was found.
    first: Float32Array
    second: Float32Array
    #: (m,) int64: number of the person.
    people: IntArray

    def cosines(self, view: Callable[[Float32Array], Float32Array]) -> Float32Array:
        """Return the (m,) cosines of the pairs seen through a map; -inf where either photo has no face."""
        scores: Float32Array = np.einsum("ij,ij->i", view(self.first), view(self.second))
        scores[~(self.first.any(axis=1) & self.second.any(axis=1))] = -np.inf
        return scores


def templates_cosine(templates: TemplateSet, first: IntArray, second: IntArray) -> FloatArray:
    """Return the cosines of pairs of rows: (m,) float64, -inf where either photo has no face."""
    cosines = np.einsum("ij,ij->i", templates.vectors[first], templates.vectors[second])
    scores: FloatArray = cosines.astype(np.float64)
    scores[~(templates.found[first] & templates.found[second])] = -np.inf
    return scores


class TemplateExtractor:
    """Templates of the central face of each photo.

    Parameters
    ----------
    detector, embedder
        Models of one manifest.
    detector_identity
        ``ModelEntry.identity`` of the detector.
    min_confidence
        0 to 1; a photo with only less certain faces counts as a failure to detect.
    cache
        Folder for templates; None stores nothing.
    workers
        Threads; 0 is one for each core. The models run on one thread each.
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
        from abeyance.vision.analysis import FaceAnalyzer
        from abeyance.vision.attributes.estimator import load_attributes

        self.detector = detector
        self.embedder = embedder
        self._analyzer = FaceAnalyzer(lambda: detector, load_attributes)
        self.min_confidence = min_confidence
        #: Identities of detector, settings and embedder.
        self.identity = f"{detector_identity}>={min_confidence:g}+central-face+{embedder.identity}"
        self.workers = workers or os.cpu_count() or 1
        self._cache = cache
        self._layout = np.dtype(
            [("confidence", "<f4"), ("faces", "<i4"), ("vector", "<f4", (embedder.dimension,))]
        )

    def __call__(self, paths: Sequence[Path], tick: Tick | None = None) -> TemplateSet:
        """Return the templates of the photos at ``paths``; ``tick`` is called after each photo.

        Raises
        ------
        DataInvalid
            If a photo cannot be read from disk. One that cannot be decoded is counted instead.
        """
        with closing(PhotoCache(self._cache, self.identity)) as cache:
            rows = cache.map(paths, self._row, self.workers, tick)
        table = np.frombuffer(b"".join(row for _, row in rows), self._layout)
        faces = table["faces"].astype(np.int64)
        return TemplateSet(
            vectors=np.ascontiguousarray(table["vector"]),
            found=faces > 0,
            faces=np.maximum(faces, 0),
            rejected=int((faces < 0).sum()),
            computed=cache.computed,
        )

    def chip(self, path: Path) -> NDArray[np.uint8] | None:
        """Return the aligned central face of a photo, (112, 112, 3) uint8 RGB, or None if there is none."""
        photo = self._analyze(path.read_bytes())
        return photo.faces[0].chip if photo is not None and photo.faces else None

    def _analyze(self, data: bytes) -> AnalyzedPhoto | None:
        """Return the photo with its central face, or None if it cannot be decoded."""
        from abeyance.vision.errors import ImageRejected

        try:
            return self._analyzer.analyze(data, min_confidence=self.min_confidence, select=select_central)
        except ImageRejected:
            return None

    def _row(self, data: bytes) -> bytes:
        """Return confidence, number of faces (-1: not decodable) and template in the layout of the cache."""
        photo = self._analyze(data)
        row = np.zeros(1, self._layout)
        row["faces"] = -1 if photo is None else photo.detected
        if photo is not None and photo.faces:
            row["confidence"] = photo.faces[0].confidence
            row["vector"] = self.embedder.embed(photo.chips)[0]
        return row.tobytes()


def select_central(faces: Sequence[FaceDetection], shape: Sequence[int]) -> list[FaceDetection]:
    """Return the face that a photo of ``shape`` (h, w, ...) is of, or nothing if there are none.

    That is the face with the greatest area less twice the squared distance of its centre from the centre of the photo.
    It leaves out bystanders at the border.
    """

    def weight(face: FaceDetection) -> float:
        x, y, width, height = face.box
        distance = (x + width / 2 - shape[1] / 2) ** 2 + (y + height / 2 - shape[0] / 2) ** 2
        return width * height - 2 * distance

    return sorted(faces, key=weight, reverse=True)[:1]


class PhotoCache:
    """Rows of bytes computed from photos, by SHA-256 of the photo, in one SQLite file for each identity.

    Parameters
    ----------
    folder
        Folder of the file; None keeps rows in memory only.
    identity
        Everything that a row depends on beside the photo.
    """

    def __init__(self, folder: Path | None, identity: str) -> None:
        #: Rows that were computed, not read from the file.
        self.computed = 0
        self._rows: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = folder / f"templates-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.sqlite"
        path.touch(mode=0o600)
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=30)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=NORMAL")
        self._database.execute("CREATE TABLE IF NOT EXISTS made (photo TEXT PRIMARY KEY, row BLOB NOT NULL)")

    def map(
        self, paths: Sequence[Path], compute: Callable[[bytes], bytes], workers: int, tick: Tick | None = None
    ) -> list[tuple[str, bytes]]:
        """Return SHA-256 and row of each photo, computed on ``workers`` threads where it is not cached.

        Raises
        ------
        DataInvalid
            If a photo cannot be read from disk.
        """

        def row(path: Path) -> tuple[str, bytes]:
            try:
                data = path.read_bytes()
            except OSError as error:
                raise DataInvalid(f"cannot read a photo in {path.parent}: {error.strerror}") from error
            key = hashlib.sha256(data).hexdigest()
            found = self._row(key, data, compute)
            if tick:
                tick()
            return key, found

        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(row, paths))

    def _row(self, key: str, data: bytes, compute: Callable[[bytes], bytes]) -> bytes:
        row = self._rows.get(key) or self._read(key)
        if row is None:
            row = compute(data)
            with self._lock:
                self.computed += 1
                if self._database is not None:
                    self._database.execute("INSERT OR REPLACE INTO made VALUES (?, ?)", (key, row))
        self._rows[key] = row
        return row

    def _read(self, key: str) -> bytes | None:
        if self._database is None:
            return None
        with self._lock:
            found = self._database.execute("SELECT row FROM made WHERE photo = ?", (key,)).fetchone()
        return bytes(found[0]) if found else None

    def close(self) -> None:
        """Close the file."""
        if self._database is not None:
            self._database.close()
