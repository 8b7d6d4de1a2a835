"""TensorFlow.js models to ONNX, with the operations that our models use. Needs ``onnx``; not deployed.

A graph is read into plain nodes and written as ONNX, channels first. The tests compare the result with a reference in
NumPy, channels last as TensorFlow has it, which shares no arithmetic with it.

Sources: the tfjs-converter's model.json (weights manifest, quantisation) and TensorFlow's op definitions, in
particular its SAME padding, which pads more at the end where the padding is odd.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, shape_inference

from abeyance.encoding import decode_base64
from abeyance.vision.errors import ModelUnusable

Array = NDArray[Any]

#: The ONNX IR version for all opsets of our models, which ONNX Runtime 1.17 and later reads.
IR_VERSION = 9
_OPSET = 17


@dataclass(frozen=True, slots=True)
class Node:
    """An operation; inputs are names of nodes, weights or the graph's input."""

    op: str
    name: str
    inputs: tuple[str, ...]
    #: (height, width) each; 1 where they mean nothing.
    strides: tuple[int, int] = (1, 1)
    kernel: tuple[int, int] = (1, 1)
    same: bool = False


@dataclass(frozen=True, slots=True)
class Graph:
    """A graph, its nodes in an order in which they can be computed. Pictures are (n, height, width, channels)."""

    input: str
    #: height, width, channels
    shape: tuple[int, int, int]
    nodes: tuple[Node, ...]
    weights: Mapping[str, Array]
    #: name of the output -> name of the node
    outputs: Mapping[str, str] = field(default_factory=dict)


def read_weights(manifest: Sequence[Mapping[str, Any]], content: bytes) -> dict[str, Array]:
    """Return the weights of a weights manifest; quantised ones are ``q * scale + min`` as float32.

    Raises
    ------
    ModelUnusable
        If the file is shorter or longer than its manifest says, or stored in another way.
    """
    weights: dict[str, Array] = {}
    place = 0
    for entry in (weight for group in manifest for weight in group["weights"]):
        quantised = entry.get("quantization")
        stored = np.dtype(quantised["dtype"] if quantised else entry["dtype"])
        if stored not in (np.uint8, np.uint16, np.float16, np.float32, np.int32):
            raise ModelUnusable(f"weights stored as {stored} are not supported")
        count = int(np.prod(entry["shape"], dtype=np.int64))
        if place + count * stored.itemsize > len(content):
            raise ModelUnusable("the file of weights is shorter than its manifest says")
        values: Array = np.frombuffer(content, stored.newbyteorder("<"), count, place)
        place += count * stored.itemsize
        if quantised and "scale" in quantised:
            values = values * np.float32(quantised["scale"]) + np.float32(quantised["min"])
        kept = np.int64 if entry["dtype"] == "int32" else np.float32
        weights[entry["name"]] = values.astype(kept).reshape(entry["shape"])
    if place != len(content):
        raise ModelUnusable("the file of weights is longer than its manifest says")
    return weights


def read_graph(topology: bytes, content: bytes, dropped: Iterable[str] = ()) -> Graph:
    """Read a tfjs graph model; ``dropped`` outputs, and the nodes that only they need, are left out."""
    document = json.loads(topology)
    weights = read_weights(document["weightsManifest"], content)
    signature = document.get("signature") or document["userDefinedMetadata"]["signature"]
    every = {node["name"]: node for node in document["modelTopology"]["node"]}
    placeholder = next(node for node in every.values() if node["op"] == "Placeholder")
    height, width, channels = (int(size["size"]) for size in placeholder["attr"]["shape"]["shape"]["dim"][1:])
    outputs = {
        name.partition(":")[0]: output["name"].partition(":")[0]
        for name, output in signature["outputs"].items()
        if name not in dropped
    }
    order: dict[str, Node] = {}

    def visit(name: str) -> None:
        if name in order or name in weights or name == placeholder["name"]:
            return
        node = every[name]
        inputs = tuple(i.partition(":")[0] for i in node.get("input", ()) if not i.startswith("^"))
        for i in inputs:
            visit(i)
        order[name] = _node(node, inputs)

    for name in outputs.values():
        visit(name)
    return Graph(placeholder["name"], (height, width, channels), tuple(order.values()), weights, outputs)


