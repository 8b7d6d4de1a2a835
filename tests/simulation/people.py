"""Stand-ins for the models: a photo is JSON that names who is on it. Vision itself is tested elsewhere."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abeyance.embedding.port import EmbedderUnavailable
from abeyance.vision.analysis import AnalyzedFace, AnalyzedPhoto
from abeyance.vision.errors import ImageRejected, RejectReason
from abeyance.vision.quality import FaceQuality
from abeyance.vision.similarity import SimilarityScale

DIMENSION = 8
MODEL = "simulated@000000000000"
_QUALITY = FaceQuality(sharpness=90.0, brightness=60.0, yaw=0.0, pitch=0.0, roll=0.0, size=100.0, visible=1.0)
_CHIPS: dict[int, NDArray[np.uint8]] = {}


def photo(people: list[int], nonce: int = 0, *, bad: bool = False) -> bytes:
    """Return a photo of these people; another ``nonce`` is another photo."""
    return json.dumps({"people": people, "nonce": nonce, "bad": bad}).encode()


def chip_of(person: int) -> NDArray[np.uint8]:
    """Return the chip of a person: every pixel is the person's number."""
    if person not in _CHIPS:
        _CHIPS[person] = np.full((112, 112, 3), person, np.uint8)
    return _CHIPS[person]


def template_of(person: int) -> NDArray[np.float32]:
    """Return the template of a person: a unit vector of the person's own."""
    vector = np.random.default_rng(person).standard_normal(DIMENSION).astype(np.float32)
    return vector / np.float32(np.linalg.norm(vector))


class SimulatedAnalyzer:
    """Finds the people that a photo names."""

    limits = SimpleNamespace(max_bytes=15 * 1024 * 1024)

    def open_models(self, attributes: Any = ()) -> None:
        """There is nothing to open."""

    def analyze(self, data: bytes, **_: Any) -> AnalyzedPhoto:
        said = json.loads(data)
        if said["bad"]:
            raise ImageRejected(RejectReason.DAMAGED, "The image is damaged.")
        faces = tuple(
            AnalyzedFace(
                box=(10.0 * number, 10.0, 8.0, 8.0),
                landmarks=np.full((5, 2), 12.0, np.float32),
                confidence=0.95,
                quality=_QUALITY,
                reasons=(),
                chip=chip_of(person),
                photo_size=(640, 480),
            )
            for number, person in enumerate(said["people"])
        )
        return AnalyzedPhoto(640, 480, faces, len(faces))


class SimulatedEmbedder:
    """Makes the template of whoever a chip is of."""

    identity = MODEL
    dimension = DIMENSION
    #: False during an outage of the endpoint.
    available = True

    def embed(self, chips: NDArray[np.uint8]) -> NDArray[np.float32]:
        if not self.available:
            raise EmbedderUnavailable("The endpoint is away.", retry_after=5.0)
        return np.stack([template_of(int(chip[0, 0, 0])) for chip in chips])


EMBEDDER = SimulatedEmbedder()
SCALE = SimilarityScale([(-1.0, 0.0), (0.5, 80.0), (1.0, 100.0)])
