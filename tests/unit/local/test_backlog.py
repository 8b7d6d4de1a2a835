"""The lines about photos that wait."""

from __future__ import annotations

from abeyance.local.backlog import Backlog


def test_a_backlog_is_told_with_its_rate_until_it_ends() -> None:
    backlog = Backlog()
    assert backlog.observe(0, 1000, 0) == "1000 photos wait."
    assert backlog.observe(10, 940, 60) == "940 photos wait; at 6.0 a second they take about 3 min."
    assert backlog.observe(20, 820, 180) == "820 photos wait; at 9.0 a second they take about 2 min."
    assert backlog.observe(60, 300, 700) == "300 photos wait."
    assert backlog.observe(70, 240, 760) == "240 photos wait; at 6.0 a second they take about 40 s."
    assert backlog.observe(80, 5, 990) == ""
    assert backlog.observe(90, 0, 1000) == "No photo waits any more."
    assert backlog.observe(100, 0, 1000) == ""


def test_a_few_photos_are_not_told() -> None:
    backlog = Backlog()
    assert [backlog.observe(number, 9 - number, number) for number in range(10)] == [""] * 10


def test_what_takes_hours() -> None:
    backlog = Backlog()
    backlog.observe(0, 50_000, 0)
    assert backlog.observe(10, 50_000, 50) == "50000 photos wait; at 5.0 a second they take about 2.8 h."
