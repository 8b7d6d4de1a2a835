"""Reading TensorFlow.js weights and graphs, and writing them as ONNX."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from abeyance.vision.errors import ModelUnusable
from abeyance.vision.models import tfjs
from abeyance.vision.models.convert import _GRAPHS
from abeyance.vision.models.manifest import Manifest
from abeyance.vision.models.registry import package_files
from abeyance.vision.models.store import cache_directory, locate

from .tfjs_reference import difference, run


def test_weights_are_read_as_they_were_before_they_were_quantised() -> None:
    manifest = [
        {
            "weights": [
                {
                    "name": "a",
                    "shape": [2, 2],
                    "dtype": "float32",
                    "quantization": {"dtype": "uint8", "scale": 0.5, "min": -1.0},
                },
                {
                    "name": "b",
                    "shape": [2],
                    "dtype": "float32",
                    "quantization": {"dtype": "float16", "original_dtype": "float32"},
                },
                {"name": "c", "shape": [], "dtype": "int32"},
                {"name": "d", "shape": [1], "dtype": "float32"},
            ]
        }
    ]
    content = bytes([0, 1, 2, 255]) + np.array([1.5, -2], "<f2").tobytes()
    content += np.array([7], "<i4").tobytes() + np.array([0.25], "<f4").tobytes()
    weights = tfjs.read_weights(manifest, content)
    assert weights["a"].tolist() == [[-1.0, -0.5], [0.0, 126.5]]
    assert weights["b"].tolist() == [1.5, -2.0]
    assert (weights["c"].item(), weights["c"].dtype) == (7, np.int64)
    assert weights["d"].tolist() == [0.25]
    for wrong in (content[:-1], content + b"\0"):
        with pytest.raises(ModelUnusable, match="than its manifest says"):
            tfjs.read_weights(manifest, wrong)


def test_same_padding_pads_more_at_the_end() -> None:
    """On an even side a stride of 2 under a kernel of 3 leaves the first row alone: TensorFlow's rule."""
    node = tfjs.Node("DepthwiseConv2dNative", "y", ("x", "k"), strides=(2, 2), same=True)
    weights = {"k": np.ones((3, 3, 1, 1), np.float32)}
    graph = tfjs.Graph("x", (4, 4, 1), (node,), weights, {"out": "y"})
    image = np.zeros((1, 4, 4, 1), np.float32)
    image[0, 0, 0, 0] = 1
    assert run(graph, image)["out"][0, :, :, 0].tolist() == [[1, 0], [0, 0]]
    image[:] = 0
    image[0, 3, 3, 0] = 1
    assert run(graph, image)["out"][0, :, :, 0].tolist() == [[0, 0], [0, 1]]


