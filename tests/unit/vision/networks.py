"""Small networks of the shapes that published models have."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from abeyance.vision.models.manifest import (
    Licence,
    ModelEntry,
    ModelRole,
    Preprocessing,
    SimilarityCalibration,
)


def arcface_like(
    folder: Path, *, batch: str | int = "n", slope: float = 0.25, name: str = "arcface.onnx"
) -> tuple[Path, NDArray[np.float32]]:
    """A file that takes (batch, 3, 112, 112) and gives (batch, 512), with a PRelu; and its (48, 512) weights."""
    weights = np.random.default_rng(7).normal(size=(48, 512)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("AveragePool", ["data"], ["pooled"], kernel_shape=[28, 28], strides=[28, 28]),
            helper.make_node("PRelu", ["pooled", "slope"], ["bent"]),
            helper.make_node("Flatten", ["bent"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weights"], ["template"]),
        ],
        "arcface-like",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, [batch, 3, 112, 112])],
        [helper.make_tensor_value_info("template", TensorProto.FLOAT, [batch, 512])],
        [
            numpy_helper.from_array(np.full((3, 1, 1), slope, np.float32), "slope"),
            numpy_helper.from_array(weights, "weights"),
        ],
    )
    path = folder / name
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    onnx.save(model, str(path))
    return path, weights


def entry_of(file: Path, **changes: Any) -> ModelEntry:
    """A manifest entry for a file of one's own."""
    fields: dict[str, Any] = {
        "name": "own-arcface",
        "role": ModelRole.EMBEDDER,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "path": str(file),
        "licence": Licence(spdx="LicenseRef-own", attribution="ourselves"),
        "preprocessing": Preprocessing(
            width=112, height=112, mean=(127.5,) * 3, std=(127.5,) * 3, alignment="arcface-112"
        ),
        "dimension": 512,
        "calibration": SimilarityCalibration(knots=((0.0, 0.0), (1.0, 100.0)), provenance="none"),
    }
    return ModelEntry(**{**fields, **changes})


def as_manifest(*entries: ModelEntry) -> bytes:
    return msgspec.json.encode({"version": 1, "models": entries})
