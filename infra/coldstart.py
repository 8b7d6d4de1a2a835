"""Measure cold starts: ``python -m infra.coldstart [function …] [--repeat N] [--beside] [--json]``.

Each function is started as Lambda starts it (awslambdaric, the runtime's own client), from its layers as they are
deployed, against stubs on 127.0.0.1 of the runtime API and of AWS (TLS, answers at once). Two times are measured from
the start of the process: until it asks for its first event (interpreter, imports, the module's own work), and until it
has answered a real first event, which postponing work cannot shorten. Beside them stand the time to load its models
and the time of its imports by package, as Python itself reports it.

``--beside`` measures in turn with each function a plain one that takes no care of its cold start: boto3, the same
clients, and for photos OpenCV and onnxruntime with the same models.

Figures are this machine's: this Python, this processor, the dependencies of this environment. Lambda's own share
(starting the sandbox, fetching layers) and the network are not in them.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys

import msgspec

from abeyance.deployment.settings import DeploymentSettings
from infra import first_event, functions, sandbox

#: The clients that each function makes, and the models that it loads for its first photo.
_CLIENTS = {
    "gate": ("s3", "dynamodb", "events", "appconfigdata"),
    "detect": ("s3", "dynamodb", "events", "appconfigdata"),
    "recognize": ("s3", "dynamodb", "events", "appconfigdata", "sqs"),
    "frames": ("s3", "dynamodb", "events", "appconfigdata", "sqs"),
    "review": ("dynamodb",),
    "notify": ("dynamodb", "events", "sns"),
    "ledger": ("dynamodb", "s3", "secretsmanager"),
    "checkpoint": ("dynamodb", "s3", "kms"),
    "api": ("s3", "dynamodb", "appconfigdata"),
    "flags": (),
    "console": ("s3", "dynamodb", "events", "appconfigdata", "appconfig"),
}
_LOADERS = {
    "detector": "from abeyance.vision.models.store import load_detector",
    "embedder": "from abeyance.embedding.onnx import load_embedder",
}
_MODELS = {
    "detect": {"detector": DeploymentSettings().detector_model},
    "recognize": {"embedder": DeploymentSettings().embedder_model},
    "api": {"detector": DeploymentSettings().detector_model},
}


class Times(msgspec.Struct):
    """Milliseconds of each start of one function."""

    function: str
    #: Until it asks for its first event, and of those on the processor, which a busy machine distorts less.
    ready: list[float] = []
    ready_processor: list[float] = []
    #: Until it has answered its first event; empty if there is none for it here.
    answered: list[float] = []
    answered_processor: list[float] = []
    #: To load its models after its imports; empty if it has none.
    models: list[float] = []
    #: The same as ``ready``, with its models loaded, of the plain function; empty if not asked for.
    plain: list[float] = []
    plain_processor: list[float] = []
    #: Of one start, by package.
    imports: dict[str, float] = {}


def measure(spec: functions.FunctionSpec, repeat: int, *, beside: bool = False) -> Times:
    """Start the function ``repeat`` times, after one start that does not count: it fills the page cache.

    Raises
    ------
    RuntimeError
        If the function does not handle its first event.
    """
    aws, event, times = first_event.FakeAws(spec.name), first_event.event_for(spec.name), Times(spec.name)
    with sandbox.deployed(spec) as box, sandbox.plain(_plain_handler(spec.name), spec) as other:
        for number in range(-1, repeat):
            aws.called.clear()
            start = box.start(aws, event)
            if event is not None and not first_event.succeeded(spec.name, start.answer, aws):
                raise RuntimeError(f"{spec.name} did not handle its first event: {start.log[-3000:]}")
            models = _load_models(spec.name, box)
            plain = other.start(aws) if beside else None
            if number < 0:
                continue
            times.ready.append(start.ready_ms)
            times.ready_processor.append(start.ready_processor_ms)
            if event is not None:
                times.answered.append(start.answered_ms)
                times.answered_processor.append(start.answered_processor_ms)
            if models is not None:
                times.models.append(models)
            if plain:
                times.plain.append(plain.ready_ms)
                times.plain_processor.append(plain.ready_processor_ms)
        times.imports = imports(box)
    return times


def imports(box: sandbox.Sandbox, least_ms: float = 4.0) -> dict[str, float]:
    """Return packages by the milliseconds that importing them takes, without those of other packages, slowest first."""
    answer = box.run("import awslambdaric.bootstrap, handler", first_event.FakeAws(), "-X", "importtime")
    own: dict[str, float] = {}
    for microseconds, module in re.findall(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)", answer.stderr):
        package, *inside = module.split(".")
        if package == "abeyance":
            package = ".".join([package, *inside[:1]])
        elif package in sys.stdlib_module_names:
            package = "standard library"
        own[package] = own.get(package, 0.0) + int(microseconds) / 1000
    slow = {name: round(ms, 1) for name, ms in own.items() if ms >= least_ms}
    return dict(sorted(slow.items(), key=lambda item: -item[1]))


def _load_models(function: str, box: sandbox.Sandbox) -> float | None:
    """Return the milliseconds to load the function's models after its imports, or None if it has none."""
    if function not in _MODELS:
        return None
    calls = "; ".join(
        f"{_LOADERS[role]}; load_{role}({name!r}, settings.models, verify=False)"
        for role, name in _MODELS[function].items()
    )
    code = (
        "import numpy, time, abeyance.vision.models.manifest\n"
        "from abeyance.deployment.settings import RecognizeSettings\n"
        "settings = RecognizeSettings.from_environment(); began = time.perf_counter()\n"
        f"{calls}\n"
        "print((time.perf_counter() - began) * 1000)"
    )
    return float(box.run(code, first_event.FakeAws()).stdout.split()[-1])


