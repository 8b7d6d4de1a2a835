"""The published models, as converted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from abeyance.vision.models.convert import TOLERANCE, _dequantise, _folded, _rebuild
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
    # What follows a convolution is in its weights; the last normalisation has none before it.
    norms = [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    assert len(norms) == 2
    assert len(model.graph.input) == len(model.graph.output) == 1
    assert {tensor.data_type for tensor in model.graph.initializer} == {onnx.TensorProto.FLOAT}


def test_the_detector_has_one_head_at_every_level(models: Path) -> None:
    model = onnx.load(str(locate(Manifest.load()["yunet-2023mar"], models)))
    splits = [node for node in model.graph.node if node.op_type == "Split"]
    assert [len(node.output) for node in splits] == [4, 4, 4]
    assert sum(node.op_type == "Conv" for node in model.graph.node) == 53 - 3 * 2 * 3


def block(slope: NDArray[np.float32], *, groups: int, read_by: str = "Conv") -> onnx.ModelProto:
    """A convolution, its normalisation, a PRelu and what reads that, with eight channels."""
    rng = np.random.default_rng(3)
    weights = rng.normal(size=(8, 8 // groups, 3, 3)).astype(np.float32)
    norm = {name: rng.uniform(0.5, 2, 8).astype(np.float32) for name in ("gamma", "beta", "mean", "variance")}
    nodes = [
        helper.make_node("Conv", ["data", "weights"], ["c"], group=groups, pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", *norm], ["n"], epsilon=1e-3),
        helper.make_node("PRelu", ["n", "slope"], ["p"]),
        helper.make_node("Conv", ["p", "weights"], ["q"], group=groups, pads=[1, 1, 1, 1])
        if read_by == "Conv"
        else helper.make_node(read_by, ["p"], ["q"]),
    ]
    graph = helper.make_graph(
        nodes,
        "block",
        [helper.make_tensor_value_info("data", onnx.TensorProto.FLOAT, [1, 8, 10, 10])],
        [helper.make_tensor_value_info("q", onnx.TensorProto.FLOAT, [1, 8, 10, 10])],
        [numpy_helper.from_array(v, n) for n, v in {**norm, "weights": weights, "slope": slope}.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=9)


@pytest.mark.parametrize("groups", [1, 8])
@pytest.mark.parametrize("read_by", ["Conv", "Sigmoid"])
@pytest.mark.parametrize(
    "slope",
    [
        np.linspace(-0.7, 0.9, 8, dtype=np.float32).reshape(8, 1, 1),
        # Above 1, and so near to 1 that nothing can be divided by the difference.
        np.array([1.2, 1, 0, 0.25, -3, 0.9999, 2, 0.5], np.float32).reshape(8, 1, 1),
        np.array([0.25], np.float32).reshape(1, 1, 1),
    ],
    ids=["usual", "near one", "one for all"],
)
def test_prelu_and_normalisation_written_otherwise_give_the_same(
    groups: int, read_by: str, slope: NDArray[np.float32]
) -> None:
    original = block(slope, groups=groups, read_by=read_by)
    values = np.random.default_rng(4).normal(size=(1, 8, 10, 10)).astype(np.float32)
    (expected,) = open_session(original.SerializeToString(), optimise=False).run(None, {"data": values})
    constants = {i.name: numpy_helper.to_array(i) for i in original.graph.initializer}
    rewritten = _rebuild(original, _folded(list(original.graph.node), constants), constants)
    assert not {node.op_type for node in rewritten.graph.node} & {"PRelu", "BatchNormalization"}
    (found,) = open_session(rewritten.SerializeToString()).run(None, {"data": values})
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


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
