"""The moratoria of 2019 to 2026, replayed from the presets."""

from __future__ import annotations

import re
from datetime import date

import msgspec
import pytest

from abeyance.moratorium.decide import Clause
from abeyance.moratorium.document import FlagSet, parse
from abeyance.moratorium.presets import document, new_deployment, preset, presets
from abeyance.moratorium.tenants import Tenant
from abeyance.moratorium.validate import check

from .conftest import ask, tenant


def flags(*names: str) -> FlagSet:
    return parse(document(names))


POLICE = tenant("springfield-police", "law_enforcement", "US-IL")
AMAZON = flags("amazon-police-2020")
AMAZON_EXTENDED = flags("amazon-police-2020", "amazon-police-2021")
ORGANISATIONS = [
    tenant(name, "law_enforcement_support", place)
    for name, place in (("thorn", "US-CA"), ("icmec", "US-VA"), ("marinus-analytics", "US-PA"))
]


@pytest.mark.parametrize(
    ("when", "permitted"),
    [
        ("2020-06-09", True),
        ("2020-06-09T23:59:59", True),
        ("2020-06-10", False),
        ("2020-12-24", False),
        ("2021-06-09T23:59:59", False),
        ("2021-06-10", True),
    ],
)
def test_amazon_halts_police_for_exactly_one_year(when: str, permitted: bool) -> None:
    assert ask(AMAZON, POLICE, when).permitted is permitted


def test_a_halted_police_search_says_why() -> None:
    decision = ask(AMAZON, POLICE, "2020-06-10")
    assert decision.clause is Clause.HALTED
    assert decision.reason == "Police use of face recognition is halted for one year."
    assert [part.key for part in decision.flags] == ["amazon_police_2020"]
    assert "aboutamazon.com" in decision.flags[0].source
    assert len(decision.flags[0].version) == 12


@pytest.mark.parametrize("action", ["detect", "analyze", "compare", "index", "search", "template_search"])
def test_amazon_halts_every_action_of_police(action: str) -> None:
    assert not ask(AMAZON, POLICE, "2020-06-10", action=action).permitted


@pytest.mark.parametrize("sector", ["commercial", "city_department", "education", "nonprofit"])
def test_amazon_halts_nobody_but_police(sector: str) -> None:
    assert ask(AMAZON, tenant("acme", sector, "US-WA"), "2020-06-10").permitted


@pytest.mark.parametrize("who", ORGANISATIONS, ids=lambda who: who.id)
@pytest.mark.parametrize("purpose", ["human_trafficking", "missing_children"])
@pytest.mark.parametrize("when", ["2020-06-10", "2021-05-18", "2021-06-10", "2024-01-01"])
def test_the_three_organisations_go_on_for_their_purposes(who, purpose: str, when: str) -> None:
    decision = ask(AMAZON_EXTENDED, who, when, purpose=purpose)
    assert decision.permitted
    assert decision.clause is Clause.EXEMPTED
    assert all(part.clause == "exempts" for part in decision.flags)


@pytest.mark.parametrize("who", ORGANISATIONS, ids=lambda who: who.id)
@pytest.mark.parametrize("purpose", ["investigation", "access_control"])
def test_the_three_organisations_are_halted_for_any_other_purpose(who, purpose: str) -> None:
    assert not ask(AMAZON, who, "2020-06-10", purpose=purpose).permitted


@pytest.mark.parametrize("purpose", ["human_trafficking", "missing_children"])
def test_police_itself_is_not_exempt_for_these_purposes(purpose: str) -> None:
    assert not ask(AMAZON, POLICE, "2020-06-10", purpose=purpose).permitted


def test_nobody_else_is_exempt_for_these_purposes() -> None:
    other = tenant("another-organisation", "law_enforcement_support", "US-CA")
    assert not ask(AMAZON, other, "2020-06-10", purpose="missing_children").permitted


def test_the_extension_keeps_what_2021_06_10_would_have_lifted() -> None:
    assert ask(AMAZON, POLICE, "2021-06-10").permitted
    assert not ask(AMAZON_EXTENDED, POLICE, "2021-06-10").permitted
    assert not ask(AMAZON_EXTENDED, POLICE, "2026-11-22").permitted


def test_the_extension_is_a_record_of_its_own() -> None:
    both = ask(AMAZON_EXTENDED, POLICE, "2021-05-18")
    assert [part.key for part in both.flags] == ["amazon_police_2020", "amazon_police_2021"]
    after = ask(AMAZON_EXTENDED, POLICE, "2021-06-10")
    assert [part.key for part in after.flags] == ["amazon_police_2021"]
    before = ask(AMAZON_EXTENDED, POLICE, "2021-05-17T23:59:59")
    assert [part.key for part in before.flags] == ["amazon_police_2020"]


@pytest.mark.parametrize(
    "who",
    [POLICE, tenant("acme", "commercial", "DE"), tenant("school", "education", "JP"), ORGANISATIONS[0]],
    ids=lambda who: who.id,
)
def test_ibm_halts_everyone(who) -> None:
    ibm = flags("ibm-2020")
    assert ask(ibm, who, "2020-06-07T23:59:59", purpose="missing_children").permitted
    assert not ask(ibm, who, "2020-06-08", purpose="missing_children").permitted


