"""The ten best of many templates: Abeyance's search beside FAISS, usearch and NumPy, and beside the memory's speed."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.comparison import Comparison, Figure, Part, Spread, Tell, faster
from benchmarks.errors import BenchError
from benchmarks.rivals import Rival, available_cores

#: Seconds that a process may take to make its templates and to be asked about them.
_PATIENCE = 300.0
#: Seconds of a turn, for those that search more than once in it.
_TURN = 0.05
#: Seconds from which on a search is done in two rounds only.
_SLOW = 1.0
#: Probes of a large search.
_MANY = 32


@dataclass(frozen=True, slots=True)
class Contestant:
    """What a user would search with instead."""

    name: str
    #: For people.
    label: str
    script: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    python: str = ""
    aim: float | None = None
    #: Not asked to do without the other cores.
    one_core: bool = True
    #: Only asked about so many templates of so many numbers.
    only: tuple[int, int] | None = None
    #: Most numbers of a template that it is asked about in a quick run.
    quick: int = 512

    def open(self, threads: int, count: int, dimension: int) -> Rival:
        """Its process, with all the templates."""
        return Rival(
            self.script,
            threads=threads,
            python=self.python,
            count=count,
            dimension=dimension,
            **self.settings,
        )


OURS = Contestant("abeyance", "Abeyance", "search_abeyance", python=sys.executable)
OTHERS = (
    Contestant("flat", "FAISS 1.15 IndexFlatIP", "search_faiss", {"index": "flat"}, aim=2.0),
    Contestant("fp16", "FAISS 1.15 IndexScalarQuantizer fp16", "search_faiss", {"index": "fp16"}, quick=128),
    Contestant("usearch", "usearch 2.26 exact, float16", "search_usearch", {"index": "exact"}, quick=128),
    Contestant("numpy", "NumPy 2.4 float32", "search_numpy", one_core=False),
    Contestant(
        "without-ort",
        "Abeyance without ONNX Runtime",
        "search_abeyance",
        {"numpy": True},
        python=sys.executable,
        one_core=False,
        only=(1_000_000, 128),
    ),
    Contestant(
        "hnsw",
        "usearch 2.26 HNSW, float16, approximate",
        "search_usearch",
        {"index": "hnsw"},
        one_core=False,
        only=(100_000, 128),
        quick=0,
    ),
)


@dataclass(frozen=True, slots=True)
class _Work:
    """One search, so many times over."""

    probes: int
    threads: int
    rounds: int


def run(quick: bool, tell: Tell) -> Part:
    """Measure; see :mod:`benchmarks.parts`."""
    cores = len(available_cores()) or 1
    comparisons: list[Comparison] = []
    figures: list[Figure] = []
    for count in (100_000,) if quick else (100_000, 1_000_000):
        for dimension in (128, 512):
            table = _Table(count, dimension, cores, quick)
            tell(f"{table.what}: Abeyance")
            with OURS.open(cores, count, dimension) as ours:
                oracles = {n: ours.ask(within=_PATIENCE, oracle=n)["found"] for n in (1, _MANY)}
                figures += table.of_memory(ours)
                for other in OTHERS:
                    if other.only not in (None, (count, dimension)) or (quick and dimension > other.quick):
                        continue
                    tell(f"{table.what}: {other.label}")
                    with other.open(cores, count, dimension) as theirs:
                        comparisons += table.beside(ours, other, theirs, oracles)
    return Part(name="search", comparisons=tuple(comparisons), figures=tuple(figures), notes=_NOTES)


@dataclass(frozen=True, slots=True)
class _Table:
    """All that is measured with one set of templates."""

    count: int
    dimension: int
    cores: int
    quick: bool

    @property
    def key(self) -> str:
        return f"search.{'1m' if self.count == 1_000_000 else '100k'}.{self.dimension}d"

    @property
    def what(self) -> str:
        return f"{'1 000 000' if self.count == 1_000_000 else '100 000'} x {self.dimension}"

    def _works(self, one_core: bool) -> list[_Work]:
        rounds = 5 if self.quick else 7
        alone = [_Work(1, 1, rounds)] if one_core and self.cores > 1 else []
        return [*alone, _Work(1, self.cores, rounds), _Work(_MANY, self.cores, 3)]

    def _place(self, threads: int) -> tuple[str, str]:
        return ("1core", "one core") if threads == 1 else ("all", f"all {threads} cores")

    def beside(
        self, ours: Rival, other: Contestant, theirs: Rival, oracles: Mapping[int, Sequence[Sequence[int]]]
    ) -> list[Comparison]:
        """Ours and another's searches in turn."""
        lines = []
        for work in self._works(other.one_core):
            mine, others = _Turns(ours, work), _Turns(theirs, work)
            for number in range(2 if others.slow else work.rounds):
                for turns in (mine, others) if number % 2 else (others, mine):
                    turns.take()
            oracle = oracles[work.probes]
            if mine.found != oracle:
                raise BenchError("our search does not find what the float32 oracle finds; that is a bug")
            key, place = self._place(work.threads)
            lines.append(
                Comparison(
                    key=f"{self.key}.{work.probes}probe.{key}.{other.name}",
                    what=f"{self.what}, {_probes(work.probes)}, {place}",
                    unit="ms",
                    ours=Spread.of([1000 * s for s in mine.seconds]),
                    other=other.label,
                    theirs=Spread.of([1000 * s for s in others.seconds]),
                    ratio=faster(mine.seconds, others.seconds),
                    aim=other.aim if work.probes == 1 else None,
                    note=f"recall@10 {recall(mine.found, oracle):.3f} beside {recall(others.found, oracle):.3f}",
                )
            )
        return lines

    def of_memory(self, ours: Rival) -> list[Figure]:
        """What part of the bytes that could be read in that time a search with one probe reads.

        There is no aim for few templates: those are in the processor's cache.
        """
        figures = []
        for threads in sorted({1, self.cores}):
            read = ours.ask(within=_PATIENCE, read=threads)
            rate = read["bytes"] / read["seconds"]
            turns = _Turns(ours, _Work(1, threads, 0))
            for _ in range(5 if self.quick else 7):
                turns.take()
            key, place = self._place(threads)
            figures.append(
                Figure(
                    key=f"{self.key}.1probe.{key}.memory",
                    what=f"{self.what}, 1 probe, {place}: share of the memory's speed",
                    unit="",
                    value=Spread.of([read["bytes"] / s / rate for s in turns.seconds]),
                    aim=0.5 if self.count == 1_000_000 else None,
                    more_is_better=True,
                    note=f"{read['bytes'] / 1e6:.0f} MB; adding them up reads {rate / 1e9:.1f} GB/s",
                )
            )
        return figures


