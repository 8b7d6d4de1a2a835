"""Templates are computed once, and the cache returns them unchanged."""

from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pytest

from abeyance.evaluation.errors import DataInvalid
from abeyance.evaluation.templates import TemplateExtractor, select_central
from abeyance.vision.detector import FaceDetection

from .people import Colours, OneFace, photo


def extractor(cache: Path | None, **settings: float) -> TemplateExtractor:
    return TemplateExtractor(
        OneFace(), Colours(), detector_identity="one@0", cache=cache, workers=2, **settings
    )  # type: ignore[arg-type]


def test_the_second_run_computes_nothing(tmp_path: Path) -> None:
    paths = [photo(tmp_path / f"{i}.png", i, 1, 1) for i in range(1, 6)]
    paths.append(photo(tmp_path / "black.png", 0, 0, 0))
    (tmp_path / "broken.png").write_bytes(b"not a photo")
    paths.append(tmp_path / "broken.png")
    ticks: list[int] = []
    first = extractor(tmp_path / "cache")(paths, lambda: ticks.append(1))
    second = extractor(tmp_path / "cache")(paths[::-1])
    assert (first.computed, second.computed, len(ticks)) == (7, 0, 7)
    np.testing.assert_array_equal(first.vectors, second.vectors[::-1])
    assert first.found.tolist() == [True] * 5 + [False] * 2
    assert (first.rejected, first.faces.tolist()) == (1, [1] * 5 + [0, 0])
    np.testing.assert_allclose(np.linalg.norm(first.vectors[:5], axis=1), 1, atol=1e-6)
    assert not first.vectors[5:].any()


def test_other_settings_are_another_cache(tmp_path: Path) -> None:
    paths = [photo(tmp_path / "1.png", 1, 1, 1)]
    extractor(tmp_path / "cache")(paths)
    assert extractor(tmp_path / "cache", min_confidence=0.5)(paths).computed == 1


def test_the_cache_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    paths = [photo(tmp_path / "photos" / "1.png", 1, 1, 1)]
    extractor(tmp_path / "cache")(paths)
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700
    assert all(stat.S_IMODE(f.stat().st_mode) == 0o600 for f in (tmp_path / "cache").glob("*.sqlite"))
    extractor(None)(paths)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache", "photos"]


def test_a_missing_photo_is_named_by_its_folder_only(tmp_path: Path) -> None:
    with pytest.raises(DataInvalid) as caught:
        extractor(None)([tmp_path / "jane-doe.jpg"])
    assert "jane-doe" not in str(caught.value)


def test_the_central_face_is_selected() -> None:
    points = np.zeros((5, 2), np.float32)
    bystander = FaceDetection(box=(0, 0, 40, 40), landmarks=points, confidence=0.9)
    central = FaceDetection(box=(85, 85, 30, 30), landmarks=points, confidence=0.8)
    assert select_central([bystander, central], (200, 200, 3))[0] is central
    assert select_central([], (200, 200, 3)) == []


def test_chips(tmp_path: Path) -> None:
    work = extractor(None)
    chip = work.chip(photo(tmp_path / "1.png", 9, 1, 1))
    assert chip is not None
    assert chip.shape == (112, 112, 3)
    assert work.chip(photo(tmp_path / "0.png", 0, 0, 0)) is None
    (tmp_path / "x.png").write_bytes(b"x")
    assert work.chip(tmp_path / "x.png") is None
