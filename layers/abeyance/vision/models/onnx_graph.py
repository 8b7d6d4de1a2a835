"""Reading and editing ONNX graphs. Needs ``onnx``; not deployed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from numpy.typing import NDArray
from onnx import helper, numpy_helper


def readers_of(nodes: Iterable[Any]) -> dict[str, list[Any]]:
    """Return the nodes that read each tensor."""
    readers: dict[str, list[Any]] = {}
    for node in nodes:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    return readers


def drop_unused_constants(graph: Any) -> None:
    """Remove the constants that no node reads."""
    read = {name for node in graph.node for name in node.input}
    replace_field(graph.initializer, [constant for constant in graph.initializer if constant.name in read])


def drop_false_inputs(graph: Any) -> None:
    """Remove the inputs that are constants or that no node reads."""
    read = {name for node in graph.node for name in node.input}
    inputs = [i for i in graph.input if i.name in read - {constant.name for constant in graph.initializer}]
    replace_field(graph.input, inputs)


def drop_training(graph: Any) -> None:
    """Remove the training attributes of normalisations."""
    for node in graph.node:
        if node.op_type == "BatchNormalization":
            replace_field(node.attribute, [a for a in node.attribute if a.name == "epsilon"])


def replace_field(field: Any, values: Iterable[Any]) -> None:
    """Replace the content of a repeated field."""
    kept = list(values)
    del field[:]
    field.extend(kept)


def constants_of(graph: Any) -> dict[str, NDArray[Any]]:
    """Return the constants by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def attributes_of(node: Any) -> dict[str, Any]:
    """Return a node's attributes by name."""
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def least_ir_version(model: Any) -> int:
    """Return 10 for opset 21 and later, with which DequantizeLinear by blocks came; 0 for older ones."""
    opset = max(int(o.version) for o in model.opset_import if o.domain in ("", "ai.onnx"))
    return 10 if opset >= 21 else 0