def _plain_handler(function: str) -> str:
    """Return the code of a handler that makes the same clients and loads the same models."""
    lines = ["import boto3"]
    if function in _MODELS:
        lines += ["import cv2, glob, numpy, onnxruntime, os"]
    if function == "console":
        lines += ["import flask, numpy"]
    lines += [f"boto3.client({name!r})" for name in _CLIENTS[function]]
    for name in _MODELS.get(function, {}).values():
        path = f"glob.glob(os.environ['ABEYANCE_MODELS'] + '/{name}*.onnx')[0]"
        lines.append(f"onnxruntime.InferenceSession({path}, providers=['CPUExecutionProvider'])")
    return "\n".join([*lines, "def handler(event, context): return None"])


def _line(times: Times) -> str:
    def least(name: str) -> str:
        values, processor = getattr(times, name), getattr(times, f"{name}_processor", None)
        on = f", processor {min(processor):.0f}" if processor else ""
        return f"{name} {min(values):4.0f} ms (median {statistics.median(values):.0f}{on})"

    names = [name for name in ("ready", "answered", "models", "plain") if getattr(times, name)]
    parts = [f"{times.function:10}", *(least(name) for name in names)]
    packages = ", ".join(f"{name} {ms:.0f}" for name, ms in list(times.imports.items())[:9])
    return "  ".join(parts) + f"\n{'':10} imports: {packages}"


def main() -> None:
    """Print a line for each function and, below it, the time of its imports by package."""
    parser = argparse.ArgumentParser(prog="python -m infra.coldstart", description=__doc__)
    parser.add_argument("functions", nargs="*", help="measure these folders of functions/; all by default")
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="start each function N times")
    parser.add_argument("--beside", action="store_true", help="measure a plain function beside each")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object a line, with every measurement"
    )
    given = parser.parse_args()
    unknown = set(given.functions) - {spec.name for spec in functions.FUNCTIONS}
    if unknown:
        parser.error(f"there is no function {', '.join(sorted(unknown))}")
    for spec in functions.FUNCTIONS:
        if not given.functions or spec.name in given.functions:
            times = measure(spec, given.repeat, beside=given.beside)
            print(msgspec.json.encode(times).decode() if given.json else _line(times), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
