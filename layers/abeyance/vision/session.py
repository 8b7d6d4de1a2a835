"""ONNX Runtime sessions; the library is imported when the first model is opened."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from abeyance.vision.errors import ModelUnusable


def open_session(
    model: str | Path | bytes,
    *,
    threads: int = 1,
    providers: Sequence[str] = ("CPUExecutionProvider",),
    optimise: bool = True,
) -> Any:
    """Open an ONNX model.

    Parameters
    ----------
    model
        A path, or the content of the file.
    threads
        Threads within one call. One is the best use of a function with less than two cores; a session may be
        called from several threads at once.
    providers
        ONNX Runtime execution providers, best first.
    optimise
        False runs the graph node by node as it is written: for checks only.

    Returns
    -------
    onnxruntime.InferenceSession

    Raises
    ------
    ModelUnusable
        If the file is not a model, or onnxruntime or a provider is missing.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelUnusable(
            "running a model needs onnxruntime; install it with: pip install abeyance"
        ) from error

    missing = set(providers) - set(onnxruntime.get_available_providers())
    if missing:
        raise ModelUnusable(
            f"this onnxruntime has no {', '.join(sorted(missing))}; install the build that has it"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Waiting threads that spin take the core that the next photo's decoding needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Photos come in every size: patterns of one would be kept for the next.
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return onnxruntime.InferenceSession(
            model if isinstance(model, bytes) else str(model), options, providers=list(providers)
        )
    except Exception as error:
        # onnxruntime raises a dozen types without a common base.
        raise ModelUnusable(f"onnxruntime cannot open the model: {error}") from error
