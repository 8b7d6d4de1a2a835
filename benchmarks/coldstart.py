"""Cold starts: the time of each function from nothing to its first event and its first answer, and of its imports."""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
from infra.coldstart import measure
from infra.functions import FUNCTIONS

from benchmarks.comparison import BenchmarkPart, Comparison, Figure, Progress, by_time, figure
from benchmarks.process import BenchmarkError

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
#: Until the gate is ready, and until detect is, with its model.
AIMS_MS = {"gate": 500.0, "detect": 1500.0}
_QUICK = ("gate", "detect", "review")


def run(quick: bool, progress: Progress) -> BenchmarkPart:
    """Measure; see :mod:`benchmarks.suite`."""
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
    for spec in FUNCTIONS:
        if quick and spec.name not in _QUICK:
            continue
        progress(f"cold start of {spec.name}")
        try:
            times = measure(spec, 2 if quick else 5, beside=True)
        except RuntimeError as error:
            raise BenchmarkError(str(error)) from error
        ready = np.add(times.ready, times.models).tolist() if times.models else times.ready
        name = f"{times.function}, model loaded" if times.models else times.function
        beginning, key = BEGINNING.get(times.function), f"coldstart.{times.function}"
        both = ready, f"a plain function on boto3 {version('boto3')}", times.plain
        aim = round(2 / beginning, 2) if beginning else None
        comparisons.append(by_time(f"{key}.plain", f"Cold start of {name}", *both, aim=aim))
        if times.function in AIMS_MS:
            until = f"{name[0].upper()}{name[1:]}, until its first event"
            figures.append(figure(f"{key}.ready", until, "ms", ready, at_most=AIMS_MS[times.function]))
        if times.answered:
            until = f"{times.function.capitalize()}, until its first answer"
            figures.append(figure(f"{key}.answered", until, "ms", times.answered))
        imports = ", ".join(f"{package} {ms:.0f}" for package, ms in list(times.imports.items())[:8])
        notes.append(f"{times.function} imports, ms: {imports}.")
    return BenchmarkPart(
        name="coldstart", comparisons=tuple(comparisons), figures=tuple(figures), notes=tuple(notes)
    )
