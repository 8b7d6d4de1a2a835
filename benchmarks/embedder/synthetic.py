"""Embedders with random weights and the true shapes of well-known networks, for load tests and nothing else.

The cost of a model depends on its shapes, not on its weights. So a machine can be sized for a network before there are
licensed weights for it. Every name begins with ``loadtest-random-``, and a deployment refuses such a model.

The improved residual network is that of ArcFace (Deng, Guo, Xue, Zafeiriou, 2019, arXiv:1801.07698, section 3.1) with
the layer counts of He et al. (2016): blocks of BN, conv 3x3, BN, PReLU, conv 3x3, BN; a stem that keeps 112 x 112; and
BN, flatten, fully connected, BN at the end. Needs ``onnx``.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from abeyance.vision.models.manifest import (
    Conversion,
    Licence,
    Manifest,
    ModelEntry,
    ModelRole,
    Preprocessing,
    SimilarityCalibration,
)

#: Begins every name; ``abeyance.embedding.selection`` refuses such models.
PREFIX = "loadtest-random-"


class Architecture(NamedTuple):
    """An improved residual network on 112 x 112 chips."""

    #: Blocks of the four stages.
    blocks: tuple[int, int, int, int]
    #: Channels of the first stage; each later stage has twice those of the one before.
    width: int = 64
    #: Length of a template.
    dimension: int = 512


ARCHITECTURES = {
    "iresnet50": Architecture((3, 4, 14, 3)),
    "iresnet100": Architecture((3, 13, 30, 3)),
    #: Costs next to nothing: for tests of everything around a model.
    "tiny": Architecture((1, 1, 1, 1), width=4, dimension=32),
}


def write(folder: Path, architecture: str, *, cpu: bool = False) -> ModelEntry:
    """Write a random model and its manifest into ``folder``; keep a model that is there already.

    Parameters
    ----------
    architecture
        A key of :data:`ARCHITECTURES`.
    cpu
        Let the conversion ``prelu`` rewrite PRelu, which is slow in ONNX Runtime on a CPU and fast on a GPU.

    Returns
    -------
    ModelEntry
        Its entry. ``folder/<name>.json`` is the manifest: what ``ABEYANCE_MANIFEST`` or ``--manifest`` wants.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{PREFIX}{architecture}"
    # Not <name>.onnx: that is the name of a conversion's result, which may lie in the same folder.
    path = folder / f"{name}.generated.onnx"
    if not path.exists():
        part = path.with_suffix(".part")
        part.write_bytes(build(ARCHITECTURES[architecture]))
        part.replace(path)
    content = path.read_bytes()
    entry = ModelEntry(
        name=name,
        role=ModelRole.EMBEDDER,
        about="RANDOM WEIGHTS, for load tests only: its templates mean nothing",
        sha256=hashlib.sha256(content).hexdigest(),
        bytes=len(content),
        licence=Licence(spdx="CC0-1.0", attribution="random numbers", notice="Not a face recognition model."),
        path=path.name,
        conversion=Conversion(name="prelu", version=1) if cpu else Conversion(),
        preprocessing=Preprocessing(
            mean=(127.5, 127.5, 127.5),
            std=(127.5, 127.5, 127.5),
            width=112,
            height=112,
            alignment="arcface-112",
        ),
        dimension=ARCHITECTURES[architecture].dimension,
        calibration=SimilarityCalibration(
            knots=((0.0, 0.0), (1.0, 100.0)), provenance="None: the weights are random."
        ),
    )
    manifest = folder / f"{name}.json"
    manifest.write_bytes(
        msgspec.json.format(msgspec.json.encode({"version": 1, "models": [entry]}), indent=1)
    )
    return Manifest.load(extra=[manifest])[name]


def build(architecture: Architecture) -> bytes:
    """Return the network as an ONNX model: ``data`` (n, 3, 112, 112) float32 -> ``template`` (n, dimension) float32.

    The weights are the same every time, and scaled so that activations neither grow nor vanish with depth, also in
    float16.
    """
    return _Builder().network(architecture)


