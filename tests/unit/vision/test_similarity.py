from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from abeyance.vision.errors import ManifestInvalid
from abeyance.vision.models.manifest import Manifest, ModelRole
from abeyance.vision.similarity import SimilarityScale

EMBEDDERS = [entry for entry in Manifest.load().entries.values() if entry.role is ModelRole.EMBEDDER]
scale = SimilarityScale.of(Manifest.load()["sface-2021dec"])
cosines = st.floats(-1, 1)
similarities = st.floats(0, 100)


@given(cosines, cosines)
def test_similarity_is_monotone_and_within_its_range(a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert 0 <= scale.similarity(low) <= scale.similarity(high) <= 100


@given(st.floats(0.001, 1))
def test_there_and_back(cosine: float) -> None:
    assert scale.cosine(scale.similarity(cosine)) == pytest.approx(cosine, abs=1e-9)


@given(similarities, cosines)
def test_a_threshold_is_the_same_on_both_sides(threshold: float, cosine: float) -> None:
    # Within rounding of the threshold both answers are right.
    if abs(cosine - scale.cosine(threshold)) > 1e-9:
        assert (cosine >= scale.cosine(threshold)) == (scale.similarity(cosine) >= threshold)


def test_ends() -> None:
    assert scale.cosine(0) == -1
    assert scale.similarity(-0.3) == 0
    assert scale.similarity(1.0) == 100
    assert scale.cosine(100.5) == np.inf
    assert isinstance(scale.similarity(0.5), float)
    assert isinstance(scale.cosine(80.0), float)


def test_arrays_keep_their_shape() -> None:
    values = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)
    result = scale.similarity(values)
    assert result.shape == (2, 3)
    assert result[1, 2] == 100
    assert scale.cosine(np.array([[80.0]])).shape == (1, 1)


@pytest.mark.parametrize("entry", EMBEDDERS, ids=lambda e: e.name)
def test_published_scales_say_where_they_come_from(entry) -> None:  # type: ignore[no-untyped-def]
    assert SimilarityScale.of(entry).similarity(1.0) == 100
    assert len(entry.calibration.provenance) > 80


@pytest.mark.parametrize(
    "knots",
    [
        [],
        [(0.0, 0.0)],
        [(0.0, 0.0), (0.5, 50.0)],
        [(0.0, 10.0), (1.0, 100.0)],
        [(0.0, 0.0), (0.5, 50.0), (0.5, 60.0), (1.0, 100.0)],
        [(0.0, 0.0), (0.5, 50.0), (0.6, 50.0), (1.0, 100.0)],
        [(0.0, 0.0), (0.6, 50.0), (0.5, 60.0), (1.0, 100.0)],
        [(-2.0, 0.0), (1.0, 100.0)],
        [(0.0, 0.0), (float("nan"), 50.0), (1.0, 100.0)],
    ],
)
def test_knots_that_make_no_scale_are_refused(knots: list[tuple[float, float]]) -> None:
    with pytest.raises(ManifestInvalid):
        SimilarityScale(knots)