def test_a_foreign_exemption_does_not_open_ibm_s_halt() -> None:
    together = flags("ibm-2020", "amazon-police-2020")
    decision = ask(together, ORGANISATIONS[0], "2020-06-10", purpose="missing_children")
    assert not decision.permitted
    assert {part.key: part.clause for part in decision.flags} == {
        "ibm_exit_2020": "halts",
        "amazon_police_2020": "exempts",
    }


@pytest.mark.parametrize(
    ("sector", "place", "when", "permitted"),
    [
        ("law_enforcement", "US-IL", "2020-06-10", True),
        ("law_enforcement", "US-IL", "2020-06-11", False),
        ("law_enforcement", "US", "2020-06-11", False),
        ("law_enforcement", "GB", "2020-06-11", True),
        ("commercial", "US-IL", "2020-06-11", True),
    ],
)
def test_microsoft_halts_police_in_the_united_states(sector, place, when, permitted) -> None:
    assert ask(flags("microsoft-2020"), tenant("asker", sector, place), when).permitted is permitted


@pytest.mark.parametrize(
    ("preset_id", "home", "voted", "eve"),
    [
        ("san-francisco-2019", "US-CA-SAN_FRANCISCO", "2019-05-14", "2019-05-13T23:59:59"),
        ("oakland-2019", "US-CA-OAKLAND", "2019-07-16", "2019-07-15T23:59:59"),
    ],
)
def test_city_bans_bind_their_departments_and_nobody_else_s(preset_id, home, voted, eve) -> None:
    ban = flags(preset_id)
    for sector in ("city_department", "law_enforcement"):
        department = tenant("department", sector, home)
        assert ask(ban, department, eve).permitted
        assert not ask(ban, department, voted).permitted
        for elsewhere in ("US-CA-LOS_ANGELES", "US-CA-SAN_JOSE", "US-OR-PORTLAND", "US-NY"):
            assert ask(ban, tenant("department", sector, elsewhere), voted).permitted
    for sector in ("commercial", "public_accommodation", "nonprofit", "government"):
        assert ask(ban, tenant("neighbour", sector, home), voted).permitted


def test_san_francisco_does_not_bind_oakland_nor_oakland_san_francisco() -> None:
    oakland = tenant("oakland-library", "city_department", "US-CA-OAKLAND")
    frisco = tenant("sf-library", "city_department", "US-CA-SAN_FRANCISCO")
    assert ask(flags("san-francisco-2019"), oakland, "2019-07-16").permitted
    assert ask(flags("oakland-2019"), frisco, "2019-07-16").permitted


def test_a_city_department_whose_city_is_not_known_is_bound_by_a_city_of_its_state() -> None:
    vague = tenant("some-department", "city_department", "US-CA")
    assert not ask(flags("san-francisco-2019"), vague, "2019-05-14").permitted


PORTLAND = flags("portland-2020")


@pytest.mark.parametrize("sector", ["city_department", "law_enforcement"])
def test_portland_binds_its_bureaus_at_once(sector: str) -> None:
    bureau = tenant("bureau", sector, "US-OR-PORTLAND")
    assert ask(PORTLAND, bureau, "2020-09-08T23:59:59").permitted
    assert not ask(PORTLAND, bureau, "2020-09-09").permitted


def test_portland_binds_places_of_public_accommodation_from_2021() -> None:
    shop = tenant("corner-shop", "public_accommodation", "US-OR-PORTLAND")
    assert ask(PORTLAND, shop, "2020-09-09").permitted
    assert ask(PORTLAND, shop, "2020-12-31T23:59:59").permitted
    assert not ask(PORTLAND, shop, "2021-01-01").permitted
    assert ask(PORTLAND, shop, "2021-01-01", purpose="device_unlock").clause is Clause.EXEMPTED


def test_portland_leaves_other_private_entities_and_other_portlands_alone() -> None:
    assert ask(PORTLAND, tenant("office", "commercial", "US-OR-PORTLAND"), "2021-01-01").permitted
    assert ask(PORTLAND, tenant("shop", "public_accommodation", "US-ME-PORTLAND"), "2021-01-01").permitted


def test_public_safety_guidance_restricts_and_never_lifts_the_review() -> None:
    guidance = flags("rekognition-public-safety")
    ordinary = ask(guidance, POLICE, "2020-06-10")
    assert (ordinary.clause, ordinary.min_similarity, ordinary.human_review) == (Clause.RESTRICTED, 99.0, 1)
    missing = ask(guidance, POLICE, "2020-06-10", purpose="missing_children")
    assert (missing.clause, missing.min_similarity, missing.human_review) == (Clause.RESTRICTED, None, 1)
    assert ask(guidance, POLICE, "2020-06-10", action="detect").clause is Clause.PERMITTED
    assert ask(guidance, tenant("acme", "commercial", "US-WA"), "2020-06-10").clause is Clause.PERMITTED