def s(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def graph_of(nodes: list[dict[str, Any]], weights: dict[str, np.ndarray]) -> tuple[bytes, bytes]:
    """A small graph model as tfjs writes it."""
    kinds = {np.dtype(np.float32): "float32", np.dtype(np.int32): "int32"}
    entries = [{"name": n, "shape": list(w.shape), "dtype": kinds[w.dtype]} for n, w in weights.items()]
    size = [{"size": str(n)} for n in (-1, 6, 5, 3)]
    image = {"name": "image", "op": "Placeholder", "attr": {"shape": {"shape": {"dim": size}}}}
    document = {
        "modelTopology": {"node": [image, *nodes]},
        "weightsManifest": [{"weights": entries}],
        "signature": {"outputs": {"answer": {"name": f"{nodes[-1]['name']}:0"}}},
    }
    return json.dumps(document).encode(), b"".join(w.tobytes() for w in weights.values())


def convolution(
    name: str, inputs: list[str], fused: list[str], padding: str = "SAME", stride: int = 1
) -> dict[str, Any]:
    step = {"list": {"i": ["1", str(stride), str(stride), "1"]}}
    return {
        "name": name,
        "op": "_FusedConv2D",
        "input": inputs,
        "attr": {
            "fused_ops": {"list": {"s": [s(x) for x in fused]}},
            "strides": step,
            "padding": {"s": s(padding)},
            "data_format": {"s": s("NHWC")},
        },
    }


def test_names_have_one_spelling() -> None:
    node = convolution("c", ["image", "k"], ["BiasAdd"])
    assert s("SAME") == "U0FNRQ=="
    assert tfjs._node(node, ("image", "k")).op == "Conv2D+BiasAdd"
    node["attr"]["padding"] = {"s": "U0FNRR=="}
    with pytest.raises(ValueError, match="base64"):
        tfjs._node(node, ("image", "k"))


def test_every_operation_comes_out_the_same_in_onnx() -> None:
    rng = np.random.default_rng(1)

    def some(*shape: int) -> np.ndarray:
        return rng.normal(0, 1, shape).astype(np.float32)

    pool = {"ksize": {"list": {"i": ["1", "2", "2", "1"]}}, "strides": {"list": {"i": ["1", "2", "2", "1"]}}}
    nodes = [
        convolution("c1", ["image", "k1", "b1", "p1"], ["BiasAdd", "Prelu"], stride=2),
        {
            "name": "d",
            "op": "DepthwiseConv2dNative",
            "input": ["c1", "k2"],
            "attr": {"padding": {"s": s("SAME")}},
        },
        {"name": "p", "op": "Prelu", "input": ["d", "p1"]},
        {"name": "a", "op": "AddV2", "input": ["p", "c1"]},
        {"name": "pad", "op": "Pad", "input": ["a", "pads"]},
        convolution("c2", ["pad", "k3", "b3"], ["BiasAdd", "Relu"], "VALID"),
        {"name": "cat", "op": "ConcatV2", "input": ["c2", "pad", "axis"]},
        {"name": "m", "op": "MaxPool", "input": ["cat"], "attr": {**pool, "padding": {"s": s("SAME")}}},
        {"name": "sig", "op": "Sigmoid", "input": ["m"]},
        {"name": "r", "op": "Reshape", "input": ["sig", "shape"]},
        {"name": "soft", "op": "Softmax", "input": ["r"]},
        {"name": "Identity", "op": "Identity", "input": ["soft"]},
    ]
    weights = {
        "k1": some(3, 3, 3, 4),
        "b1": some(4),
        "p1": some(1, 1, 4),
        "k2": some(3, 3, 4, 1),
        "k3": some(1, 1, 6, 2),
        "b3": some(2),
        "pads": np.array([[0, 0], [0, 0], [0, 0], [0, 2]], np.int32),
        "axis": np.array(-1, np.int32),
        "shape": np.array([-1, 32], np.int32),
    }
    graph = tfjs.read_graph(*graph_of(nodes, weights))
    assert set(graph.outputs) == {"answer"}
    assert difference(graph, tfjs.write_onnx(graph).SerializeToString()) < 1e-6


@pytest.mark.parametrize("op", ["FFT", "_FusedConv2D"])
def test_what_is_not_supported_is_refused(op: str) -> None:
    odd = {"FFT": {"name": "x", "op": "FFT", "input": ["image"]}}
    node = odd.get(op) or convolution("x", ["image", "k"], ["BiasAdd", "Elu"])
    with pytest.raises(ModelUnusable, match="not supported"):
        tfjs.read_graph(*graph_of([node], {"k": np.zeros((1, 1, 3, 3), np.float32)}))


@pytest.mark.parametrize("name", ["age-gender-faceapi", "expression-faceapi", "facemesh", "iris"])
def test_the_published_models_are_equal_in_both_readings(models: Path, name: str) -> None:
    entry = Manifest.load()[name]
    source = entry.source
    assert source is not None
    names = [entry.file, *(part.file for part in entry.also)]
    folder = cache_directory() / "published" / name
    files = package_files(source, names, folder)
    weights, names_or_graph = ((folder / file).read_bytes() for file in names)
    assert len(files) == 2
    graph = _GRAPHS[entry.conversion.name](weights, names_or_graph)
    assert 0 < difference(graph, locate(entry, models).read_bytes()) < 1e-5
