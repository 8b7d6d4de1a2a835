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
            mean=(127.5,) * 3, std=(127.5,) * 3, width=112, height=112, alignment="arcface-112"
        ),
        dimension=ARCHITECTURES[architecture].dimension,
        calibration=SimilarityCalibration(
            knots=((0.0, 0.0), (1.0, 100.0)), provenance="None: the weights are random."
        ),
    )
    manifest = folder / f"{name}.json"
    manifest.write_bytes(msgspec.json.encode({"version": 1, "models": [entry]}))
    return Manifest.load(extra=[manifest])[name]


class _Builder:
    """Collects nodes and weights; each method appends a layer and returns the name of its output."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def block(self, x: str, channels: int, wide: int, stride: int) -> str:
        y = self.conv(self.norm(x, channels), channels, wide, 3)
        y = self.prelu(self.norm(y, wide), wide)
        # The last norm of a block is small, so that dozens of sums do not overflow float16.
        y = self.norm(self.conv(y, wide, wide, 3, stride), wide, scale=0.2)
        if stride != 1 or channels != wide:
            x = self.norm(self.conv(x, channels, wide, 1, stride), wide)
        return self.add("Add", [y, x])

    def conv(self, x: str, channels: int, wide: int, kernel: int, stride: int = 1) -> str:
        deviation = (channels * kernel * kernel) ** -0.5
        weights = self.weight(self.rng.normal(0, deviation, (wide, channels, kernel, kernel)))
        shape = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [kernel // 2] * 4}
        return self.add("Conv", [x, weights], **shape)

    def norm(self, x: str, channels: int, scale: float = 1.0) -> str:
        values = (
            self.rng.uniform(0.9, 1.1, channels) * scale,
            self.rng.normal(0, 0.01, channels),
            self.rng.normal(0, 0.01, channels),
            self.rng.uniform(0.9, 1.1, channels),
        )
        return self.add("BatchNormalization", [x, *(self.weight(value) for value in values)], epsilon=1e-5)

    def prelu(self, x: str, channels: int) -> str:
        return self.add("PRelu", [x, self.weight(self.rng.uniform(0.1, 0.4, (channels, 1, 1)))])

    def weight(self, values: NDArray[Any]) -> str:
        from onnx import numpy_helper

        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def add(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        from onnx import helper

        name = f"x{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name


def build(architecture: Architecture) -> bytes:
    """Return the network as an ONNX model: ``data`` (n, 3, 112, 112) float32 -> ``template`` (n, dimension) float32.

    The weights are the same every time, and scaled so that activations neither grow nor vanish with depth, also in
    float16.
    """
    from onnx import TensorProto, checker, helper

    layers, width, dimension = _Builder(), architecture.width, architecture.dimension
    x = layers.prelu(layers.norm(layers.conv("data", 3, width, 3), width), width)
    channels = width
    for stage, blocks in enumerate(architecture.blocks):
        wide = width * 2**stage
        for block in range(blocks):
            x = layers.block(x, channels, wide, stride=2 if block == 0 else 1)
            channels = wide
    # Four halvings: 112 -> 7.
    x = layers.add("Flatten", [layers.norm(x, channels)], axis=1)
    features = channels * 7 * 7
    weights = layers.weight(layers.rng.normal(0, features**-0.5, (dimension, features)))
    x = layers.add("Gemm", [x, weights, layers.weight(np.zeros(dimension))], transB=1)
    layers.nodes.append(helper.make_node("Identity", [layers.norm(x, dimension)], ["template"]))
    graph = helper.make_graph(
        layers.nodes,
        "random weights, for load tests only",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, ["n", 3, 112, 112])],
        [helper.make_tensor_value_info("template", TensorProto.FLOAT, ["n", dimension])],
        layers.weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


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