def _node(node: Mapping[str, Any], inputs: tuple[str, ...]) -> Node:
    attributes = node.get("attr", {})

    def pair(key: str) -> tuple[int, int]:
        values = attributes.get(key, {}).get("list", {}).get("i") or [1, 1, 1, 1]
        return int(values[1]), int(values[2])

    def text(value: Mapping[str, Any]) -> str:
        return decode_base64(value.get("s", "")).decode()

    if text(attributes.get("data_format", {})) not in ("", "NHWC") or pair("dilations") != (1, 1):
        raise ModelUnusable(f"{node['op']} with channels first or dilation is not supported")
    op = node["op"]
    if op == "_FusedConv2D":
        fused = attributes["fused_ops"]["list"]["s"]
        op = "+".join(["Conv2D", *(decode_base64(name).decode() for name in fused)])
    op = {"AddV2": "Add"}.get(op, op)
    if op not in _WRITERS:
        raise ModelUnusable(f"the operation {op} is not supported")
    same = text(attributes.get("padding", {})) == "SAME"
    return Node(op, node["name"], inputs, pair("strides"), pair("ksize"), same)


class _Builder:
    """Nodes of a network that face-api publishes as weights only, one after the other."""

    def __init__(self, manifest: bytes, content: bytes) -> None:
        self.weights = read_weights(json.loads(manifest), content)
        self.nodes: list[Node] = []

    def add(
        self, op: str, name: str, *inputs: str, stride: int = 1, kernel: int = 1, same: bool = False
    ) -> str:
        """Add a node, and return its name."""
        self.nodes.append(Node(op, name, inputs, (stride, stride), (kernel, kernel), same))
        return name

    def convolution(self, x: str, name: str, stride: int = 1) -> str:
        """Add a convolution, or a depth-wise separable one, as the names of the weights say."""
        if f"{name}/filters" in self.weights:
            inputs = (x, f"{name}/filters", f"{name}/bias")
            return self.add("Conv2D+BiasAdd", name, *inputs, stride=stride, same=True)
        filters = f"{name}/depthwise_filter"
        deep = self.add("DepthwiseConv2dNative", f"{name}/deep", x, filters, stride=stride, same=True)
        return self.add("Conv2D+BiasAdd", name, deep, f"{name}/pointwise_filter", f"{name}/bias")

    def relu(self, x: str) -> str:
        """Add a rectifier."""
        return self.add("Relu", f"{x}/relu", x)

    def graph(self, **outputs: str) -> Graph:
        """Return the graph from a picture of 112 pixels to the outputs."""
        return Graph("image", (112, 112, 3), tuple(self.nodes), self.weights, outputs)


def expression_graph(manifest: bytes, content: bytes) -> Graph:
    """Return the graph of face-api's expression network, which is published as weights only.

    Four dense blocks of four convolutions each: all depth-wise separable but the first one of all, stride 2 at
    the head of a block, every convolution fed with the rectified sum of those before it in its block.
    """
    net = _Builder(manifest, content)
    x = "image"
    for block in range(4):
        head = f"dense{block}"
        # The first convolution is rectified before it is summed, the others are not.
        x = total = net.relu(net.convolution(x, f"{head}/conv0", 2))
        for step in range(1, 4):
            total = net.add("Add", f"{head}/sum{step}", total, net.convolution(x, f"{head}/conv{step}"))
            x = net.relu(total)
    pooled = net.add("AvgPool", "pool", x, stride=2, kernel=7)
    net.weights["flat"] = np.array([-1, net.weights["fc/weights"].shape[0]])
    flat = net.add("Reshape", "flatten", pooled, "flat")
    last = net.add("MatMul+BiasAdd", "logits", flat, "fc/weights", "fc/bias")
    return net.graph(probabilities=net.add("Softmax", "softmax", last))


