"""The published models, as converted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from abeyance.vision.models.convert import TOLERANCE, _dequantise
from abeyance.vision.models.manifest import Manifest
from abeyance.vision.models.store import locate, receipt_of
from abeyance.vision.session import open_session


def test_converted_models_were_equal_to_the_published_ones(models: Path) -> None:
    for entry in Manifest.load().entries.values():
        receipt = receipt_of(entry, models)
        assert receipt is not None
        assert receipt.difference <= TOLERANCE / 5


def test_the_embedder_has_nothing_left_of_its_compression(models: Path) -> None:
    model = onnx.load(str(locate(Manifest.load()["sface-2021dec"], models)))
    operations = {node.op_type for node in model.graph.node}
    assert not operations & {"DequantizeLinear", "Reshape", "Dropout", "PRelu", "Constant"}
    assert len(model.graph.input) == len(model.graph.output) == 1
    assert {tensor.data_type for tensor in model.graph.initializer} == {onnx.TensorProto.FLOAT}


@pytest.mark.parametrize("size", [(32, 32), (96, 640), (704, 1280)])
def test_the_detector_takes_any_multiple_of_32(models: Path, size: tuple[int, int]) -> None:
    session = open_session(locate(Manifest.load()["yunet-2023mar"], models))
    outputs = session.run(None, {"input": np.zeros((1, 3, *size), np.float32)})
    cells = [size[0] * size[1] // stride**2 for stride in (8, 16, 32)]
    assert [out.shape[1] for out in outputs] == cells * 4


@pytest.mark.parametrize(
    ("axis", "block", "shape"), [(1, 4, (3, 8)), (1, 3, (2, 8)), (0, 2, (6, 5)), (0, 64, (128,))]
)
def test_dequantising_by_blocks(axis: int, block: int, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(-128, 128, shape, np.int8)
    blocks = list(shape)
    blocks[axis] = -(-shape[axis] // block)
    scale = rng.uniform(0.1, 1, blocks).astype(np.float32)
    zero = rng.integers(-128, 128, blocks, np.int8)

    expected: NDArray[np.float32] = np.empty(shape, np.float32)
    for place in np.ndindex(*shape):
        of_block = tuple(i // block if a == axis else i for a, i in enumerate(place))
        expected[place] = np.float32(int(values[place]) - int(zero[of_block])) * scale[of_block]
    assert np.array_equal(_dequantise([values, scale, zero], axis, block), expected)
