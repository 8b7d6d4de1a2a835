"""Cold starts, measured: ``python -m infra.coldstart [function …] [--repeat N] [--beside] [--json]``.

Each function is started as Lambda starts it (awslambdaric, the runtime's own client), from its own layers as they are
deployed, against stubs on 127.0.0.1 of the runtime API and of AWS (TLS, answers at once). Two times are measured from
the start of the process: until it asks for its first event (interpreter, imports, the module's own work), and until it
has answered a real first event, which is what cannot be made to look short by doing things later. Beside them stand
the time to load its models, and what its imports are made of, as Python itself says.

``--beside`` measures in turn with each function what one would write without thinking of any of this: boto3, the same
clients, and for photos OpenCV and onnxruntime with the same models.

Figures are this machine's: this Python, this processor, the dependencies of this environment. Lambda's own share
(starting the sandbox, fetching layers), and the network, are not in them.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
from collections.abc import Callable

import msgspec

from abeyance.pipeline.settings import Settings
from infra import first_event, functions, sandbox
from infra.sandbox import LIMIT, Aws, Sandbox

#: The clients that each function makes, and the models that it loads for its first photo.
_CLIENTS = {
    "gate": ("s3", "dynamodb", "events", "appconfigdata"),
    "detect": ("s3", "dynamodb", "events", "appconfigdata"),
    "recognize": ("s3", "dynamodb", "events", "appconfigdata", "sqs"),
    "review": ("dynamodb",),
    "ledger": ("dynamodb", "secretsmanager"),
    "api": ("s3", "dynamodb", "appconfigdata"),
    "flags": (),
    "console": ("s3", "dynamodb", "events", "appconfigdata", "appconfig"),
}
_MODELS = {"detect": ("detector",), "recognize": ("embedder",), "api": ("detector",)}


class Times(msgspec.Struct):
    """Of one function, milliseconds of each start."""

    function: str
    #: Until it asks for its first event, and of those on the processor, which a busy machine distorts less.
    ready: list[float] = []
    ready_processor: list[float] = []
    #: Until it has answered its first event; empty if there is none for it here.
    answered: list[float] = []
    answered_processor: list[float] = []
    #: To load its models after its imports; empty if it has none.
    models: list[float] = []
    #: The same as ``ready``, with its models loaded, of what one would write plainly; empty if not asked for.
    plain: list[float] = []
    plain_processor: list[float] = []
    #: Of one start, by package.
    imports: dict[str, float] = {}


def measure(spec: functions.Function, repeat: int, *, beside: bool = False) -> Times:
    """Start the function ``repeat`` times, after once that does not count: it fills the page cache."""
    world, event, times = first_event.World(), first_event.of(spec.name), Times(spec.name)
    with sandbox.sandbox(spec) as box, sandbox.plain(_plainly(spec.name), spec) as other:
        for number in range(-1, repeat):
            world.called.clear()
            started = sandbox.start(box, world, event)
            if event is not None and not first_event.is_done(spec.name, started.answer, world):
                raise RuntimeError(f"{spec.name} did not do what it was asked to: {started.log[-3000:]}")
            models = _models(spec.name, box)
            plain = sandbox.start(other, world) if beside else None
            if number < 0:
                continue
            times.ready.append(started.ready)
            times.ready_processor.append(started.ready_processor)
            if event is not None:
                times.answered.append(started.answered)
                times.answered_processor.append(started.answered_processor)
            if models is not None:
                times.models.append(models)
            if plain:
                times.plain.append(plain.ready)
                times.plain_processor.append(plain.ready_processor)
        times.imports = imports(box, world)
    return times


def imports(box: Sandbox, aws: Aws, least_ms: float = 4.0) -> dict[str, float]:
    """Packages by the milliseconds that importing them took, children of others not counted twice, slowest first."""
    answer = _run(box, "import awslambdaric.bootstrap, handler", aws, "-X", "importtime")
    own: dict[str, float] = {}
    for line in answer.stderr.splitlines():
        found = re.match(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)", line)
        if found:
            top = found[2].split(".")[0]
            package = (
                ".".join(found[2].split(".")[:2])
                if top == "abeyance"
                else ("standard library" if top in sys.stdlib_module_names else top)
            )
            own[package] = own.get(package, 0.0) + int(found[1]) / 1000
    slow = {name: round(ms, 1) for name, ms in own.items() if ms >= least_ms}
    return dict(sorted(slow.items(), key=lambda item: -item[1]))


def _models(function: str, box: Sandbox) -> float | None:
    """Milliseconds to load the function's models after its imports, or None if it has none."""
    if function not in _MODELS:
        return None
    settings = Settings()
    names = {"detector": settings.detector_model, "embedder": settings.embedder_model}
    homes = {"detector": "abeyance.vision.models.store", "embedder": "abeyance.embedding.onnx"}
    calls = "; ".join(
        f"from {homes[role]} import load_{role}; load_{role}('{names[role]}', settings.models, verify=False)"
        for role in _MODELS[function]
    )
    code = (
        "import numpy, time, abeyance.vision.models.manifest; from abeyance.pipeline.settings import Settings\n"
        "settings = Settings.from_environment(); began = time.perf_counter()\n"
        f"{calls}\n"
        "print((time.perf_counter() - began) * 1000)"
    )
    return float(_run(box, code, first_event.World()).stdout.split()[-1])


