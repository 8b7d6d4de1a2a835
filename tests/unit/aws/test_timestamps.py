"""Moments at both ends of the calendar."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abeyance.aws.timestamps import later, parse_moment, rfc3339

ZONES = st.timezones() | st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
LAST = datetime.max.replace(tzinfo=UTC)


@given(st.datetimes(timezones=st.just(UTC)), st.timedeltas(min_value=timedelta(0)))
def test_later_is_the_sum_or_the_last_moment(moment: datetime, wait: timedelta) -> None:
    found = later(moment, wait)
    assert moment <= found <= LAST
    assert found - moment == wait or (found == LAST and LAST - moment < wait)


@given(st.datetimes(timezones=ZONES))
def test_a_moment_is_read_as_written_or_refused(moment: datetime) -> None:
    text = moment.isoformat()
    try:
        found = parse_moment(text)
    except ValueError:
        assert moment.year in (1, 9999)
        return
    assert found == datetime.fromisoformat(text)
    assert datetime.fromisoformat(rfc3339(found, "auto")) == found


@pytest.mark.parametrize(
    "text",
    [
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-00:01",
        "2016-12-31T23:59:60Z",
        "0000-01-01",
        "10000-01-01",
    ],
)
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_moment(text)


@pytest.mark.parametrize("text", ["0001-01-01", "9999-12-31T23:59:59.999999Z", "1969-12-31T23:59:59Z"])
def test_the_ends_of_the_calendar_are_moments(text: str) -> None:
    assert rfc3339(parse_moment(text), "auto").startswith(text.rstrip("Z"))
