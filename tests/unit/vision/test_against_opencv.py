"""The same weights in OpenCV are the oracle: boxes and points within a pixel, templates within 0.001 of cosine.

OpenCV looks once, at the photo as it is, so that is what our detector is told to do here. Its further looks, at
large photos and at tilted faces, are its own, and tested with the detector.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from abeyance.embedding.onnx import OnnxEmbedder
from abeyance.local.samples import as_png, fetch_samples
from abeyance.vision.alignment import align
from abeyance.vision.detector import Detector
from abeyance.vision.errors import ImageRejected
from abeyance.vision.image import Limits, decode
from abeyance.vision.models.manifest import Manifest
from abeyance.vision.models.store import locate, published_file

cv2: ModuleType = pytest.importorskip("cv2")


@pytest.fixture(scope="module")
def detector(models: Path) -> Detector:
    return Detector(locate(Manifest.load()["yunet-2023mar"], models), longest_side=0, straighten=False)


@pytest.fixture(scope="module")
def reference(models: Path) -> tuple[Any, Any]:
    """OpenCV's detector on the published file, and its recogniser on the converted one, which it can read."""
    published = published_file(Manifest.load()["yunet-2023mar"])
    recogniser = locate(Manifest.load()["sface-2021dec"], models)
    return (
        cv2.FaceDetectorYN.create(str(published), "", (320, 320), 0.7, 0.3, 5000),
        cv2.FaceRecognizerSF.create(str(recogniser), ""),
    )


def compare(
    pixels: NDArray[np.uint8], detector: Detector, embedder: OnnxEmbedder, reference: tuple[Any, Any]
) -> tuple[int, float, float]:
    """Number of faces, largest difference in pixels, smallest cosine."""
    theirs_detector, theirs_embedder = reference
    mirrored = np.ascontiguousarray(pixels[:, :, ::-1])
    theirs_detector.setInputSize((pixels.shape[1], pixels.shape[0]))
    found = theirs_detector.detect(mirrored)[1]
    theirs = [] if found is None else list(found)
    ours = detector.detect(pixels, max_faces=10_000)
    assert len(ours) == len(theirs)
    worst, lowest = 0.0, 1.0
    for row in theirs:
        nearest = min(ours, key=lambda face: float(np.abs(np.array(face.box) - row[:4]).max()))
        mine = np.concatenate([nearest.box, nearest.landmarks.ravel()])
        worst = max(worst, float(np.abs(mine - row[:14]).max()))
        assert nearest.confidence == pytest.approx(float(row[14]), abs=1e-3)
        template = theirs_embedder.feature(theirs_embedder.alignCrop(mirrored, row))[0]
        template = template / np.linalg.norm(template)
        lowest = min(lowest, float(embedder.embed(align(pixels, nearest.landmarks))[0] @ template))
    return len(theirs), worst, lowest


def test_sample_photos(
    detector: Detector,
    embedder: OnnxEmbedder,
    reference: tuple[Any, Any],
    portraits: Mapping[str, NDArray[np.uint8]],
    astronaut: NDArray[np.uint8],
) -> None:
    photos = [astronaut, *portraits.values()]
    tiles = [np.tile(astronaut[40:210, 150:300], (rows, columns, 1)) for rows, columns in ((2, 3), (5, 4))]
    for pixels in [*photos, *tiles]:
        count, worst, lowest = compare(pixels, detector, embedder, reference)
        assert count > 0
        assert worst < 1
        assert lowest > 0.999


def test_a_hundred_photos_of_people(
    detector: Detector, embedder: OnnxEmbedder, reference: tuple[Any, Any]
) -> None:
    scrapshots = [
        path for name, path in sorted(fetch_samples("csu-scrapshots").items()) if name.endswith(".pgm")
    ]
    faces = 0
    for path in scrapshots[:100]:
        count, worst, lowest = compare(decode(as_png(path)), detector, embedder, reference)
        assert worst < 1, path.name
        assert lowest > 0.999, path.name
        faces += count
    assert faces >= 95


@pytest.mark.slow
def test_a_hundred_photos_of_a_folder(
    data_folder: Path, detector: Detector, embedder: OnnxEmbedder, reference: tuple[Any, Any]
) -> None:
    files = sorted(
        p for p in data_folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp")
    )
    if not files:
        pytest.skip(f"no photos in {data_folder}")
    # Evenly from every part of the folder, so that every data set in it takes part.
    by_parent: dict[Path, list[Path]] = {}
    for file in files:
        by_parent.setdefault(file.relative_to(data_folder).parents[-2], []).append(file)
    compared = faces = 0
    for group in by_parent.values():
        for file in group[:: max(1, len(group) * len(by_parent) // 120)]:
            try:
                pixels = decode(file.read_bytes(), Limits(min_side=1))
            except ImageRejected:
                continue
            count, worst, lowest = compare(pixels, detector, embedder, reference)
            assert worst < 1, file.name
            assert lowest > 0.999, file.name
            compared, faces = compared + 1, faces + count
    assert compared >= min(100, len(files) // 2)
    assert faces > 0
