"""Ratios, their page and their picture, and what counts as lower than before."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import msgspec
import pytest
from rich.console import Console
from typer.testing import CliRunner

from benchmarks import suite as suites
from benchmarks.__main__ import _show, app
from benchmarks.comparison import BenchmarkPart, Comparison, Figure, Spread, faster
from benchmarks.machine import Machine
from benchmarks.page import number, page, plot
from benchmarks.suite import Suite


def comparison(key: str, ratios: list[float], *, aim: float | None = None, note: str = "") -> Comparison:
    return Comparison(
        key=key,
        what=f"what {key}",
        unit="ms",
        ours=Spread.of([10.0, 11.0, 12.0]),
        other="a | rival 1.0",
        theirs=Spread.of([20.0, 22.0, 24.0]),
        ratio=Spread.of(ratios),
        aim=aim,
        note=note,
    )


def run_of(*comparisons: Comparison, figures: tuple[Figure, ...] = ()) -> Suite:
    return Suite(
        measured=datetime(2026, 11, 23, 4, tzinfo=UTC),
        quick=False,
        machine=Machine.here(),
        seconds=600.0,
        parts=(
            BenchmarkPart(name="search", comparisons=comparisons, figures=figures, notes=("A last word.",)),
        ),
    )


def test_a_spread_is_the_median_and_the_quartiles() -> None:
    assert Spread.of([3.0, 1.0, 2.0, 5.0, 4.0]) == Spread(3.0, 2.0, 4.0, 5)
    assert Spread.of([7.0]) == Spread(7.0, 7.0, 7.0, 1)


def test_a_ratio_is_taken_within_its_round() -> None:
    # A machine that is half as fast in the second round changes neither ratio.
    assert faster([1.0, 2.0], [3.0, 6.0]) == Spread(3.0, 3.0, 3.0, 2)
    with pytest.raises(ValueError, match="longer"):
        faster([1.0], [1.0, 2.0])


def test_a_ratio_is_lower_only_when_the_spreads_do_not_explain_it() -> None:
    stored = run_of(comparison("steady", [2.0, 2.1, 2.2]), comparison("fallen", [2.0, 2.1, 2.2]))
    now = run_of(
        comparison("steady", [1.6, 1.7, 1.8]), comparison("fallen", [1.2, 1.3, 1.4]), comparison("new", [0.1])
    )
    (only,) = now.regressions(stored)
    assert (only.key, only.before, only.now) == ("fallen", 2.1, 1.3)
    assert not stored.regressions(stored)


def test_what_is_lower_once_is_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = run_of(comparison("fallen", [2.0, 2.1]), comparison("noisy", [2.0, 2.1]))
    now = run_of(comparison("fallen", [1.0]), comparison("noisy", [1.0]))
    again = run_of(comparison("fallen", [1.1]), comparison("noisy", [2.0]))
    asked: list[str] = []
    monkeypatch.setattr(suites, "run", lambda names, quick, progress: asked.extend(names) or again)
    assert [one.key for one in suites.confirmed(now, stored, lambda _: None)] == ["fallen"]
    assert asked == ["search"]
    assert suites.confirmed(stored, stored, lambda _: None) == []
    assert asked == ["search"]


def other_processor(run: Suite) -> Suite:
    return msgspec.structs.replace(run, machine=msgspec.structs.replace(run.machine, processor="Another"))


def test_runs_are_stored_by_kind_of_processor(tmp_path: Path) -> None:
    run = run_of(comparison("one", [2.0, 3.0], aim=2.0))
    path = tmp_path / "benchmarks.json"
    assert suites.load(path) == {}
    suites.store(run, path)
    suites.store(other_processor(run), path)
    assert suites.load(path) == {
        run.machine.kind: run,
        other_processor(run).machine.kind: other_processor(run),
    }
    latest = run_of(comparison("one", [4.0]))
    suites.store(latest, path)
    assert suites.load(path)[run.machine.kind] == latest


def test_the_kind_of_a_processor_is_its_name_cores_and_instruction_sets() -> None:
    machine = msgspec.structs.replace(
        Machine.here(), processor="CPU", cores=2, instruction_sets=("avx2", "avx512_vnni")
    )
    assert machine.kind == "CPU, 2 cores (avx2 avx512_vnni)"
    assert msgspec.structs.replace(machine, instruction_sets=("avx2",)).kind != machine.kind


def test_a_run_is_compared_with_one_of_the_same_kind_of_processor_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lower, before = run_of(comparison("fallen", [1.0])), run_of(comparison("fallen", [2.0, 2.1]))
    monkeypatch.setattr(suites, "run", lambda names, quick, progress: lower)
    path = tmp_path / "benchmarks.json"

    suites.store(other_processor(before), path)
    alone = CliRunner().invoke(app, ["all", "--quick", "--against", str(path)])
    assert alone.exit_code == 0
    assert "no figures of this kind of processor" in " ".join(alone.stderr.split())

    suites.store(before, path)
    beside = CliRunner().invoke(app, ["all", "--quick", "--against", str(path)])
    assert beside.exit_code == 1
    assert "lower than before" in beside.stderr


def test_stored_figures_can_be_read() -> None:
    for kind, run in suites.load(Path(__file__).parents[3] / "docs" / "benchmarks.json").items():
        assert kind == run.machine.kind
        assert run.comparisons


def test_tables_can_be_read_in_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "benchmarks.__main__.console", console := Console(width=80, record=True, file=StringIO())
    )
    _show(run_of(comparison("won", [2.0, 2.5, 3.0], aim=2.0)).parts)
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    (row,) = [line for line in lines if "what won" in line]
    assert [cell.strip() for cell in row.strip("│").split("│")][:2] == ["2.50×", "≥ 2 reached"]


def test_the_page_tells_everything_once() -> None:
    run = run_of(
        comparison("won", [2.0, 2.5, 3.0], aim=2.0, note="same boxes"),
        comparison("lost", [0.4, 0.5, 0.6], aim=2.0, note="same boxes"),
        figures=(Figure(key="f", what="ready", unit="s", value=Spread.of([6.0]), aim=5.0, note="cold"),),
    )
    text = page(run, run.regressions(run))
    assert (
        "| **2.50×** (2.25×–2.75×) | ≥ 2 reached | what won | a \\| rival 1.0 | 11 (10.5–11.5), 22 (21–23) ms |"
        in text
    )
    assert "| **0.50×** (0.45×–0.55×) | ≥ 2 missed |" in text
    assert "| 6 s | ≤ 5 missed | ready (cold) |" in text
    assert text.count("same boxes") == 1
    assert "A last word." in text
    assert "\n\n\n" not in text
    for line in text.splitlines():  # a table's lines follow one another
        if line.startswith("|---"):
            assert text.splitlines()[text.splitlines().index(line) + 1].startswith("|")


def test_the_picture_names_every_alternative() -> None:
    svg = plot(run_of(comparison("won", [2.0, 2.5, 3.0], aim=2.0), comparison("lost", [0.5])))
    words = "".join(ElementTree.fromstring(svg).itertext())
    assert "what won" in words
    assert "what lost" in words
    assert "2.50×" in words


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (1234.5, "1,234"), (99.95, "100"), (0.01234, "0.0123"), (0.00012, "0.0001")]
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_a_part_that_fails_is_named_with_what_it_said() -> None:
    run = suites.run(["nothing-of-this-name"], True, lambda _: None)
    assert not run.parts
    assert "nothing-of-this-name" in run.failed["nothing-of-this-name"]
