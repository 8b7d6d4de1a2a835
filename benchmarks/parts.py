"""The parts of ``python -m benchmarks``, each a module of its own with ``run(quick, tell) -> Part``."""

from __future__ import annotations

from importlib import import_module

from benchmarks.comparison import Part, Tell

#: In the order of the report. Every one is measured in a process of its own.
PARTS = {
    "photos": "Photos to templates, beside OpenCV, dlib and deepface.",
    "search": "Exact search in large galleries, beside FAISS, usearch and NumPy.",
    "freshness": "How soon a cold searcher is ready, and how soon a warm one sees a change.",
    "pipeline": "From upload to result, and what part of that is the models.",
    "coldstart": "How long each function takes until its first event.",
    "scale": "Ten million photos a day, simulated with the durations measured here.",
}


def run(name: str, quick: bool, tell: Tell) -> Part:
    """Measure one part on this machine. ``quick`` takes a fifth of the time and says less for sure."""
    module = import_module(f"benchmarks.{name}")
    part: Part = module.run(quick, tell)
    return part
