"""``python -m benchmarks.embedder.bare``: the model of the endpoint on the same device, without a server.

Reads lines of JSON from standard input and answers each with one: ``{"about": true}`` with the model and its device,
``{"batch": 4, "callers": 2, "seconds": 1}`` with chips a second and processor seconds a chip,
``{"gemm": 2048, "seconds": 1}`` with the device's floating-point operations a second in a large matrix product.
Between lines it is idle, so that a server can be measured in turn on the same machine.
"""

from __future__ import annotations

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import numpy as np

from embedder.model import CPU, CUDA, Model, open_model
from embedder.settings import EmbedderSettings, cpus


def main() -> None:
    """Answer standard input until it ends."""
    model = open_model(EmbedderSettings.from_environment())
    for line in sys.stdin:
        asked = msgspec.json.decode(line)
        if "gemm" in asked:
            answer: dict[str, Any] = {"flops": gemm(model, asked["gemm"], asked["seconds"])}
        elif "batch" in asked:
            answer = loop(model, asked["batch"], asked["callers"], asked["seconds"])
        else:
            fields = ("provider", "precision", "workers")
            answer = {"model": model.identity, "cpus": cpus(), **{n: getattr(model, n) for n in fields}}
        sys.stdout.write(msgspec.json.encode(answer).decode() + "\n")
        sys.stdout.flush()


def loop(model: Model, batch: int, callers: int, seconds: float) -> dict[str, Any]:
    """Run the model in ``callers`` threads, and return chips a second and processor seconds a chip."""
    ready, stop = threading.Barrier(callers + 1), threading.Event()
    given = model.session.get_inputs()[0]
    dtype = np.uint8 if given.type == "tensor(uint8)" else np.float32
    chips = {given.name: np.zeros((batch, *given.shape[1:]), dtype)}

    def caller() -> int:
        model.session.run(None, chips)
        ready.wait()
        runs = 0
        while not stop.is_set():
            model.session.run(None, chips)
            runs += 1
        return runs

    with ThreadPoolExecutor(callers) as pool:
        futures = [pool.submit(caller) for _ in range(callers)]
        ready.wait()
        began, before = time.perf_counter(), time.process_time()
        time.sleep(seconds)
        stop.set()
        done = batch * sum(future.result() for future in futures)
    return {
        "rate": done / (time.perf_counter() - began),
        "processor": (time.process_time() - before) / max(done, 1),
    }


def gemm(model: Model, size: int, seconds: float) -> float:
    """Return operations a second in the product of two square matrices that stay on the device; the best of many."""
    import onnxruntime
    from onnx import parser

    half = model.precision == "fp16"
    matrix = f"{'float16' if half else 'float'}[{size},{size}]"
    product = parser.parse_model(
        f'<ir_version: 9, opset_import: ["": 17]> peak ({matrix} a, {matrix} b) => ({matrix} c) {{ c = MatMul(a, b) }}'
    )
    # The rate of a device does not depend on TensorRT.
    device, provider = ("cpu", CPU) if model.provider == "CPU" else ("cuda", CUDA)
    session = onnxruntime.InferenceSession(product.SerializeToString(), providers=[provider])
    values: np.ndarray[Any, Any] = np.random.default_rng(0).normal(0, 0.01, (size, size))
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


if __name__ == "__main__":
    main()