def _plainly(function: str) -> str:
    """The handler that does the same things without a thought of cold starts."""
    lines = ["import boto3"]
    if function in _MODELS:
        lines += ["import cv2, glob, numpy, onnxruntime, os"]
    if function == "console":
        lines += ["import flask, numpy"]
    lines += [f"boto3.client({name!r})" for name in _CLIENTS[function]]
    names = {"detector": Settings().detector_model, "embedder": Settings().embedder_model}
    for role in _MODELS.get(function, ()):
        path = f"glob.glob(os.environ['ABEYANCE_MODELS'] + '/{names[role]}*.onnx')[0]"
        lines.append(f"onnxruntime.InferenceSession({path}, providers=['CPUExecutionProvider'])")
    return "\n".join([*lines, "def handler(event, context): return None"])


def _run(box: Sandbox, code: str, aws: Aws, *options: str) -> subprocess.CompletedProcess[str]:
    """Run ``code`` where the function would run."""
    with sandbox.reachable(box, aws) as variables:
        return subprocess.run(  # noqa: S603 - this Python, no shell
            [sys.executable, "-S", *options, "-c", code],
            env=variables,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=True,
        )


def _line(times: Times) -> str:
    def least(name: str) -> str:
        values, processor = getattr(times, name), getattr(times, f"{name}_processor", None)
        on = f", processor {min(processor):.0f}" if processor else ""
        return f"{name} {min(values):4.0f} ms (median {statistics.median(values):.0f}{on})"

    names = [name for name in ("ready", "answered", "models", "plain") if getattr(times, name)]
    parts = [f"{times.function:10}", *(least(name) for name in names)]
    made_of = ", ".join(f"{name} {ms:.0f}" for name, ms in list(times.imports.items())[:9])
    return "  ".join(parts) + f"\n{'':10} imports: {made_of}"


def main(tell: Callable[[str], None] = print) -> None:
    """Print a line for each function and, below it, what its imports are made of."""
    parser = argparse.ArgumentParser(prog="python -m infra.coldstart", description=__doc__)
    parser.add_argument("functions", nargs="*", help="folders of functions/; all by default")
    parser.add_argument("--repeat", type=int, default=5, help="starts of each function")
    parser.add_argument("--beside", action="store_true", help="measure what one would write plainly as well")
    parser.add_argument("--json", action="store_true", help="one JSON object a line, with every measurement")
    given = parser.parse_args()
    unknown = set(given.functions) - {spec.name for spec in functions.FUNCTIONS}
    if unknown:
        parser.error(f"there is no function {', '.join(sorted(unknown))}")
    for spec in functions.FUNCTIONS:
        if not given.functions or spec.name in given.functions:
            times = measure(spec, given.repeat, beside=given.beside)
            tell(msgspec.json.encode(times).decode() if given.json else _line(times))
            sys.stdout.flush()


if __name__ == "__main__":
    main()
