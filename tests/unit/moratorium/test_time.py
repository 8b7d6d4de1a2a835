"""Boundaries, timeline, simulation and words: what is made of flags and decisions."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from abeyance.aws.timestamps import later
from abeyance.moratorium.boundaries import Boundary, BoundaryType, boundaries, synchronize
from abeyance.moratorium.document import NEVER, FlagSet, instant, instant_text, parse
from abeyance.moratorium.errors import FlagsError
from abeyance.moratorium.presets import document, presets
from abeyance.moratorium.simulate import Direction, simulate
from abeyance.moratorium.timeline import Phase, bar_text, spans, svg, window
from abeyance.moratorium.words import explain, state, until

from . import strategies as s
from .conftest import ask, moment, tenant, value

EVERYTHING = parse(document([preset.id for preset in presets()]))
POLICE = tenant()


# -- boundaries


def test_an_end_is_announced_before_it_comes_and_when_it_comes() -> None:
    flags = parse({"a": value(starts="2020-06-10T00:00:00Z", ends="2021-06-10T00:00:00Z")})
    found = boundaries(flags, moment("2021-01-01"), moment("2022-01-01"))
    assert [(entry.at[:10], entry.type, entry.lead_seconds // 86400) for entry in found] == [
        ("2021-05-11", BoundaryType.ENDING, 30),
        ("2021-06-03", BoundaryType.ENDING, 7),
        ("2021-06-09", BoundaryType.ENDING, 1),
        ("2021-06-10", BoundaryType.ENDED, 0),
    ]
    assert all(entry.boundary == "2021-06-10T00:00:00Z" and not entry.held for entry in found)


def test_a_start_is_announced_and_a_disabled_flag_is_not() -> None:
    flags = parse({"a": value(starts="2021-01-01T00:00:00Z"), "b": {"enabled": False}})
    found = boundaries(flags, moment("2020-12-30"), moment("2021-12-31"))
    assert [(entry.type, entry.at[:10]) for entry in found] == [
        (BoundaryType.STARTING, "2020-12-31"),
        (BoundaryType.STARTING, "2021-01-01"),
    ]


def test_held_moratoria_say_that_they_stay() -> None:
    flags = parse({"a": value(ends="2021-06-10T00:00:00Z", on_expiry="hold")})
    found = boundaries(flags, moment("2021-06-01"), moment("2021-06-30"))
    assert [entry.held for entry in found] == [True, True, True]


def test_words_do_not_change_ids_and_dates_do() -> None:
    def ids(**attributes: Any) -> set[str]:
        flags = parse({"a": value(ends="2021-06-10T00:00:00Z", **attributes)})
        return {entry.id for entry in boundaries(flags, moment("2021-01-01"), moment("2022-01-01"))}

    assert ids() == ids(reason="Otherwise put.") == ids()
    assert not ids() & {
        entry.id
        for entry in boundaries(
            parse({"a": value(ends="2021-06-11T00:00:00Z")}), moment("2021-01-01"), moment("2022-01-01")
        )
    }


@s.MANY
@given(s.value_documents(), st.lists(st.integers(-400, 400), min_size=2, max_size=6))
def test_windows_laid_end_to_end_announce_everything_once(flags, hours) -> None:
    compiled = parse(flags)
    marks = sorted({s.day(5) + timedelta(hours=hour) for hour in hours})
    whole = boundaries(compiled, marks[0], marks[-1])
    pieces = [entry for start, end in pairwise(marks) for entry in boundaries(compiled, start, end)]
    assert pieces == whole
    assert len({entry.id for entry in whole}) == len(whole)


class Waiting:
    def __init__(self) -> None:
        self.entries: dict[str, Boundary] = {}

    def ids(self) -> set[str]:
        return set(self.entries)

    def put(self, boundary: Boundary) -> None:
        self.entries[boundary.id] = boundary

    def remove(self, boundary_id: str) -> None:
        self.entries.pop(boundary_id, None)


def test_the_schedule_follows_the_document() -> None:
    waiting, now = Waiting(), moment("2021-01-01")
    first = parse({"a": value(ends="2021-06-10T00:00:00Z")})
    assert synchronize(waiting, first, now) == (4, 0)
    assert synchronize(waiting, first, now) == (0, 0)
    longer = parse({"a": value(ends="2021-07-10T00:00:00Z")})
    assert synchronize(waiting, longer, now) == (4, 4)
    assert {entry.boundary for entry in waiting.entries.values()} == {"2021-07-10T00:00:00Z"}
    assert synchronize(waiting, parse({}), now) == (0, 4)


# -- timeline


def test_spans_of_the_presets() -> None:
    found = {(span.flag, span.phase, span.starts[:10], span.ends[:10]) for span in spans(EVERYTHING)}
    assert ("amazon_police_2020", Phase.EXEMPTING, "2020-06-10", "2021-06-10") in found
    assert ("amazon_police_2021", Phase.EXEMPTING, "2021-05-18", "") in found
    assert ("san_francisco_2019", Phase.IN_FORCE, "2019-05-14", "") in found


@s.MANY
@given(s.values(), s.moments)
def test_a_flag_is_in_a_span_exactly_when_it_is_in_force(flag, when) -> None:
    flags = parse({"a": flag})
    inside = [
        span
        for span in spans(flags)
        if instant(span.starts) <= when and (not span.ends or when < instant(span.ends))
    ]
    assert len(inside) == int(flags.flags[0].in_force(when))
    assert (state(flags.flags[0], when) == "held") is any(span.phase is Phase.HELD for span in inside)


def test_the_picture_is_self_contained_and_well_formed() -> None:
    found = spans(EVERYTHING)
    now = moment("2020-12-01")
    starts, ends = window(found, now)
    assert (starts.year, ends.year) == (2019, 2028)
    picture = ET.fromstring(svg(found, starts, ends, now))
    texts = [element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert {"ibm_exit_2020", "2019", "2020-12-01"} <= set(texts)
    for element in picture.iter():
        assert not any(name.endswith("href") for name in element.attrib)
    assert svg((), starts, ends, now).startswith("<svg")


def test_text_bars_show_short_spans() -> None:
    flags = parse({"a": value(starts="2020-06-10T00:00:00Z", ends="2020-06-11T00:00:00Z")})
    bar = bar_text(spans(flags), "a", moment("2019-01-01"), moment("2023-01-01"), 40)
    assert len(bar) == 40
    assert bar.count("█") == 1


# -- simulation


def entry(decision: Any, *, staged: bool = False, seq: int = 1) -> dict[str, Any]:
    body = msgspec.to_builtins(decision)
    return {
        "index": seq,
        "id": f"entry-{seq}",
        "type": "Upload Halted" if staged else "decision",
        "body": {"decision": body, "tenant": decision.tenant},
    }


@pytest.mark.parametrize("staged", [False, True])
def test_simulation_shows_both_directions(staged: bool) -> None:
    before, after = (
        parse({"halt_search": value(actions=["search"])}),
        parse({"halt_index": value(actions=["index"])}),
    )
    entries = [
        entry(ask(before, POLICE, "2021-01-01", action=action), staged=staged, seq=number)
        for number, action in enumerate(("search", "index", "detect"), start=1)
    ]
    result = simulate([{"type": "Faces Detected", "body": {"faces_count": 1}}, *entries], after)
    assert (result.decisions, result.replayed, result.skipped) == (3, 3, 0)
    assert [(d.index, d.direction, d.action) for d in result.differences] == [
        (1, Direction.NEWLY_PERMITTED, "search"),
        (2, Direction.NEWLY_DENIED, "index"),
    ]
    assert result.differences[1].flags == ("halt_index",)


def test_simulation_sees_changed_terms_and_skips_what_was_never_decided() -> None:
    def restricted(similarity: int) -> Any:
        return parse({"a": value(effect="restrict", min_similarity=similarity)})

    recorded = entry(ask(restricted(90), POLICE, "2021-01-01"))
    assert simulate([recorded], restricted(99)).count(Direction.MORE_RESTRICTED) == 1
    assert simulate([recorded], restricted(80)).count(Direction.LESS_RESTRICTED) == 1
    assert simulate([recorded], parse({})).count(Direction.LESS_RESTRICTED) == 1
    fault = entry(ask(b"", POLICE, "2021-01-01"))
    broken = {"type": "decision", "body": {"decision": {"outcome": "permit"}}}
    result = simulate([fault, broken, {"type": "decision"}], restricted(99))
    assert (result.decisions, result.skipped, result.differences) == (2, 2, ())


@s.MANY
@given(s.value_documents(), s.requests(), s.moments)
def test_a_document_changes_none_of_its_own_decisions(flags, request_, when) -> None:
    from abeyance.moratorium.decide import decide

    compiled = parse(flags)
    result = simulate([entry(decide(request_, compiled, when))], compiled)
    assert (result.replayed, result.differences) == (1, ())


# -- words


def test_a_halt_is_explained() -> None:
    flags = parse(document(["amazon-police-2020"]))
    sentences = explain(ask(flags, POLICE, "2020-06-10"), flags)
    assert sentences[0] == (
        "springfield-police (law enforcement, US-IL) may not search for investigation on 2020-06-10. "
        "Police use of face recognition is halted for one year."
    )
    assert "amazon_police_2020 halts it" in sentences[1]
    assert "until 2021-06-10" in sentences[1]
    assert sentences[2] == "As the flags stand, nothing in force now halts it from 2021-06-10 on."


def test_what_lasts_says_so() -> None:
    flags = parse(document(["amazon-police-2020", "amazon-police-2021"]))
    assert explain(ask(flags, POLICE, "2021-05-18"), flags)[-1].startswith("It does not end by itself")
    held = parse({"a": value(ends="2021-01-01T00:00:00Z", on_expiry="hold")})
    sentences = explain(ask(held, POLICE, "2022-01-01"), held)
    assert "still halts it, past its end" in sentences[1]
    assert until(held.flags[0]) == "2021-01-01, then held"


def test_exemptions_restrictions_permissions_and_faults_are_explained() -> None:
    amazon = parse(document(["amazon-police-2020"]))
    thorn = tenant("thorn", "law_enforcement_support", "US-CA")
    exempt = explain(ask(amazon, thorn, "2020-06-10", purpose="missing_children"), amazon)
    assert (
        "exempts thorn and icmec and marinus-analytics for human trafficking or missing children" in exempt[1]
    )
    guidance = parse(document(["rekognition-public-safety"]))
    restricted = explain(ask(guidance, POLICE, "2020-06-10"), guidance)
    assert "similarity of at least 99 and review by a person" in restricted[0]
    assert any("restricts it (review by 1)" in sentence for sentence in restricted)
    free = explain(ask(parse({}), POLICE, "2020-06-10"), parse({}))
    assert free[1] == "No moratorium that binds this tenant there is in force."
    fault = explain(ask(b"", POLICE, "2020-06-10"), parse({}))
    assert "flags_empty" in fault[1]


# -- the ends of the calendar

#: Flags at both ends: starts and ends.
EDGES = {
    "first": ("0001-01-01T00:00:00Z", None),
    "first-to-last": ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"),
    "before-1970": ("1969-12-31T23:59:59Z", "1970-01-01T00:00:01Z"),
    "last": ("9999-12-31T23:59:58Z", "9999-12-31T23:59:59Z"),
    "now-to-last": ("2020-01-01T00:00:00Z", "9999-12-31T23:59:59Z"),
}
ENDS_OF_TIME = (
    datetime.min.replace(tzinfo=UTC),
    moment("0001-01-15"),
    moment("1970-01-01"),
    moment("2026-06-10"),
    moment("9999-12-15"),
    NEVER,
)


def edge_flags() -> FlagSet:
    return parse({name: value(starts=starts, ends=ends) for name, (starts, ends) in EDGES.items()})


@pytest.mark.parametrize("now", ENDS_OF_TIME, ids=str)
def test_flags_at_the_ends_of_the_calendar_stop_nothing(now: datetime) -> None:
    flags = edge_flags()
    found = spans(flags)
    assert {span.flag for span in found} == set(EDGES)
    starts, ends = window(found, now)
    assert starts <= now <= ends
    ET.fromstring(svg(found, starts, ends, now))
    for name in EDGES:
        assert "█" in bar_text(found, name, starts, ends, 40)
    for flag in flags.flags:
        assert state(flag, now) in ("in force", "not yet", "ended")
        assert until(flag)
    decision = ask(flags, POLICE, now)
    assert explain(decision, flags)
    assert (decision.fault != "") == (now == NEVER)
    Waiting = type("Waiting", (dict,), {"ids": set, "put": lambda own, one: own.update({one.id: one})})
    waiting = Waiting()
    synchronize(waiting, flags, now)
    assert all(instant(one.at) > now for one in waiting.values())


def test_the_ends_of_the_calendar_are_announced_once() -> None:
    everything = boundaries(edge_flags(), ENDS_OF_TIME[0], NEVER)
    assert len({entry.id for entry in everything}) == len(everything)
    pieces = [one for start, end in pairwise(ENDS_OF_TIME) for one in boundaries(edge_flags(), start, end)]
    assert pieces == everything
    assert [entry.at for entry in everything if entry.flag == "last" and not entry.lead_seconds] == list(
        EDGES["last"]
    )
    assert not [entry for entry in everything if entry.flag == "first"]


@given(
    st.datetimes(timezones=st.just(UTC)).map(lambda when: when.replace(microsecond=0)),
    st.datetimes(timezones=st.just(UTC)),
    st.timedeltas(min_value=timedelta(0)),
)
def test_announcements_lie_in_their_window_wherever_it_is(
    edge: datetime, after: datetime, length: timedelta
) -> None:
    flags = parse({"a": value(starts=instant_text(edge))})
    limit = later(after, length)
    found = boundaries(flags, after, limit)
    assert all(after < instant(entry.at) <= limit for entry in found)
    assert (after < edge <= limit) == any(not entry.lead_seconds for entry in found)


@pytest.mark.parametrize(
    "text",
    [
        "2016-12-31T23:59:60Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "10000-01-01T00:00:00Z",
        "-001-01-01T00:00:00Z",
        "2021-02-29T00:00:00Z",
        "2021-01-01T24:00:01Z",
    ],
)
def test_a_date_that_is_none_is_refused_with_the_flag(text: str) -> None:
    with pytest.raises(FlagsError, match="'a'"):
        parse({"a": value(starts=text)})
