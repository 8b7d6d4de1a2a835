from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from abeyance.embedding.onnx import OnnxEmbedder
from abeyance.vision.alignment import align
from abeyance.vision.detector import Detector
from abeyance.vision.errors import ModelUnusable
from abeyance.vision.models.manifest import Manifest, Preprocessing
from abeyance.vision.session import open_session

from .networks import arcface_like, entry_of


def chips(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 112, 112, 3), np.uint8)


def test_templates_have_unit_length_and_do_not_depend_on_the_batch(embedder: OnnxEmbedder) -> None:
    many = chips(19)
    templates = embedder.embed(many)
    assert templates.shape == (19, embedder.dimension) == (19, 128)
    assert templates.dtype == np.float32
    assert np.allclose(np.linalg.norm(templates, axis=1), 1, atol=1e-5)
    alone = np.concatenate([embedder.embed(chip[None]) for chip in many])
    assert (templates * alone).sum(axis=1).min() > 0.999999
    assert embedder.embed(chips(0)).shape == (0, 128)


def test_one_person_is_nearer_than_two(
    detector: Detector,
    embedder: OnnxEmbedder,
    portraits: Mapping[str, NDArray[np.uint8]],
    astronaut: NDArray[np.uint8],
) -> None:
    def template(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return embedder.embed(align(pixels, detector.detect(pixels)[0].landmarks))[0]

    one = [template(portraits[name]) for name in ("obama", "obama2", "obama3")]
    others = [template(portraits["biden"]), template(astronaut)]
    mated = [float(a @ b) for i, a in enumerate(one) for b in one[:i]]
    non_mated = [float(a @ b) for a in one for b in others] + [float(others[0] @ others[1])]
    assert min(mated) > 0.65
    assert max(non_mated) < 0.3


def test_identity_is_that_of_the_manifest(embedder: OnnxEmbedder) -> None:
    entry = Manifest.load()["sface-2021dec"]
    assert embedder.identity == entry.identity
    assert embedder.entry == entry


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((112, 112, 3), np.uint8),
        np.zeros((1, 3, 112, 112), np.uint8),
        np.zeros((1, 112, 112, 3), np.float32),
        np.zeros((1, 128, 128, 3), np.uint8),
    ],
)
def test_other_chips_are_refused(embedder: OnnxEmbedder, wrong: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="chips"):
        embedder.embed(wrong)


def reference(values: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute the network of :func:`arcface_like` in numpy: means of 28 x 28 blocks, then a matrix."""
    n = len(values)
    pooled = values.reshape(n, 3, 4, 28, 4, 28).mean(axis=(3, 5)).reshape(n, -1)
    slope = np.float32(0.25)
    pooled = np.where(pooled > 0, pooled, slope * pooled)
    templates = pooled @ weights
    return templates / np.linalg.norm(templates, axis=1, keepdims=True)


@pytest.mark.parametrize("batch", ["n", 1])
@pytest.mark.parametrize("colour", ["RGB", "BGR"])
def test_an_embedder_of_ones_own(tmp_path: Path, batch: str | int, colour: str) -> None:
    """ArcFace as it is published: (x - 127.5) / 127.5, 512 numbers, sometimes for exactly one chip."""
    file, weights = arcface_like(tmp_path, batch=batch)
    pre = {"width": 112, "height": 112, "mean": [127.5] * 3, "std": [127.5] * 3, "alignment": "arcface-112"}
    entry = entry_of(file, preprocessing=msgspec.convert({**pre, "colour": colour}, Preprocessing))
    embedder = OnnxEmbedder(open_session(file), entry)
    images = chips(5)
    order = [0, 1, 2] if colour == "RGB" else [2, 1, 0]
    values = ((images[..., order].astype(np.float32) - 127.5) / 127.5).transpose(0, 3, 1, 2)
    templates = embedder.embed(images)
    assert templates.shape == (5, 512)
    assert (templates * reference(values, weights)).sum(axis=1).min() > 0.99999


def test_an_entry_that_lies_about_its_file_is_refused(tmp_path: Path) -> None:
    file, _ = arcface_like(tmp_path)
    with pytest.raises(ModelUnusable, match="correct the entry"):
        OnnxEmbedder(open_session(file), entry_of(file, dimension=256))


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "no.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(ModelUnusable):
        open_session(path)
    with pytest.raises(ModelUnusable, match="NoSuchProvider"):
        open_session(path, providers=["NoSuchProvider"])
