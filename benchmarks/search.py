"""The ten best of many templates: Abeyance's search beside FAISS, usearch and NumPy, and beside the memory's speed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from benchmarks.comparison import BenchmarkPart, Comparison, Figure, Progress, by_time, figure
from benchmarks.process import BenchmarkError, Child
from benchmarks.rivals import available_cores, in_turn, start

#: Most seconds of one request, the making of the templates included.
_WITHIN_S = 300.0
#: Seconds of a turn, for those that search more than once in it.
_TURN_S = 0.05
#: Probes of a large search.
_MANY = 32


@dataclass(frozen=True, slots=True)
class Engine:
    """A way to search that a user could choose."""

    name: str
    #: For people.
    label: str
    script: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    ours: bool = False
    aim: float | None = None
    #: Whether it is measured on one core as well.
    one_core: bool = True
    #: Measured on so many templates of so many numbers only.
    only: tuple[int, int] | None = None
    #: Most numbers of a template in a quick run.
    quick: int = 512

    def start(self, threads: int, count: int, dimension: int) -> Child:
        """Start its process, with all the templates."""
        return start(
            self.script, threads=threads, ours=self.ours, count=count, dimension=dimension, **self.settings
        )

    def takes_part(self, count: int, dimension: int, quick: bool) -> bool:
        """Return whether it is measured with these templates."""
        return self.only in (None, (count, dimension)) and not (quick and dimension > self.quick)


_FP16 = "FAISS 1.15 IndexScalarQuantizer fp16"
_HNSW = "usearch 2.26 HNSW, float16, approximate"
_PLAIN = "Abeyance without ONNX Runtime"
_MILLION = 1_000_000
OURS = Engine("abeyance", "Abeyance", "search_abeyance", ours=True)
OTHERS = (
    Engine("flat", "FAISS 1.15 IndexFlatIP", "search_faiss", {"index": "flat"}, aim=2.0),
    Engine("fp16", _FP16, "search_faiss", {"index": "fp16"}, quick=128),
    Engine("usearch", "usearch 2.26 exact, float16", "search_usearch", {"index": "exact"}, quick=128),
    Engine("numpy", "NumPy 2.4 float32", "search_numpy", one_core=False),
    Engine("without-ort", _PLAIN, "search_abeyance", {"numpy": True}, True, None, False, (_MILLION, 128)),
    Engine("hnsw", _HNSW, "search_usearch", {"index": "hnsw"}, False, None, False, (100_000, 128), 0),
)


def run(quick: bool, progress: Progress) -> BenchmarkPart:
    """Measure; see :mod:`benchmarks.suite`."""
    cores = len(available_cores()) or 1
    comparisons: list[Comparison] = []
    figures: list[Figure] = []
    for count in (100_000,) if quick else (100_000, _MILLION):
        for dimension in (128, 512):
            size = _Size(count, dimension, cores, 5 if quick else 7)
            progress(f"{size.what}: Abeyance")
            with OURS.start(cores, count, dimension) as ours:
                oracles = {n: ours.ask(within=_WITHIN_S, oracle=n)["found"] for n in (1, _MANY)}
                figures += size.of_memory(ours)
                for other in OTHERS:
                    if other.takes_part(count, dimension, quick):
                        progress(f"{size.what}: {other.label}")
                        with other.start(cores, count, dimension) as theirs:
                            comparisons += size.beside(ours, other, theirs, oracles)
    return BenchmarkPart(name="search", comparisons=tuple(comparisons), figures=tuple(figures), notes=_NOTES)


class _Search:
    """One search by one engine; called with a number of repetitions, it returns the seconds of one."""

    def __init__(self, process: Child, probes: int, threads: int) -> None:
        self._ask = partial(process.ask, probes=probes, threads=threads, within=_WITHIN_S)
        # On one core with one thread, processor time does not grow when others use the core as well.
        self._measured = "processor" if threads == 1 else "seconds"
        self.found: list[list[int]] = []

    def __call__(self, times: int) -> float:
        # Idle threads of OpenMP spin for a moment after their work.
        time.sleep(0.02)
        answer = self._ask(times=times)
        self.found = answer["found"]
        return float(answer[self._measured])


@dataclass(frozen=True, slots=True)
class _Size:
    """The measurements with one set of templates."""

    count: int
    dimension: int
    cores: int
    rounds: int

    @property
    def what(self) -> str:
        return f"{self.count:,} x {self.dimension}".replace(",", " ")

    def _names(self, probes: int, threads: int) -> tuple[str, str]:
        """Return the key and the title of a search."""
        size = "1m" if self.count == _MILLION else "100k"
        short, place = ("1core", "one core") if threads == 1 else ("all", f"all {threads} cores")
        key = f"search.{size}.{self.dimension}d.{probes}probe.{short}"
        return key, f"{self.what}, {probes} probe{'s' if probes > 1 else ''}, {place}"

    def beside(
        self, ours: Child, other: Engine, theirs: Child, oracles: Mapping[int, Sequence[Sequence[int]]]
    ) -> list[Comparison]:
        """Measure our searches and another engine's in turn."""
        works = [(1, self.cores, self.rounds), (_MANY, self.cores, 3)]
        if other.one_core and self.cores > 1:
            works.insert(0, (1, 1, self.rounds))
        lines = []
        for probes, threads, rounds in works:
            mine, others = (_Search(process, probes, threads) for process in (ours, theirs))
            seconds = in_turn({"theirs": others, "ours": mine}, rounds, _TURN_S)
            oracle = oracles[probes]
            if mine.found != oracle:
                raise BenchmarkError("our search does not find what the float32 oracle finds; that is a bug")
            key, what = self._names(probes, threads)
            key, aim = f"{key}.{other.name}", other.aim if probes == 1 else None
            note = f"recall@10 {recall(mine.found, oracle):.3f} beside {recall(others.found, oracle):.3f}"
            both = seconds["ours"], other.label, seconds["theirs"]
            lines.append(by_time(key, what, *both, scale=1000, aim=aim, note=note))
        return lines

    def of_memory(self, ours: Child) -> list[Figure]:
        """Measure a search with one probe against reading as many bytes as fast as the memory gives them.

        There is no aim for few templates: those are in the processor's cache.
        """
        figures = []
        for threads in sorted({1, self.cores}):
            read = ours.ask(within=_WITHIN_S, read=threads)
            seconds = in_turn({"ours": _Search(ours, 1, threads)}, self.rounds, _TURN_S)["ours"]
            key, what = self._names(1, threads)
            rate, aim = read["bytes"] / read["seconds"], 0.5 if self.count == _MILLION else None
            shares = [read["seconds"] / one for one in seconds]
            note = f"{read['bytes'] / 1e6:.0f} MB; adding them up reads {rate / 1e9:.1f} GB/s"
            what += ": share of the memory's speed"
            figures.append(figure(f"{key}.memory", what, "", shares, at_least=aim, note=note))
        return figures


def recall(found: Sequence[Sequence[int]], oracle: Sequence[Sequence[int]]) -> float:
    """Return the share of the oracle's results that was found, over all probes."""
    hits = sum(len({*a} & {*b}) for a, b in zip(found, oracle, strict=True))
    return hits / sum(len(row) for row in oracle)


_NOTES = (
    "Templates are generated: people with four each, cosines of about 0.6 between them; every second probe is of one "
    "of them. All are float16 numbers, so float32 adds nothing to them. Building the indexes does not count.",
    "Abeyance's results are those of the float32 oracle in the same order, or the run fails; it searches what "
    "collections hold in memory, after the look at the table that every search begins with.",
    "The memory's speed is that of adding up as many bytes as the int8 templates take, as 64-bit integers.",
    "On one core, processor time is compared. Abeyance loads ONNX Runtime before it is held to one core: ONNX Runtime "
    "1.32 multiplies at half speed in a process that begins with one.",
)