def age_gender_graph(manifest: bytes, content: bytes) -> Graph:
    """Return the graph of face-api's network for age and gender, which is published as weights only.

    A small Xception (Chollet 2017): blocks of separable convolutions, each with a way around it, whose inputs are
    rectified. The outputs are the age in years, (n, 1), and the shares of male and female, (n, 2).
    """
    net = _Builder(manifest, content)

    def halved(x: str, block: str, rectified: str) -> str:
        y = net.convolution(rectified, f"{block}/separable_conv0")
        y = net.convolution(net.relu(y), f"{block}/separable_conv1")
        y = net.add("MaxPool", f"{block}/pool", y, stride=2, kernel=3, same=True)
        return net.add("Add", f"{block}/sum", y, net.convolution(x, f"{block}/expansion_conv", 2))

    x = net.relu(net.convolution("image", "entry_flow/conv_in", 2))
    x = halved(x, "entry_flow/reduction_block_0", x)
    x = halved(x, "entry_flow/reduction_block_1", net.relu(x))
    for number in range(2):
        y = x
        for step in range(3):
            y = net.convolution(net.relu(y), f"middle_flow/main_block_{number}/separable_conv{step}")
        x = net.add("Add", f"middle_flow/main_block_{number}/sum", y, x)
    x = halved(x, "exit_flow/reduction_block", net.relu(x))
    x = net.relu(net.convolution(x, "exit_flow/separable_conv"))
    net.weights["height and width"] = np.array([1, 2])
    x = net.add("Mean", "pool", x, "height and width")
    age = net.add("MatMul+BiasAdd", "age", x, "fc/age/weights", "fc/age/bias")
    gender = net.add("MatMul+BiasAdd", "gender", x, "fc/gender/weights", "fc/gender/bias")
    return net.graph(years=age, shares=net.add("Softmax", "softmax", gender))


class _Writer:
    """The ONNX nodes and constants of a graph."""

    def __init__(self, graph: Graph) -> None:
        self.weights = graph.weights
        self.nodes: list[Any] = []
        self.constants: dict[str, Array] = {}

    def add(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, list(inputs), [output], **attributes))
        return output

    def constant(self, name: str, values: Array) -> str:
        self.constants[name] = np.ascontiguousarray(values)
        return name


def _write_conv(w: _Writer, node: Node, *, deep: bool = False) -> None:
    _, *fused = node.op.split("+")
    filters = w.weights[node.inputs[1]]
    height, width, channels, per_channel = filters.shape
    if deep:
        # TensorFlow keeps the outputs of one channel together, as ONNX does with its groups.
        kernel = filters.transpose(2, 3, 0, 1).reshape(channels * per_channel, 1, height, width)
    else:
        kernel = filters.transpose(3, 2, 0, 1)
    inputs = [node.inputs[0], w.constant(f"{node.name}/kernel", kernel)]
    extra = list(node.inputs[2:])
    if "BiasAdd" in fused:
        inputs.append(w.constant(f"{node.name}/bias", w.weights[extra.pop(0)].ravel()))
    steps = [step for step in fused if step != "BiasAdd"]
    target = f"{node.name}/conv" if steps else node.name
    group = channels if deep else 1
    w.add("Conv", inputs, target, kernel_shape=[height, width], group=group, **_window(node))
    if steps == ["Prelu"]:
        _write_slope(w, target, w.weights[extra[0]], node.name)
    elif steps:
        w.add("Relu", [target], node.name)


def _write_slope(w: _Writer, x: str, slope: Array, y: str) -> None:
    """Write ``s * x + (1 - s) * relu(x)``: several times faster in ONNX Runtime than its PRelu."""
    by_channel = slope.reshape(-1, 1, 1)
    w.add("Relu", [x], f"{y}/positive")
    w.add("Mul", [x, w.constant(f"{y}/slope", by_channel)], f"{y}/all")
    w.add("Mul", [f"{y}/positive", w.constant(f"{y}/rest", 1 - by_channel)], f"{y}/more")
    w.add("Add", [f"{y}/all", f"{y}/more"], y)


def _write_pool(w: _Writer, node: Node, op: str) -> None:
    w.add(op, node.inputs, node.name, kernel_shape=list(node.kernel), **_window(node))


def _window(node: Node) -> dict[str, Any]:
    return {"strides": list(node.strides), "auto_pad": "SAME_UPPER" if node.same else "VALID"}


def _write_pad(w: _Writer, node: Node) -> None:
    pads = w.weights[node.inputs[1]][[0, 3, 1, 2]]
    w.add("Pad", [node.inputs[0], w.constant(f"{node.name}/pads", pads.T.ravel())], node.name)


