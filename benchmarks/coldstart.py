"""How long each function takes from nothing to its first event and its first answer, and what that is made of."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import msgspec

from benchmarks.comparison import Comparison, Figure, Part, Spread, Tell, faster
from benchmarks.errors import BenchError

#: How many times as long as the plain function each took when this part was first written, with its models, both from
#: bytecode, on the processor, in one run. Half of that is the aim. In Lambda it was more: the layers had no bytecode.
BEGINNING = {
    "gate": 1.08,
    "detect": 1.07,
    "recognize": 1.19,
    "review": 1.19,
    "ledger": 1.22,
    "api": 1.09,
    "flags": 1.12,
}
#: Milliseconds: until the gate is ready, and until detect is, with its model.
AIMS = {"gate": 500.0, "detect": 1500.0}
_QUICK = ("gate", "detect", "review")


class Times(msgspec.Struct):
    """A line of ``python -m infra.coldstart --json``; see there."""

    function: str
    ready: list[float]
    answered: list[float]
    models: list[float]
    plain: list[float]
    imports: dict[str, float]


def run(quick: bool, tell: Tell) -> Part:
    """Measure; see :mod:`benchmarks.parts`. The tool that starts functions is the checkout's, not the package's."""
    root = Path(__file__).parents[1]
    if not (root / "infra" / "coldstart.py").is_file():
        return Part(name="coldstart", notes=("Cold starts are measured in a checkout only, with infra/.",))
    comparisons: list[Comparison] = []
    figures: list[Figure] = []
    notes = [
        "Times are from the start of the process, under awslambdaric, with stubs of the runtime API and of AWS on this "
        "machine: Lambda's own share and the network are not in them.",
        "The plain function imports boto3, makes the same clients and, for photos, imports numpy, OpenCV and "
        "onnxruntime and opens the same models. It has bytecode, which it would not have in Lambda unless somebody "
        "takes care of that.",
        "Aims are half of what each function took, beside the plain one, when this was first measured. On the machine "
        "of that day that was, in ms: gate 589, detect 800 and recognize 1012 with their models, review 503, "
        "ledger 478, api 730 without, flags 410. The same code takes 1.8 times less on the same machine at a better "
        "hour, so only ratios within one run are compared.",
    ]
    for times in _measured(root, _QUICK if quick else (), 2 if quick else 5, tell):
        ready = _with_models(times)
        name = f"{times.function}, model loaded" if times.models else times.function
        beginning = BEGINNING.get(times.function)
        comparisons.append(
            Comparison(
                key=f"coldstart.{times.function}.plain",
                what=f"Cold start of {name}",
                unit="ms",
                ours=Spread.of(ready),
                other=f"a plain function on boto3 {version('boto3')}",
                theirs=Spread.of(times.plain),
                ratio=faster(ready, times.plain),
                aim=round(2 / beginning, 2) if beginning else None,
            )
        )
        if times.function in AIMS:
            figures.append(_figure(times.function, "ready", f"{name}, until its first event", ready))
        if times.answered:
            figures.append(
                _figure(
                    times.function, "answered", f"{times.function}, until its first answer", times.answered
                )
            )
        made_of = ", ".join(f"{package} {ms:.0f}" for package, ms in list(times.imports.items())[:8])
        notes.append(f"{times.function} imports, ms: {made_of}.")
    return Part(name="coldstart", comparisons=tuple(comparisons), figures=tuple(figures), notes=tuple(notes))


def _with_models(times: Times) -> list[float]:
    if not times.models:
        return times.ready
    return [ready + models for ready, models in zip(times.ready, times.models, strict=True)]


def _figure(function: str, which: str, what: str, values: Sequence[float]) -> Figure:
    return Figure(
        key=f"coldstart.{function}.{which}",
        what=what[0].upper() + what[1:],
        unit="ms",
        value=Spread.of(values),
        aim=AIMS.get(function) if which == "ready" else None,
    )


def _measured(root: Path, functions: Sequence[str], repeat: int, tell: Tell) -> Iterator[Times]:
    command = [sys.executable, "-m", "infra.coldstart", *functions, "--beside", "--json"]
    with subprocess.Popen(  # noqa: S603 - our own module
        [*command, "--repeat", str(repeat)], cwd=root, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        for line in process.stdout:
            times = msgspec.json.decode(line, type=Times)
            tell(f"cold start of {times.function}: {min(times.ready):.0f} ms")
            yield times
    if process.returncode:
        raise BenchError("cold starts could not be measured; run: python -m infra.coldstart")