class _Turns:
    """One contestant's turns at one search."""

    def __init__(self, process: Rival, work: _Work) -> None:
        self._process = process
        self._work = work
        self.seconds: list[float] = []
        self.found: list[list[int]] = []
        # One or two that do not count.
        alone: float = self._ask(1)["seconds"]
        self.slow = alone > _SLOW
        if not self.slow:
            alone = self._ask(1)["seconds"]
        self._times = max(1, round(_TURN / alone))

    def take(self) -> None:
        answer = self._ask(self._times)
        # On one core with one thread, processor time does not grow when somebody else uses the core as well.
        self.seconds.append(answer["processor" if self._work.threads == 1 else "seconds"])
        self.found = answer["found"]

    def _ask(self, times: int) -> dict[str, Any]:
        # Idle threads of OpenMP spin for a moment after their work.
        time.sleep(0.02)
        return self._process.ask(
            within=_PATIENCE, probes=self._work.probes, threads=self._work.threads, times=times
        )


def recall(found: Sequence[Sequence[int]], oracle: Sequence[Sequence[int]]) -> float:
    """What part of the oracle's results was found, over all probes."""
    hits = sum(len({*a} & {*b}) for a, b in zip(found, oracle, strict=True))
    return hits / sum(len(row) for row in oracle)


def _probes(count: int) -> str:
    return f"{count} probe{'s' if count > 1 else ''}"


_NOTES = (
    "Templates are generated: people with four each, cosines of about 0.6 between them; every second probe is of one "
    "of them. All are float16 numbers, so float32 adds nothing to them. Building the indexes does not count.",
    "Abeyance's results are those of the float32 oracle in the same order, or the run fails; it searches what "
    "collections hold in memory, after the look at the table that every search begins with.",
    "The memory's speed is that of adding up as many bytes as the int8 templates take, as 64-bit integers.",
    "On one core, processor time is compared. Abeyance loads ONNX Runtime before it is held to one core: ONNX Runtime "
    "1.32 multiplies at half speed in a process that begins with one.",
)
