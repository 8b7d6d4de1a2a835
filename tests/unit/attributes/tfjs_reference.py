"""A reference for TensorFlow.js graphs in NumPy, channels last: slow and plain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abeyance.vision.models.tfjs import Graph, Node
from abeyance.vision.session import open_session

Array = NDArray[Any]


def run(graph: Graph, images: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Compute the graph.

    Parameters
    ----------
    images
        (n, height, width, channels) float32.
    """
    values: dict[str, Array] = {**graph.weights, graph.input: images}
    for node in graph.nodes:
        inputs = [values[name] for name in node.inputs]
        op, *fused = node.op.split("+")
        result = _COMPUTE[op](inputs, node)
        extra = iter(inputs[2:])
        for step in fused:
            if step == "BiasAdd":
                result = result + next(extra)
            elif step == "Prelu":
                result = _prelu([result, next(extra)], node)
            else:
                result = np.maximum(result, 0)
        values[node.name] = result
    return {name: values[node] for name, node in graph.outputs.items()}


def _windows(x: Array, kernel: tuple[int, int], node: Node, fill: float) -> Array:
    """Return (n, rows, columns, channels, kernel height, kernel width): the window of each position."""
    if node.same:
        pads = []
        for size, k, stride in zip(x.shape[1:3], kernel, node.strides, strict=True):
            total = max((-(-size // stride) - 1) * stride + k - size, 0)
            pads.append((total // 2, total - total // 2))
        x = np.pad(x, ((0, 0), *pads, (0, 0)), constant_values=fill)
    seen = np.lib.stride_tricks.sliding_window_view(x, kernel, axis=(1, 2))
    return seen[:, :: node.strides[0], :: node.strides[1]]


def _conv(inputs: list[Array], node: Node) -> Array:
    x, filters = inputs[:2]
    seen = _windows(x, filters.shape[:2], node, 0.0)
    return np.tensordot(seen, filters.transpose(2, 0, 1, 3), axes=3)


def _depthwise(inputs: list[Array], node: Node) -> Array:
    x, filters = inputs
    seen = _windows(x, filters.shape[:2], node, 0.0)
    result: Array = np.einsum("nrchij,ijhm->nrchm", seen, filters, optimize=True)
    return result.reshape(*result.shape[:3], -1)


def _prelu(inputs: list[Array], node: Node) -> Array:
    x, slope = inputs
    return np.where(x >= 0, x, x * slope)


def _softmax(inputs: list[Array], node: Node) -> Array:
    grown = np.exp(inputs[0] - inputs[0].max(axis=-1, keepdims=True))
    return np.asarray(grown / grown.sum(axis=-1, keepdims=True))


_COMPUTE: dict[str, Callable[[list[Array], Node], Array]] = {
    "Conv2D": _conv,
    "DepthwiseConv2dNative": _depthwise,
    "MatMul": lambda i, _: i[0] @ i[1],
    "Add": lambda i, _: i[0] + i[1],
    "Relu": lambda i, _: np.maximum(i[0], 0),
    "Prelu": _prelu,
    "Sigmoid": lambda i, _: 1 / (1 + np.exp(-i[0])),
    "Softmax": _softmax,
    "MaxPool": lambda i, node: _windows(i[0], node.kernel, node, -np.inf).max(axis=(-2, -1)),
    "AvgPool": lambda i, node: _windows(i[0], node.kernel, node, 0.0).mean(axis=(-2, -1)),
    "Mean": lambda i, _: i[0].mean(axis=tuple(i[1].ravel())),
    "Pad": lambda i, _: np.pad(i[0], i[1]),
    "ConcatV2": lambda i, _: np.concatenate(i[:-1], axis=int(i[-1])),
    "Reshape": lambda i, _: i[0].reshape(i[1]),
    "Identity": lambda i, _: i[0],
}


def difference(graph: Graph, model: bytes) -> float:
    """Return the largest difference between numpy and ONNX Runtime on random images.

    Relative to the largest value of the output, or to 1 where all are smaller: outputs are shares or pixels.
    """
    session = open_session(model)
    images = np.random.default_rng(0).uniform(-1, 1, (2, *graph.shape)).astype(np.float32)
    have = session.run(list(graph.outputs), {"image": images.transpose(0, 3, 1, 2)})
    worst = 0.0
    for want, got in zip(run(graph, images).values(), have, strict=True):
        wanted = want.transpose(0, 3, 1, 2) if want.ndim == 4 else want
        if wanted.shape != got.shape:
            return float("inf")
        worst = max(worst, float(np.abs(wanted - got).max() / max(float(np.abs(wanted).max()), 1.0)))
    return worst