EU = flags("eu-ai-act-2025")
MEMBERS = re.findall("..", "ATBEBGCYCZDEDKEEESFIFRGRHRHUIEITLTLULVMTNLPLPTROSESISK")


@pytest.mark.parametrize("place", MEMBERS)
@pytest.mark.parametrize(
    ("sector", "action"),
    [
        ("education", "analyze"),
        ("commercial", "analyze"),
        ("law_enforcement", "search"),
        ("law_enforcement_support", "template_search"),
    ],
)
def test_the_eu_ai_act_binds_every_member_state_from_its_day(place: str, sector: str, action: str) -> None:
    someone = tenant("someone", sector, place)
    assert ask(EU, someone, "2025-02-01T23:59:59", action=action).permitted
    decision = ask(EU, someone, "2025-02-02", action=action)
    assert decision.clause is Clause.HALTED
    assert "2024/1689" in decision.flags[0].source


@pytest.mark.parametrize("place", ["CH", "GB", "NO", "TR", "US-WA"])
def test_the_eu_ai_act_binds_nobody_elsewhere(place: str) -> None:
    for sector, action in (("education", "analyze"), ("law_enforcement", "search")):
        assert ask(EU, tenant("someone", sector, place), "2025-02-02", action=action).permitted


def registered(someone: Tenant) -> Tenant:
    """The tenant with every purpose that the preset knows, as if whoever registers tenants had checked them."""
    known = {
        purpose
        for flag in preset("eu-ai-act-2025").flags.values()
        for purpose in flag.value["exempt_purposes"]
    }
    return msgspec.structs.replace(someone, purposes=tuple(sorted(known | set(someone.purposes))))


def test_emotions_in_education_are_inferred_for_medicine_and_safety_alone() -> None:
    school = registered(tenant("school", "education", "SE"))
    for purpose in ("medical_reasons", "safety_reasons"):
        assert ask(EU, school, "2025-02-02", action="analyze", purpose=purpose).clause is Clause.EXEMPTED
    assert not ask(EU, school, "2025-02-02", action="analyze", purpose="outside_workplace").permitted
    assert ask(EU, school, "2025-02-02", action="detect").permitted
    shop = registered(tenant("shop", "commercial", "SE"))
    assert ask(EU, shop, "2025-02-02", action="analyze", purpose="outside_workplace").permitted


def test_police_identify_in_real_time_for_the_exceptions_of_the_law_alone() -> None:
    police = registered(tenant("police", "law_enforcement", "DE-BE"))
    for purpose in ("missing_persons", "human_trafficking", "threat_to_life", "serious_crime_suspect"):
        assert ask(EU, police, "2025-02-02", action="search", purpose=purpose).permitted
    assert not ask(EU, police, "2025-02-02", action="search", purpose="access_control").permitted
    assert ask(EU, police, "2025-02-02", action="compare").permitted
    assert ask(EU, tenant("shop", "commercial", "DE"), "2025-02-02", action="search").permitted


def test_police_search_afterwards_by_an_authorisation_alone() -> None:
    police = tenant("polizia", jurisdiction="IT", purposes=("post_remote_identification", "investigation"))
    act = flags("eu-ai-act-2026")
    for when, clause in (("2026-08-01", Clause.PERMITTED), ("2026-08-02", Clause.AUTHORIZATION_REQUIRED)):
        assert ask(act, police, when, purpose="post_remote_identification").clause is clause
    assert ask(act, police, "2026-08-02", purpose="investigation").clause is Clause.HALTED


def test_a_new_deployment_halts_police_until_further_notice() -> None:
    start = parse(new_deployment())
    assert not ask(start, POLICE, "2026-11-22").permitted
    assert not ask(start, POLICE, "2126-11-22").permitted
    assert ask(start, tenant("acme", "commercial", "US-WA"), "2026-11-22").permitted
    assert ask(start, ORGANISATIONS[1], "2026-11-22", purpose="missing_children").permitted


@pytest.mark.parametrize("found", presets(), ids=lambda found: found.id)
def test_every_preset_is_valid_by_itself_and_says_where_it_is_from(found) -> None:
    assert check(document([found.id])) == []
    assert date.fromisoformat(found.announced).year in (2019, 2020, 2021, 2024)
    assert found.links
    assert all(link.startswith("https://") for link in found.links)
    for flag in found.flags.values():
        starts = flag.value["starts"][:10]
        assert starts >= found.announced
        # The ledger refuses long runs without a space, for fear of templates.
        assert not re.search(r"[A-Za-z0-9+/_=-]{129,}", flag.value["source"] + flag.value["reason"])


def test_presets_combine_and_name_what_is_wrong() -> None:
    everything = document([found.id for found in presets()])
    assert check(everything) == []
    assert len(parse(everything).flags) == 15
    with pytest.raises(KeyError, match="there are"):
        preset("amazon")
    with pytest.raises(ValueError, match="two presets"):
        document(["ibm-2020", "ibm-2020"])
