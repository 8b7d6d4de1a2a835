"""Places: two codes of one place are one place, it lies in its state, and presets bind all that they name."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pycountry
import pytest
from hypothesis import given
from hypothesis import strategies as st

from abeyance.moratorium import places
from abeyance.moratorium.changes import ChangeKind, classify
from abeyance.moratorium.decide import Clause
from abeyance.moratorium.document import parse
from abeyance.moratorium.places import (
    COUNTRIES,
    INSIDE,
    SAME,
    US_SUBDIVISIONS,
    canonical_place,
    is_jurisdiction,
    is_known_place,
    lineage,
    overlap,
    within,
)
from abeyance.moratorium.presets import document
from abeyance.moratorium.validate import check

from . import strategies as s
from .conftest import ask, hosted, tenant, value

#: ISO 3166 gives each of these a code of its own and one under a state.
TWICE = {
    "US": "AS GU MP PR UM VI",
    "FR": "BL GF GP MF MQ NC PF PM RE TF WF YT",
    "CN": "HK MO TW",
    "NL": "AW BQ CW SX",
    "FI": "AX",
    "NO": "SJ",
}
TERRITORIES = [(state, code) for state, codes in TWICE.items() for code in codes.split()]
#: Every pair of two codes of one place.
PAIRS = sorted(SAME.items())
SUBDIVISIONS = {found.code: found for found in pycountry.subdivisions}


@pytest.mark.parametrize(
    ("place", "exists", "known"),
    [
        ("US", True, True),
        ("DE-BY", True, True),
        ("DE-BY-MUNICH", True, True),
        ("US-CA", True, True),
        ("US-CA-SAN_FRANCISCO", True, True),
        ("US-CA-SAN_FRANSISCO", True, False),
        ("US-PR", True, True),
        ("US-PR-SAN_JUAN", True, False),
        ("US-UM-81", True, True),
        ("EU", True, True),
        ("EU-DE", False, False),
        ("US-CB", False, False),
        ("UK", False, False),
        ("US-CA-", False, False),
        ("US\n", False, False),
        ("all", False, False),
        (None, False, False),
    ],
)
def test_a_place_exists_or_does_not(place: Any, exists: bool, known: bool) -> None:
    assert is_jurisdiction(place) is exists
    assert is_known_place(place) is known


def test_places_overlap_in_both_directions_and_not_by_spelling() -> None:
    assert overlap("US", "US-CA")
    assert overlap("US-CA", "US")
    assert not overlap("US-CA", "US-CO")
    assert not overlap("US-CA-SAN_JOSE", "US-CA-SAN")
    assert within("US-CA", "US")
    assert not within("US", "US-CA")


# -- the table against ISO's lists, as the iso-codes project publishes them


def test_the_countries_and_the_states_are_those_of_iso() -> None:
    assert {country.alpha_2 for country in pycountry.countries} == COUNTRIES
    assert {code[3:] for code in SUBDIVISIONS if code.startswith("US-")} == US_SUBDIVISIONS


def test_every_subdivision_lies_in_its_parent_and_in_its_state() -> None:
    assert len(SUBDIVISIONS) > 5000
    for code, found in SUBDIVISIONS.items():
        assert is_known_place(code), code
        assert within(code, found.country_code), code
        if found.parent_code:
            assert within(code, found.parent_code), code
            assert not within(found.parent_code, code), code


def test_no_country_is_a_subdivision_without_the_table_knowing_it() -> None:
    """A subdivision whose second part is a country's code and whose name is that country's."""
    for code, found in SUBDIVISIONS.items():
        country = pycountry.countries.get(alpha_2=code[3:])
        if country is None or country.alpha_2 == found.country_code or found.type == "Prefecture":
            continue
        names = {country.name, getattr(country, "common_name", country.name)}
        if any(name.split(",")[0].split(" (")[0] == found.name.split(",")[0] for name in names):
            assert canonical_place(code) == country.alpha_2, code


def test_the_table_has_no_loops_and_its_codes_exist() -> None:
    for code in {*SAME, *SAME.values(), *INSIDE, *INSIDE.values()}:
        assert is_jurisdiction(code), code
        assert lineage(code)[-1] == SAME.get(code, code)
        assert all(place in places.COUNTRIES for place in lineage(code)[:1])
    assert not SAME.keys() & INSIDE.keys()


# -- two codes, one place


def test_every_territory_of_iso_is_in_the_table() -> None:
    for state, code in TERRITORIES:
        assert lineage(code) == (state, code)
        assert any(one == code and other.startswith(state) for other, one in PAIRS) or code in ("BQ", "SJ")


@pytest.mark.parametrize(("one", "other"), [*PAIRS, *((other, one) for one, other in PAIRS)])
def test_two_codes_of_a_place_are_one_place(one: str, other: str) -> None:
    assert overlap(one, other)
    assert within(one, other)
    assert within(other, one)
    flags = parse(hosted(a=value(jurisdictions=[one])))
    there = tenant(jurisdiction=other)
    assert ask(flags, there, "2026-01-01").clause is Clause.HALTED
    inside = f"{other}-X1" if "-" in other else f"{other}-X1-SOMEWHERE"
    assert ask(flags, tenant(jurisdiction=inside), "2026-01-01").clause is Clause.HALTED
    assert ask(parse({}), there, "2026-01-01", jurisdiction=one).clause is Clause.PERMITTED
    assert ask(parse({}), there, "2026-01-01", jurisdiction="SE").clause is Clause.PLACE_NOT_REGISTERED
    renamed = classify(flags, parse(hosted(a=value(jurisdictions=[other]))))
    assert renamed.kind is ChangeKind.NEUTRAL
    assert check(hosted(a=value(jurisdictions=[one]))) == []


@pytest.mark.parametrize(("state", "code"), TERRITORIES)
def test_a_territory_lies_in_its_state(state: str, code: str) -> None:
    bound = parse(hosted(a=value(jurisdictions=[state])))
    for place in [code, *(other for other, one in PAIRS if one == code)]:
        assert ask(bound, tenant(jurisdiction=place), "2026-01-01").clause is Clause.HALTED
        # Whoever is registered in the state alone may be there.
        local = parse(hosted(a=value(jurisdictions=[place])))
        assert ask(local, tenant(jurisdiction=state), "2026-01-01").clause is Clause.HALTED
        narrower = classify(bound, parse(hosted(a=value(jurisdictions=[place]))))
        assert narrower.kind is ChangeKind.LOOSENING


def test_territories_of_one_state_are_apart() -> None:
    for (state, one), (other_state, other) in itertools.combinations(TERRITORIES, 2):
        assert not overlap(one, other), (one, other)
        assert not overlap(one, other_state) or state == other_state


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("NL-BQ2", "BQ-SA"),
        ("FR-971", "FR-GP"),
        ("CN-91", "HK"),
        ("GB-UKM", "GB"),
        ("GB-CYM", "GB-WLS"),
        ("US-UM-81", "UM-81"),
        ("US-PR-SAN_JUAN", "US-PR-SAN_JUAN"),
    ],
)
def test_other_spellings_of_one_place(one: str, other: str) -> None:
    assert canonical_place(one) == canonical_place(other)


@pytest.mark.parametrize(
    ("inner", "outer"),
    [
        ("NL-BQ1", "BQ"),
        ("NL-BQ1", "NL"),
        ("BQ-BO", "NL"),
        ("NO-21", "SJ"),
        ("NO-22", "NO"),
        ("TW-TPE", "CN-TW"),
        ("UM-81", "US"),
        ("FR-75C", "FR-IDF"),
        ("GB-LND", "GB-ENG"),
        ("GB-WLS", "GB-EAW"),
        ("GB-ENG", "GB-GBN"),
        ("GB-NIR", "GB-UKM"),
        ("ES-M", "ES-MD"),
        ("IT-RM", "IT-62"),
        ("FR-75C-LOUVRE", "FR-IDF"),
    ],
)
def test_a_part_lies_in_its_whole(inner: str, outer: str) -> None:
    assert within(inner, outer)
    assert not within(outer, inner)
    assert overlap(outer, inner)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("GL", "DK"),
        ("FO", "DK"),
        ("GI", "GB"),
        ("IM", "GB"),
        ("JE", "GB-ENG"),
        ("CK", "NZ"),
        ("CX", "AU"),
        ("NO-21", "NO-22"),
        ("NL-BQ1", "NL-BQ2"),
        ("GB-NIR", "GB-GBN"),
        ("GB-SCT", "GB-EAW"),
        ("FR-75C", "FR-ARA"),
        ("HK", "TW"),
        ("MA-01", "EH"),
        ("MA-GUE", "EH"),
    ],
)
def test_places_apart(one: str, other: str) -> None:
    assert not overlap(one, other)
    assert not overlap(other, one)


@pytest.mark.parametrize("place", ["MA", "MA-12", "MA-OUD", "MA-LAA", "MA-11", "MA-10", "EH", "EH-X1"])
def test_what_iso_lists_partly_in_two_places_is_bound_from_both(place: str) -> None:
    assert overlap("EH", place)
    assert overlap(place, "EH")
    assert within(place, "EH") == (place in ("MA-OUD", "MA-LAA", "EH", "EH-X1"))


every_place = st.one_of(
    st.sampled_from(sorted({*SAME, *SAME.values(), *INSIDE, *INSIDE.values()})),
    st.sampled_from(
        ["EU", "EH", "EH-X1", "US-CA-OAKLAND", "PR", "US-PR-SAN_JUAN", "FR", "NC", "DE", "DE-BY"]
    ),
    st.sampled_from(sorted(COUNTRIES)),
)


@s.MANY
@given(every_place, every_place, every_place)
def test_the_laws_of_places(a: str, b: str, c: str) -> None:
    assert overlap(a, a)
    assert within(a, a)
    assert overlap(a, b) == overlap(b, a)
    if within(a, b):
        assert overlap(a, b)
        # Whatever lies in a place is bound wherever that place is bound.
        assert not overlap(a, c) or overlap(b, c)
        assert not within(b, c) or within(a, c)


# -- presets

EU = parse(document(["eu-ai-act-2025"]))
#: Articles 349 and 355 TFEU: the treaties apply.
IN_THE_EU = re.findall(
    r"\S+", "GP GF MQ RE YT MF AX FR-971 FR-YT FI-01 PT-20 PT-30 ES-CN ES-CE ES-ML DE-BY FR-IDF EU"
)
#: Annex II TFEU, Article 355(5), and what lies in no member state.
NOT_IN_THE_EU = re.findall(
    r"\S+", "PM BL NC PF WF TF GL FO AW CW SX BQ FR-NC NL-AW NL-BQ1 BQ-SA SJ NO CH GB GI IM JE IS LI TR US-WA"
)


@pytest.mark.parametrize("place", IN_THE_EU)
def test_the_eu_preset_binds_all_of_the_eu(place: str) -> None:
    for sector, action in (("education", "analyze"), ("law_enforcement", "search")):
        someone = tenant("someone", sector, place)
        assert ask(EU, someone, "2025-02-02", action=action).clause is Clause.HALTED


@pytest.mark.parametrize("place", NOT_IN_THE_EU)
def test_the_eu_preset_binds_nothing_else(place: str) -> None:
    for sector, action in (("education", "analyze"), ("law_enforcement", "search")):
        assert ask(EU, tenant("someone", sector, place), "2025-02-02", action=action).permitted


@pytest.mark.parametrize(
    "place", [*sorted(US_SUBDIVISIONS), "US", "PR", "GU", "VI", "AS", "MP", "UM", "UM-81"]
)
def test_the_preset_for_the_us_binds_its_police_everywhere(place: str) -> None:
    flags = parse(document(["microsoft-2020"]))
    there = place if len(place) != 2 or place not in US_SUBDIVISIONS else f"US-{place}"
    for spelled in {there, place if place in ("PR", "GU", "VI", "AS", "MP", "UM") else there}:
        police = tenant("police", "law_enforcement", spelled)
        assert ask(flags, police, "2020-06-11").clause is Clause.HALTED


def test_a_member_state_is_in_the_union_as_far_as_the_treaties_apply() -> None:
    assert within("DE", "EU")
    assert within("FI", "EU")
    assert within("DK", "EU")
    assert not within("FR", "EU")
    assert not within("NL", "EU")
    assert overlap("FR", "EU")
    assert not within("EU", "FR")