class _Builder:
    """Collects nodes and weights; each method appends a layer and returns the name of its output."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)
        self._nodes: list[Any] = []
        self._weights: list[Any] = []

    def network(self, architecture: Architecture) -> bytes:
        from onnx import TensorProto, checker, helper

        stem = self._conv("data", 3, architecture.width, 3)
        x = self._prelu(self._norm(stem, architecture.width), architecture.width)
        channels = architecture.width
        for stage, blocks in enumerate(architecture.blocks):
            wide = architecture.width * 2**stage
            for block in range(blocks):
                x = self._block(x, channels, wide, stride=2 if block == 0 else 1)
                channels = wide
        # Four halvings: 112 -> 7.
        x = self._add("Flatten", [self._norm(x, channels)], axis=1)
        features = channels * 7 * 7
        weights = self._weight(self._rng.normal(0, features**-0.5, (architecture.dimension, features)))
        bias = self._weight(np.zeros(architecture.dimension))
        x = self._norm(self._add("Gemm", [x, weights, bias], transB=1), architecture.dimension)
        self._nodes.append(helper.make_node("Identity", [x], ["template"]))
        graph = helper.make_graph(
            self._nodes,
            "random weights, for load tests only",
            [helper.make_tensor_value_info("data", TensorProto.FLOAT, ["n", 3, 112, 112])],
            [helper.make_tensor_value_info("template", TensorProto.FLOAT, ["n", architecture.dimension])],
            self._weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        model.ir_version = 9
        checker.check_model(model)
        return bytes(model.SerializeToString(deterministic=True))

    def _block(self, x: str, channels: int, wide: int, stride: int) -> str:
        y = self._conv(self._norm(x, channels), channels, wide, 3)
        y = self._prelu(self._norm(y, wide), wide)
        # The last norm of a block is small, so that dozens of sums do not overflow float16.
        y = self._norm(self._conv(y, wide, wide, 3, stride), wide, scale=0.2)
        if stride != 1 or channels != wide:
            x = self._norm(self._conv(x, channels, wide, 1, stride), wide)
        return self._add("Add", [y, x])

    def _conv(self, x: str, channels: int, wide: int, kernel: int, stride: int = 1) -> str:
        deviation = (channels * kernel * kernel) ** -0.5
        weights = self._weight(self._rng.normal(0, deviation, (wide, channels, kernel, kernel)))
        pad = kernel // 2
        return self._add(
            "Conv",
            [x, weights],
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[pad, pad, pad, pad],
        )

    def _norm(self, x: str, channels: int, scale: float = 1.0) -> str:
        values = (
            self._rng.uniform(0.9, 1.1, channels) * scale,
            self._rng.normal(0, 0.01, channels),
            self._rng.normal(0, 0.01, channels),
            self._rng.uniform(0.9, 1.1, channels),
        )
        return self._add("BatchNormalization", [x, *(self._weight(value) for value in values)], epsilon=1e-5)

    def _prelu(self, x: str, channels: int) -> str:
        return self._add("PRelu", [x, self._weight(self._rng.uniform(0.1, 0.4, (channels, 1, 1)))])

    def _weight(self, values: NDArray[Any]) -> str:
        from onnx import numpy_helper

        name = f"w{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def _add(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        from onnx import helper

        name = f"x{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name


class Cost(NamedTuple):
    """The cost of one chip in a network."""

    #: Floating-point operations of convolutions and matrix products, a multiplication and an addition each counting
    #: as one; everything else is memory traffic and left out, as is usual.
    flops: int
    #: Numbers in the weights.
    parameters: int


def cost(model: bytes | Path) -> Cost:
    """Count the operations of an ONNX model for one chip; raises ``ValueError`` if a shape is unknown."""
    import onnx
    from onnx import shape_inference

    loaded = onnx.load_from_string(model) if isinstance(model, bytes) else onnx.load(model)
    weights = {tensor.name: tensor for tensor in loaded.graph.initializer}
    for item in loaded.graph.input:
        if item.name not in weights:
            item.type.tensor_type.shape.dim[0].dim_value = 1
    inferred = shape_inference.infer_shapes(loaded, data_prop=True).graph
    shapes: dict[str, list[int]] = {name: list(tensor.dims) for name, tensor in weights.items()}
    for item in [*inferred.input, *inferred.value_info, *inferred.output]:
        if item.name not in shapes:
            # The batch dimension may still have a name.
            shapes[item.name] = [dim.dim_value or 1 for dim in item.type.tensor_type.shape.dim]
    flops = 0
    for node in inferred.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul"):
            continue
        if not all(name in shapes for name in (*node.input[:2], node.output[0])):
            raise ValueError(f"the shapes around a {node.op_type} of the model are unknown")
        made, right = int(np.prod(shapes[node.output[0]])), shapes[node.input[1]]
        if node.op_type == "Conv":
            flops += 2 * made * int(np.prod(right[1:]))
        else:
            transposed = any(item.name == "transB" and item.i for item in node.attribute)
            flops += 2 * made * right[-1 if transposed else -2]
    parameters = sum(int(np.prod(tensor.dims)) for tensor in weights.values())
    return Cost(flops, parameters)
