"""The model of the manifest, opened on the best available device."""

from __future__ import annotations

import ctypes.util
import logging
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abeyance.embedding.onnx import OnnxEmbedder
from abeyance.vision.errors import ModelUnusable
from abeyance.vision.models.manifest import Manifest, ModelEntry, ModelRole
from abeyance.vision.models.store import locate
from abeyance.vision.session import open_session

from .settings import EmbedderSettings, cpus

log = logging.getLogger("abeyance.embedder")

TENSORRT, CUDA, CPU = (f"{name}ExecutionProvider" for name in ("Tensorrt", "CUDA", "CPU"))
_NAMES = {"tensorrt": TENSORRT, "cuda": CUDA, "cpu": CPU}


@dataclass(frozen=True, slots=True)
class Model:
    """An open model, and the best way to run it.

    Attributes
    ----------
    run
        (n, 112, 112, 3) uint8 -> (n, ``dimension``) float32, unit length; from any thread.
    batch, workers, spread, capacity
        See :class:`embedder.batcher.Batcher`.
    warm_up
        Batch sizes to run before the endpoint says that it is ready.
    session
        ONNX Runtime's session, for benchmarks.
    """

    identity: str
    dimension: int
    provider: str
    precision: str
    run: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
    batch: int
    workers: int
    spread: bool
    capacity: int
    warm_up: tuple[int, ...]
    session: Any


def choose_providers(wanted: str, available: Sequence[str]) -> list[str]:
    """Return ONNX Runtime's providers, best first.

    Parameters
    ----------
    wanted
        ``auto``, or names such as ``TensorRT,CUDA,CPU``.
    available
        Those of this build of ONNX Runtime.

    Raises
    ------
    ModelUnusable
        If a named one is not available.
    """
    if wanted == "auto":
        # The GPU build lists TensorRT even where its library is missing, and then only complains in the log.
        found = [name for name in (TENSORRT, CUDA) if name in available]
        if TENSORRT in found and not ctypes.util.find_library("nvinfer"):
            found.remove(TENSORRT)
        return [*found, CPU]
    names = [name.strip().lower() for name in wanted.split(",")]
    missing = [name for name in names if _NAMES.get(name) not in available]
    if missing:
        raise ModelUnusable(
            f"ABEYANCE_EMBEDDER_PROVIDERS={wanted}: this onnxruntime has no {', '.join(missing)}; it has "
            f"{', '.join(available)}"
        )
    return [_NAMES[name] for name in names]


def open_model(settings: EmbedderSettings) -> Model:
    """Open the model that ``settings`` name; raises :class:`~abeyance.vision.errors.ModelError`."""
    import onnxruntime

    entry = Manifest.load()[settings.model]
    if entry.role is not ModelRole.EMBEDDER:
        raise ModelUnusable(
            f"{entry.name} is for {entry.role}; ABEYANCE_EMBEDDER_MODEL must name an embedder"
        )
    path = locate(entry)
    providers = choose_providers(settings.providers, onnxruntime.get_available_providers())
    if providers[0] != CPU:
        try:
            return _on_gpu(path, entry, providers, settings)
        except ModelUnusable as error:
            if settings.providers != "auto":
                raise
            log.warning("no GPU; the CPU serves", extra={"because": str(error)})
    return _on_cpu(path, entry, settings)


def _on_cpu(path: Path, entry: ModelEntry, settings: EmbedderSettings) -> Model:
    if settings.precision == "fp16":
        raise ModelUnusable("fp16 gains nothing on a CPU; leave ABEYANCE_EMBEDDER_PRECISION at auto")
    # Past two chips or so the activations no longer fit the caches, and the same chips take longer.
    batch = settings.batch or 2
    workers = settings.workers or max(1, cpus() // settings.threads)
    session = open_session(path, threads=settings.threads)
    embedder = OnnxEmbedder(session, entry, batch=batch)
    return Model(
        identity=embedder.identity,
        dimension=embedder.dimension,
        provider="CPU",
        precision="fp32",
        run=embedder.embed,
        batch=batch,
        workers=workers,
        spread=True,
        capacity=settings.capacity or max(512, settings.max_chips),
        warm_up=(1, batch),
        session=session,
    )


def _on_gpu(path: Path, entry: ModelEntry, providers: Sequence[str], settings: EmbedderSettings) -> Model:
    from .graph import serving_graph

    batch = settings.batch or 64
    half = settings.precision != "fp32"
    # TensorRT chooses the precision layer by layer; CUDA computes what the graph says.
    graph = serving_graph(path, entry.preprocessing, half=half and providers[0] == CUDA)
    session = _gpu_session(graph, providers, half=half, batch=batch)
    used = session.get_providers()[0]
    if used != providers[0]:
        # ONNX Runtime falls back to the processor without an error, many times slower.
        raise ModelUnusable(f"{providers[0]} was not usable (driver, libraries?): onnxruntime chose {used}")
    fixed = session.get_inputs()[0].shape[0]
    batch = fixed if isinstance(fixed, int) else batch
    sizes = (batch,) if isinstance(fixed, int) else _ladder(batch)
    return Model(
        identity=entry.identity,
        dimension=entry.dimension,
        provider=used.removesuffix("ExecutionProvider"),
        precision="fp16" if half else "fp32",
        run=_padded(session, sizes),
        batch=batch,
        # While one run computes, the next one's chips are on their way.
        workers=settings.workers or 2,
        spread=False,
        capacity=settings.capacity or max(32 * batch, settings.max_chips),
        warm_up=sizes,
        session=session,
    )


def _gpu_session(graph: bytes, providers: Sequence[str], *, half: bool, batch: int) -> Any:
    import onnxruntime

    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # CUDA and cuDNN from the nvidia-* wheels, where they are not the system's
    cache = Path(tempfile.gettempdir()) / "abeyance-tensorrt"
    cache.mkdir(exist_ok=True)
    sizes = {"min": 1, "opt": batch, "max": batch}
    options = {
        TENSORRT: {
            "trt_fp16_enable": half,
            "trt_engine_cache_enable": True,
            "trt_engine_cache_path": str(cache),
            **{f"trt_profile_{kind}_shapes": f"chips:{n}x112x112x3" for kind, n in sizes.items()},
        },
        CUDA: {"cudnn_conv_algo_search": "EXHAUSTIVE", "cudnn_conv_use_max_workspace": "1"},
        CPU: {},
    }
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    chosen = [(name, options[name]) for name in providers]
    try:
        return onnxruntime.InferenceSession(graph, settings, providers=chosen)
    except Exception as error:
        # onnxruntime raises a dozen types without a common base.
        raise ModelUnusable(f"onnxruntime cannot open the model on {providers[0]}: {error}") from error


def _ladder(batch: int) -> tuple[int, ...]:
    """Return the sizes that run, each tuned once at warm-up: powers of two up to ``batch``, and ``batch``."""
    return (*(size for size in (2**power for power in range(12)) if size < batch), batch)


def _padded(session: Any, sizes: Sequence[int]) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    def run(chips: NDArray[np.uint8]) -> NDArray[np.float32]:
        count = len(chips)
        missing = next(size for size in sizes if size >= count) - count
        if missing:
            chips = np.pad(chips, ((0, missing), (0, 0), (0, 0), (0, 0)))
        (raw,) = session.run(None, {"chips": np.ascontiguousarray(chips)})
        templates: NDArray[np.float32] = raw[:count]
        templates /= np.maximum(np.linalg.norm(templates, axis=1, keepdims=True), 1e-12)
        return templates

    return run
