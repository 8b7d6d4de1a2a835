"""``python -m embedder bare``: the same model on the same device without a server, for the benchmark.

Reads lines of JSON from standard input and answers each with one: ``{"about": true}`` with the model and its device,
``{"batch": 4, "callers": 2, "seconds": 1}`` with chips a second and processor seconds a chip,
``{"gemm": 2048, "seconds": 1}`` with the device's floating-point operations a second in a large matrix product.
Between lines it is idle, so that a server can be measured in turn on the same machine.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

import msgspec
import numpy as np

from .model import CPU, Model, open_model
from .settings import Settings, cpus


def main() -> int:
    """Serve standard input until it ends."""
    settings = Settings.from_environment()
    model = open_model(settings)
    about = {
        "model": model.identity,
        "provider": model.provider,
        "precision": model.precision,
        "batch": model.batch,
        "workers": model.workers,
        "cpus": cpus(),
    }
    for line in sys.stdin:
        asked = msgspec.json.decode(line)
        answer: dict[str, Any] = about
        if "gemm" in asked:
            answer = {"flops": gemm(model, asked["gemm"], asked["seconds"])}
        elif "batch" in asked:
            rate, processor = loop(model, asked["batch"], asked["callers"], asked["seconds"])
            answer = {"rate": rate, "processor": processor}
        sys.stdout.write(msgspec.json.encode(answer).decode() + "\n")
        sys.stdout.flush()
    return 0


def loop(model: Model, batch: int, callers: int, seconds: float) -> tuple[float, float]:
    """Chips a second, and processor seconds a chip, of ``callers`` threads that do nothing but run the model."""
    runs = [0] * callers
    end = [0.0]
    ready = threading.Barrier(callers + 1)

    def caller(number: int) -> None:
        run = model.bare(batch)
        run()
        ready.wait()
        while time.perf_counter() < end[0]:
            run()
            runs[number] += 1

    threads = [threading.Thread(target=caller, args=(number,)) for number in range(callers)]
    for thread in threads:
        thread.start()
    began = time.perf_counter()
    end[0] = began + 3600  # until the barrier opens and the time is known
    ready.wait()
    began, before = time.perf_counter(), time.process_time()
    end[0] = began + seconds
    for thread in threads:
        thread.join()
    chips = sum(runs) * batch
    return chips / (time.perf_counter() - began), (time.process_time() - before) / max(chips, 1)


def gemm(model: Model, size: int, seconds: float) -> float:
    """Operations a second in the product of two square matrices that stay on the device; the best of many."""
    import onnxruntime
    from onnx import TensorProto, helper

    half = model.precision == "fp16"
    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    square = [size, size]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["a", "b"], ["c"])],
        "peak",
        [helper.make_tensor_value_info(name, kind, square) for name in "ab"],
        [helper.make_tensor_value_info("c", kind, square)],
    )
    product = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    product.ir_version = 9
    # TensorRT's share of a single product is CUDA's; what counts is the device.
    device = "cpu" if model.provider == "CPU" else "cuda"
    session = onnxruntime.InferenceSession(
        product.SerializeToString(), providers=[CPU if device == "cpu" else "CUDAExecutionProvider"]
    )
    values: np.ndarray[Any, Any] = np.random.default_rng(0).normal(0, 0.01, square)
    values = values.astype(np.float16 if half else np.float32)
    binding = session.io_binding()
    for name in "ab":
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(values, device, 0))
    binding.bind_output("c", device)
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        best = min(best, time.perf_counter() - began)
    return 2.0 * size**3 / best