def _write_reshape(w: _Writer, node: Node) -> None:
    # The order of values is that of channels last.
    last = w.add("Transpose", [node.inputs[0]], f"{node.name}/last", perm=[0, 2, 3, 1])
    w.add("Reshape", [last, w.constant(f"{node.name}/shape", w.weights[node.inputs[1]])], node.name)


def _write_concat(w: _Writer, node: Node) -> None:
    if int(w.weights[node.inputs[-1]]) not in (3, -1):
        raise ModelUnusable("only channels can be joined")
    w.add("Concat", node.inputs[:-1], node.name, axis=1)


def _write_mean(w: _Writer, node: Node) -> None:
    if sorted(w.weights[node.inputs[1]].ravel()) != [1, 2]:
        raise ModelUnusable("only the mean over height and width is supported")
    w.add("ReduceMean", [node.inputs[0]], node.name, axes=[2, 3], keepdims=0)


def _write_gemm(w: _Writer, node: Node) -> None:
    constants = [w.constant(name, w.weights[name]) for name in node.inputs[1:]]
    w.add("Gemm", [node.inputs[0], *constants], node.name)


def _plain(op: str, **attributes: Any) -> Callable[[_Writer, Node], None]:
    def write(w: _Writer, node: Node) -> None:
        w.add(op, node.inputs, node.name, **attributes)

    return write


_WRITERS: dict[str, Callable[[_Writer, Node], None]] = {
    "Conv2D": _write_conv,
    "Conv2D+BiasAdd": _write_conv,
    "Conv2D+BiasAdd+Relu": _write_conv,
    "Conv2D+BiasAdd+Prelu": _write_conv,
    "DepthwiseConv2dNative": lambda w, node: _write_conv(w, node, deep=True),
    "MatMul+BiasAdd": _write_gemm,
    **{op: _plain(op) for op in ("Add", "Relu", "Sigmoid", "Identity")},
    "Prelu": lambda w, node: _write_slope(w, node.inputs[0], w.weights[node.inputs[1]], node.name),
    "Softmax": _plain("Softmax", axis=-1),
    "MaxPool": lambda w, node: _write_pool(w, node, "MaxPool"),
    "AvgPool": lambda w, node: _write_pool(w, node, "AveragePool"),
    "Mean": _write_mean,
    "Pad": _write_pad,
    "ConcatV2": _write_concat,
    "Reshape": _write_reshape,
}


def write_onnx(graph: Graph) -> Any:
    """Return the graph as an ONNX model: one input (n, channels, height, width) float32 named ``image``.

    Outputs have the names of :attr:`Graph.outputs`, and channels first where they are pictures.
    """
    writer = _Writer(graph)
    if graph.input != "image":
        writer.add("Identity", ["image"], graph.input)
    for node in graph.nodes:
        _WRITERS[node.op](writer, node)
    for name, node_name in graph.outputs.items():
        if name != node_name:
            writer.add("Identity", [node_name], name)
    height, width, channels = graph.shape
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", channels, height, width])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in graph.outputs]
    opsets = [helper.make_opsetid("", _OPSET)]
    model = onnx_model(writer.nodes, "model", [image], outputs, writer.constants, opset_imports=opsets)
    inferred = shape_inference.infer_shapes(model, strict_mode=True).graph.output
    for output, full in zip(model.graph.output, inferred, strict=True):
        sizes = [dimension.dim_value for dimension in full.type.tensor_type.shape.dim[1:]]
        output.CopyFrom(helper.make_tensor_value_info(output.name, TensorProto.FLOAT, ["n", *sizes]))
    return model


def onnx_model(
    nodes: Sequence[Any],
    name: str,
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    constants: Mapping[str, Array],
    *,
    opset_imports: Sequence[Any],
    ir_version: int = IR_VERSION,
) -> Any:
    """Return an ONNX model of nodes, with the constants sorted by name."""
    tensors = [numpy_helper.from_array(values, constant) for constant, values in sorted(constants.items())]
    return helper.make_model(
        helper.make_graph(nodes, name, inputs, outputs, tensors),
        opset_imports=opset_imports,
        ir_version=ir_version,
        producer_name="abeyance",
    )
