"""Generated faces."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import numpy as np
import pytest

from abeyance.gallery.model import NewFace


@pytest.fixture
def new_face() -> Callable[..., NewFace]:
    """Return a maker of faces, each with a template that its name determines."""

    def make(name: str, *, dimension: int = 8, model: str = "test@000000000000", **rest: object) -> NewFace:
        face_id = uuid.uuid5(uuid.NAMESPACE_URL, name)
        vector = np.random.default_rng(face_id.int).standard_normal(dimension).astype(np.float32)
        return NewFace(id=str(face_id), model=model, template=vector / np.linalg.norm(vector), **rest)  # type: ignore[arg-type]

    return make
