"""The parts of ``python -m benchmarks``, each a module of its own with ``run(quick, progress) -> BenchmarkPart``."""

from __future__ import annotations

from importlib import import_module

from benchmarks.comparison import BenchmarkPart, Progress

#: In the order of the report. Every one is measured in a process of its own.
PARTS = {
    "photos": "Photos to templates, beside OpenCV, dlib and deepface.",
    "search": "Exact search in large galleries, beside FAISS, usearch and NumPy.",
    "freshness": "Time until a cold searcher is ready, and until a warm one sees a change.",
    "pipeline": "Upload to result, and the models' share of that.",
    "coldstart": "Time of each function until its first event.",
    "scale": "Ten million photos a day, simulated with the durations measured here.",
}


def run(name: str, quick: bool, progress: Progress) -> BenchmarkPart:
    """Measure one part on this machine. ``quick`` takes a fifth of the time and says less for sure."""
    module = import_module(f"benchmarks.{name}")
    part: BenchmarkPart = module.run(quick, progress)
    return part
