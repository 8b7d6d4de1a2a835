"""The published model file to the one that runs. Needs ``onnx``; not deployed.

Every conversion is exact arithmetic on the weights, and every result is run beside the original on random input before
it is accepted, so nothing depends on the bytes that a version of ``onnx`` writes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from abeyance.vision.errors import ModelUnusable
from abeyance.vision.models import tfjs
from abeyance.vision.models.manifest import ModelEntry, Preprocessing
from abeyance.vision.models.onnx_graph import (
    attributes_of,
    constants_of,
    drop_false_inputs,
    drop_training,
    drop_unused_constants,
    least_ir_version,
    readers_of,
    replace_field,
)
from abeyance.vision.models.template_map import TemplateMap

#: Largest difference between original and converted model that is accepted, relative to the largest output.
TOLERANCE = 1e-4
#: Least distance of a slope from 1 at which 1 - slope may divide.
_LEAST_REST = 1e-3
#: Side of the random image for a model that takes any size.
_FREE_SIDE_PX = 64


def convert(entry: ModelEntry, published: bytes, also: Sequence[bytes] = ()) -> tuple[bytes, float]:
    """Convert the published file of ``entry``, with its further files, and check the result.

    Returns
    -------
    tuple of bytes and float
        The file to run, and the largest absolute difference between the outputs of the original and the converted
        model, relative to the largest absolute output. A model that is not published as ONNX is compared with its own
        unoptimised graph.

    Raises
    ------
    ModelUnusable
        If the file is not a model that this conversion is for, or the outputs differ by more than :data:`TOLERANCE`.
    """
    name, version = entry.conversion.name, entry.conversion.version
    if version != _VERSION:
        raise ModelUnusable(
            f"{entry.name} asks for version {version} of the conversion {name}, this is version {_VERSION}; use the "
            "manifest that came with this release"
        )
    try:
        if read := _GRAPHS.get(name):
            converted = tfjs.write_onnx(read(published, *also))
        else:
            converted = _CONVERSIONS[name](onnx.load_from_string(published))
        onnx.checker.check_model(converted)
        written: bytes = converted.SerializeToString(deterministic=True)
        original = written if read else _runnable(onnx.load_from_string(published))
        # Outputs of graphs are shares or pixels: those below 1 are compared as they are.
        difference = _difference(original, written, entry.preprocessing, least=1.0 if read else 1e-12)
    except Exception as error:
        # onnx and ONNX Runtime raise many types without a common base for a file that the conversion is not for.
        raise ModelUnusable(f"{entry.name} cannot be converted by {name}: {error}") from error
    if not difference <= TOLERANCE:
        raise ModelUnusable(
            f"{entry.name} as converted differs from the original by {difference:.2g} of the largest output "
            f"(at most {TOLERANCE:g}); it was not kept. Please report this with the versions of onnx and "
            "onnxruntime"
        )
    return written, difference


def append_map(model: bytes, fitted: TemplateMap) -> bytes:
    """Append a map of templates to a converted embedder: unit length, then one matrix product.

    Raises
    ------
    ModelUnusable
        If the model's templates have another length than the map's.
    """
    loaded = onnx.load_from_string(model)
    graph = loaded.graph
    (output,) = graph.output
    matrix, shift = fitted.affine()
    size = output.type.tensor_type.shape.dim[1].dim_value
    if size != len(matrix):
        raise ModelUnusable(f"a map for templates of {len(matrix)} numbers cannot follow {size} numbers")
    raw, unit = f"{output.name}/raw", f"{output.name}/unit"
    for node in graph.node:
        replace_field(node.output, [raw if name == output.name else name for name in node.output])
    graph.initializer.extend(
        numpy_helper.from_array(values, name) for name, values in (("map", matrix), ("map/shift", shift))
    )
    graph.node.extend(
        [
            helper.make_node("LpNormalization", [raw], [unit], axis=1, p=2),
            helper.make_node("Gemm", [unit, "map", "map/shift"], [output.name]),
        ]
    )
    onnx.checker.check_model(loaded)
    return bytes(loaded.SerializeToString(deterministic=True))


def _difference(original: bytes, converted: bytes, preprocessing: Preprocessing, least: float) -> float:
    """Return the largest difference of all outputs on two random images; the original is not optimised.

    It is relative to the largest absolute value of the output, or to ``least`` if that is more.
    """
    from abeyance.vision.session import open_session

    reference = open_session(original, optimise=False)
    candidate = open_session(converted)
    (given,) = reference.get_inputs()
    _, channels, *sides = given.shape
    shape = (1, channels, *(side if isinstance(side, int) else _FREE_SIDE_PX for side in sides))
    worst = 0.0
    for seed in range(2):
        pixels = np.random.default_rng(seed).uniform(0, 255, shape)
        mean, std = (np.reshape(values, (3, 1, 1)) for values in (preprocessing.mean, preprocessing.std))
        images = ((pixels - mean) / std).astype(np.float32)
        want = reference.run(None, {given.name: images})
        have = candidate.run(None, {candidate.get_inputs()[0].name: images})
        for a, b in zip(want, have, strict=True):
            if a.shape != b.shape:
                return float("inf")
            worst = max(worst, float(np.abs(a - b).max() / max(float(np.abs(a).max()), least)))
    return worst


def _runnable(model: Any) -> bytes:
    """Return the original in a form that ONNX Runtime accepts, its arithmetic unchanged.

    SFace declares its weights as inputs of the graph, and carries training attributes.
    """
    drop_false_inputs(model.graph)
    drop_training(model.graph)
    model.ir_version = max(model.ir_version, least_ir_version(model))
    return bytes(model.SerializeToString())


def _yunet_dynamic(model: Any) -> Any:
    """Let height and width be any multiple of 32, and compute the heads of a level as one."""
    graph = model.graph
    for dimension, name in zip(
        graph.input[0].type.tensor_type.shape.dim[2:], ("height", "width"), strict=True
    ):
        dimension.ClearField("dim_value")
        dimension.dim_param = name
    for output in graph.output:
        output.type.tensor_type.shape.dim[1].ClearField("dim_value")
        output.type.tensor_type.shape.dim[1].dim_param = "cells_" + output.name.rsplit("_", 1)[1]
    # The shapes in between are those of 640 x 640.
    del graph.value_info[:]
    _join_heads(model)
    return model


def _join_heads(model: Any) -> None:
    """Join pairs of a convolution and a depthwise one that read the same tensor into one pair and a split.

    YuNet has four such heads at every level, of 1, 1, 4 and 10 channels: each fills a vector register of sixteen on
    its own, and together they do as well.
    """
    graph = model.graph
    constants = constants_of(graph)
    readers = readers_of(graph.node)
    heads: dict[str, list[tuple[Any, Any]]] = {}
    for node in graph.node:
        following = readers.get(node.output[0], [])
        if node.op_type == "Conv" and len(following) == 1 and following[0].op_type == "Conv":
            into = readers.get(following[0].output[0], [])
            if into and into[0].op_type == "Transpose":
                heads.setdefault(node.input[0], []).append((node, following[0]))
    joined = {id(node) for pairs in heads.values() for pair in pairs for node in pair}
    nodes = []
    for node in graph.node:
        if id(node) not in joined:
            nodes.append(node)
            continue
        pairs = heads.get(node.input[0], [])
        if not pairs or node is not pairs[0][0]:
            continue
        source, sizes = node.input[0], [constants[first.input[1]].shape[0] for first, _ in pairs]
        for number, layer in enumerate(zip(*pairs, strict=True)):
            attributes = attributes_of(layer[0]) | ({"group": sum(sizes)} if number else {})
            names = [source if number == 0 else f"{source}/head0"]
            for position, kind in ((1, "weight"), (2, "bias")):
                names.append(f"{source}/head{number}/{kind}")
                values = np.concatenate([constants[node.input[position]] for node in layer])
                graph.initializer.append(numpy_helper.from_array(values, names[-1]))
            nodes.append(helper.make_node("Conv", names, [f"{source}/head{number}"], **attributes))
        outputs = [last.output[0] for _, last in pairs]
        nodes.append(helper.make_node("Split", [f"{source}/head1"], outputs, axis=1, split=sizes))
    replace_field(graph.node, nodes)
    drop_unused_constants(graph)


def decompressed(published: bytes) -> bytes:
    """Return the published SFace with float32 weights and no other change, which other tools can run."""
    model = onnx.load_from_string(published)
    return bytes(_assembled(model, *_float_weights(model)).SerializeToString(deterministic=True))


def _sface_fold(model: Any) -> Any:
    """Turn block-wise int8 weights into float32 constants, and write the rest so that it runs fast."""
    nodes, constants = _float_weights(model)
    return _rebuild(model, _folded(nodes, constants), constants)


def _float_weights(model: Any) -> tuple[list[Any], dict[str, NDArray[Any]]]:
    """Return the nodes that remain when every constant is computed, and the constants."""
    graph = model.graph
    constants = constants_of(graph)
    alias: dict[str, str] = {}
    kept = []
    drop_training(graph)
    for node in graph.node:
        inputs = [alias.get(name, name) for name in node.input]
        attributes = attributes_of(node)
        known = [constants[name] for name in inputs if name in constants]
        constant = len(known) == len(inputs)
        if node.op_type == "Constant":
            constants[node.output[0]] = numpy_helper.to_array(attributes["value"])
        elif node.op_type == "Dropout":
            alias[node.output[0]] = inputs[0]
        elif node.op_type == "DequantizeLinear" and constant:
            constants[node.output[0]] = _dequantise(known, attributes["axis"], attributes["block_size"])
        elif node.op_type == "Reshape" and constant:
            constants[node.output[0]] = known[0].reshape(known[1])
        else:
            replace_field(node.input, inputs)
            kept.append(node)
    return kept, constants


def _prelu(model: Any) -> Any:
    """Write PRelu faster, for embedders that are float32 already."""
    return _rebuild(model, list(model.graph.node), constants_of(model.graph))


def _dequantise(inputs: list[NDArray[Any]], axis: int, block_size: int) -> NDArray[np.float32]:
    """Return ``(q - zero) * scale`` with one scale and zero point per ``block_size`` values along ``axis``."""
    values, scale, zero = inputs

    def spread(per_block: NDArray[Any]) -> NDArray[Any]:
        repeated = np.repeat(per_block, block_size, axis) if block_size else per_block
        return np.take(repeated, np.arange(values.shape[axis]), axis)

    difference = values.astype(np.int32) - spread(zero).astype(np.int32)
    return difference.astype(np.float32) * spread(scale).astype(np.float32)


def _folded(nodes: Sequence[Any], constants: dict[str, NDArray[Any]]) -> list[Any]:
    """Fold the normalisations that directly follow a convolution into its weights and bias."""
    readers, kept, gone = readers_of(nodes), [], set()
    for node in nodes:
        following = readers.get(node.output[0], [])
        if id(node) in gone:
            continue
        if node.op_type != "Conv" or len(following) != 1 or following[0].op_type != "BatchNormalization":
            kept.append(node)
            continue
        norm, weights = following[0], constants[node.input[1]]
        gamma, beta, mean, variance = (constants[name].astype(np.float64) for name in norm.input[1:5])
        factor = gamma / np.sqrt(variance + attributes_of(norm).get("epsilon", 1e-5))
        bias = constants[node.input[2]] if len(node.input) > 2 else 0.0
        y = norm.output[0]
        constants[f"{y}/weight"] = (weights * factor.reshape(-1, 1, 1, 1)).astype(np.float32)
        constants[f"{y}/bias"] = ((bias - mean) * factor + beta).astype(np.float32)
        names = [node.input[0], f"{y}/weight", f"{y}/bias"]
        kept.append(helper.make_node("Conv", names, [y], **attributes_of(node)))
        gone.add(id(norm))
    return kept


def _without_prelu(nodes: Sequence[Any], constants: dict[str, NDArray[Any]]) -> list[Any]:
    """Write PRelu with operations for which ONNX Runtime has fast code.

    PRelu(x) is s * x + (1 - s) * relu(x). Not max(x, s * x): some slopes exceed 1. Where only convolutions read it, it
    becomes k * x + relu(x), with k = s / (1 - s), and their weights are multiplied by 1 - s. Where x comes from a
    depthwise convolution, which costs no more than to multiply by k, that is done a second time, with k in its weights.
    """
    readers = readers_of(nodes)
    written = {node.output[0]: node for node in nodes}
    # Multiplied onto the weights of the convolutions that read the tensor.
    factors: dict[str, NDArray[np.float64]] = {}
    kept: list[Any] = []
    for node in nodes:
        if node.op_type == "Conv" and node.input[0] in factors:
            factor = factors[node.input[0]]
            name = f"{node.output[0]}/scaled"
            depthwise = attributes_of(node).get("group", 1) > 1
            shape = (-1, 1, 1, 1) if depthwise else (1, -1, 1, 1)
            constants[name] = (constants[node.input[1]] * factor.reshape(shape)).astype(np.float32)
            node.input[1] = name
        slope = constants.get(node.input[1]) if node.op_type == "PRelu" else None
        if slope is None:
            kept.append(node)
            continue
        x, y = node.input[0], node.output[0]
        s = slope.astype(np.float64)
        rest, source, following = 1.0 - s, written.get(x), readers.get(y, [])
        kept.append(helper.make_node("Relu", [x], [f"{y}/relu"]))
        if not _absorbed(following, s) or np.abs(rest).min() < _LEAST_REST:
            constants[f"{y}/slope"], constants[f"{y}/rest"] = slope, rest.astype(np.float32)
            kept += [
                helper.make_node("Mul", [f"{y}/relu", f"{y}/rest"], [f"{y}/up"]),
                helper.make_node("Mul", [x, f"{y}/slope"], [f"{y}/all"]),
                helper.make_node("Add", [f"{y}/all", f"{y}/up"], [y]),
            ]
            continue
        factors[y] = rest.ravel()
        k = s / rest
        if source is not None and _depthwise(source, constants) and len(source.input) > 2:
            names = [source.input[0], f"{y}/weight", f"{y}/bias"]
            constants[names[1]] = (constants[source.input[1]] * k.reshape(-1, 1, 1, 1)).astype(np.float32)
            constants[names[2]] = (constants[source.input[2]] * k.ravel()).astype(np.float32)
            kept.append(helper.make_node("Conv", names, [f"{y}/all"], **attributes_of(source)))
        else:
            constants[f"{y}/k"] = k.astype(np.float32)
            kept.append(helper.make_node("Mul", [x, f"{y}/k"], [f"{y}/all"]))
        kept.append(helper.make_node("Add", [f"{y}/all", f"{y}/relu"], [y]))
    return kept


def _absorbed(following: Sequence[Any], slope: NDArray[Any]) -> bool:
    """Return whether a factor of each channel can go into the weights of everything that reads the tensor."""
    if not following or slope.ndim != 3 or slope.shape[1:] != (1, 1):
        return False
    groups = [attributes_of(reader).get("group", 1) for reader in following if reader.op_type == "Conv"]
    return len(groups) == len(following) and set(groups) <= {1, slope.shape[0]}


def _depthwise(node: Any, constants: dict[str, NDArray[Any]]) -> bool:
    if node.op_type != "Conv":
        return False
    group = attributes_of(node).get("group", 1)
    return bool(group > 1 and constants[node.input[1]].shape[:2] == (group, 1))


def _rebuild(model: Any, nodes: Sequence[Any], constants: dict[str, NDArray[Any]]) -> Any:
    return _assembled(model, _without_prelu(nodes, constants), constants)


def _assembled(model: Any, nodes: Sequence[Any], constants: dict[str, NDArray[Any]]) -> Any:
    """Return a model of ``nodes`` with only the constants in use, and a free batch dimension."""
    graph = model.graph
    drop_false_inputs(graph)
    used = {name for node in nodes for name in node.input}
    for value in (graph.input[0], graph.output[0]):
        value.type.tensor_type.shape.dim[0].ClearField("dim_value")
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    return tfjs.onnx_model(
        *(nodes, graph.name or "model", [graph.input[0]], list(graph.output)),
        {name: constants[name] for name in used & constants.keys()},
        opset_imports=list(model.opset_import),
        ir_version=max(tfjs.IR_VERSION, least_ir_version(model)),
    )


#: Version of every conversion.
_VERSION = 1

#: Conversions of models that are published as ONNX.
_CONVERSIONS: dict[str, Callable[[Any], Any]] = {
    "yunet-dynamic": _yunet_dynamic,
    "sface-fold": _sface_fold,
    "prelu": _prelu,
}

#: Readers of models that are not: from the file and its further files.
_GRAPHS: dict[str, Callable[..., tfjs.Graph]] = {
    "tfjs-mesh": lambda weights, graph: tfjs.read_graph(graph, weights, ("output_contours",)),
    "tfjs-iris": lambda weights, graph: tfjs.read_graph(graph, weights),
    "tfjs-age-gender": lambda weights, names: tfjs.age_gender_graph(names, weights),
    "tfjs-expression": lambda weights, names: tfjs.expression_graph(names, weights),
}
