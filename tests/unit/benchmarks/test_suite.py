"""Ratios, their page and their picture, and what counts as lower than before."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from benchmarks import suite as suites
from benchmarks.comparison import Comparison, Figure, Part, Spread, faster
from benchmarks.machine import Machine
from benchmarks.page import number, page, picture
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
        parts=(Part(name="search", comparisons=comparisons, figures=figures, notes=("A last word.",)),),
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
    monkeypatch.setattr(suites, "run", lambda names, quick, tell: asked.extend(names) or again)
    assert [one.key for one in suites.confirmed(now, stored, lambda _: None)] == ["fallen"]
    assert asked == ["search"]
    assert suites.confirmed(stored, stored, lambda _: None) == []
    assert asked == ["search"]


def test_a_run_is_stored_and_read_again(tmp_path: Path) -> None:
    run = run_of(comparison("one", [2.0, 3.0], aim=2.0))
    path = tmp_path / "benchmarks.json"
    assert suites.load(path) is None
    path.write_bytes(msgspec.json.encode(run))
    assert suites.load(path) == run


def test_the_page_tells_everything_once() -> None:
    run = run_of(
        comparison("won", [2.0, 2.5, 3.0], aim=2.0, note="same boxes"),
        comparison("lost", [0.4, 0.5, 0.6], aim=2.0, note="same boxes"),
        figures=(Figure(key="f", what="ready", unit="s", value=Spread.of([6.0]), aim=5.0, note="cold"),),
    )
    text = page(run, run.regressions(run))
    assert (
        "| what won | ms | 11 (10.5–11.5) | a \\| rival 1.0 | 22 (21–23) | **2.50×** (2.25×–2.75×) | 2× reached |"
        in text
    )
    assert "**0.50×** (0.45×–0.55×) | 2× **missed**" in text
    assert "| ready (cold) | s | 6 | ≤ 5 **missed** |" in text
    assert text.count("same boxes") == 1
    assert "A last word." in text
    assert "\n\n\n" not in text
    for line in text.splitlines():  # a table's lines follow one another
        if line.startswith("|---"):
            assert text.splitlines()[text.splitlines().index(line) + 1].startswith("|")


def test_the_picture_names_every_alternative() -> None:
    svg = picture(run_of(comparison("won", [2.0, 2.5, 3.0], aim=2.0), comparison("lost", [0.5])))
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
