"""The graph that a GPU runs: uint8 chips in, half precision inside, float32 templates out.

A uint8 chip is a quarter of a float32 one on the way to the device, and the device casts it instead of a processor
core. Needs ``onnx``; not used on a CPU, which gains nothing by it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from abeyance.vision.errors import ModelUnusable
from abeyance.vision.models.manifest import Preprocessing

#: Operators that take and give float16 in every floating-point input and output.
# fmt: off
HALF = frozenset(
    {
        "Add", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "Constant", "Conv", "Div",
        "Dropout", "Flatten", "Gather", "Gemm", "GlobalAveragePool", "Identity", "LeakyRelu", "MatMul",
        "MaxPool", "Mul", "PRelu", "Pad", "ReduceMean", "Relu", "Reshape", "Shape", "Sigmoid", "Slice",
        "Softmax", "Squeeze", "Sub", "Transpose", "Unsqueeze",
    }
)
# fmt: on
_LARGEST = float(np.finfo(np.float16).max)


def serving_graph(model: Path | bytes, preprocessing: Preprocessing, *, half: bool) -> bytes:
    """Return a model with its preprocessing in the graph.

    Parameters
    ----------
    half
        Compute in float16.

    Returns
    -------
    bytes
        An ONNX model: ``chips`` (n, 112, 112, 3) uint8 RGB -> (n, d) float32, not normalised.

    Raises
    ------
    ModelUnusable
        If ``half`` is asked for and an operator or a weight does not allow it, or ``onnx`` is not installed.
    """
    try:
        import onnx
        from onnx import TensorProto, helper
    except ImportError as error:
        raise ModelUnusable(
            "a GPU's graph is made with the package onnx; install it with: pip install onnx"
        ) from error

    loaded = onnx.load_from_string(model) if isinstance(model, bytes) else onnx.load(model)
    graph = loaded.graph
    weights = {tensor.name for tensor in graph.initializer}
    (given,) = [item for item in graph.input if item.name not in weights]
    (made,) = graph.output
    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    if half:
        _halve(graph)
    nodes, constants = _preprocessing(preprocessing, given.name, kind)
    templates = f"{made.name}/float32"
    nodes += [*graph.node, helper.make_node("Cast", [made.name], [templates], to=TensorProto.FLOAT)]
    # Some published embedders take exactly one chip.
    count = given.type.tensor_type.shape.dim[0].dim_value or "n"
    dimension = made.type.tensor_type.shape.dim[-1].dim_value or None
    served = helper.make_graph(
        nodes,
        "embedder",
        [helper.make_tensor_value_info("chips", TensorProto.UINT8, [count, 112, 112, 3])],
        [helper.make_tensor_value_info(templates, TensorProto.FLOAT, [count, dimension])],
        [*graph.initializer, *constants],
    )
    answer = helper.make_model(served, opset_imports=loaded.opset_import)
    answer.ir_version = loaded.ir_version
    return bytes(answer.SerializeToString())


def _preprocessing(how: Preprocessing, target: str, kind: int) -> tuple[list[Any], list[Any]]:
    """Return nodes from ``chips`` to the model's own input ``target``, and their constants."""
    from onnx import helper, numpy_helper

    dtype = helper.tensor_dtype_to_np_dtype(kind)
    constants: list[Any] = []
    steps: list[tuple[str, list[str], dict[str, Any]]] = []
    if how.colour == "BGR":
        constants.append(numpy_helper.from_array(np.array([2, 1, 0], np.int64), "channels"))
        steps.append(("Gather", ["channels"], {"axis": 3}))
    steps.append(("Cast", [], {"to": kind}))
    if any(how.mean):
        constants.append(numpy_helper.from_array(np.array(how.mean, dtype), "mean"))
        steps.append(("Sub", ["mean"], {}))
    if any(value != 1 for value in how.std):
        constants.append(numpy_helper.from_array((1 / np.array(how.std)).astype(dtype), "factor"))
        steps.append(("Mul", ["factor"], {}))
    if how.layout == "NCHW":
        steps.append(("Transpose", [], {"perm": [0, 3, 1, 2]}))
    names = ["chips", *(f"chips_{number}" for number in range(len(steps) - 1)), target]
    nodes = [
        helper.make_node(operator, [given, *inputs], [made], **attributes)
        for (operator, inputs, attributes), given, made in zip(steps, names, names[1:], strict=False)
    ]
    return nodes, constants


def _halve(graph: Any) -> None:
    """Make every float32 constant float16, and every cast to float32 a cast to float16."""
    from onnx import TensorProto, helper, numpy_helper

    unknown = {node.op_type for node in graph.node} - HALF
    if unknown:
        raise ModelUnusable(
            f"the model has operators that may not work in fp16: {', '.join(sorted(unknown))}"
        )
    for tensor in graph.initializer:
        _halve_tensor(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
            elif node.op_type == "Constant" and attribute.name == "value":
                _halve_tensor(attribute.t)
            elif node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
                values = np.array(helper.get_attribute_value(attribute), np.float16)
                attribute.CopyFrom(helper.make_attribute("value", numpy_helper.from_array(values)))


def _halve_tensor(tensor: Any) -> None:
    from onnx import TensorProto, numpy_helper

    if tensor.data_type != TensorProto.FLOAT:
        return
    values = numpy_helper.to_array(tensor)
    if values.size and float(np.abs(values).max()) > _LARGEST:
        raise ModelUnusable(
            "a weight of the model is too large for fp16; serve it with ABEYANCE_EMBEDDER_PRECISION=fp32"
        )
    tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), tensor.name))
