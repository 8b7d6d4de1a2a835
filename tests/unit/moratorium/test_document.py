"""The flags document: strict reading, the two shapes of one thing, the schema, the vocabulary."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import abeyance.moratorium
from abeyance.moratorium import model, vocabulary
from abeyance.moratorium.changes import ChangeKind, classify
from abeyance.moratorium.document import document_digest, parse
from abeyance.moratorium.errors import Fault, FlagsError
from abeyance.moratorium.presets import document as of_presets
from abeyance.moratorium.presets import new_deployment, presets
from abeyance.moratorium.schema import attribute_definitions, definition, json_schema
from abeyance.moratorium.validate import check

from . import strategies as s
from .conftest import hosted, moment, value

SCHEMA = json_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def fault(raw: Any) -> Fault:
    with pytest.raises(FlagsError) as caught:
        parse(raw)
    return caught.value.fault


def test_no_flags_at_all_is_a_document() -> None:
    assert parse({}).flags == ()
    assert parse(b"{}").flags == ()
    assert parse({"version": "1", "flags": {}, "values": {}}).flags == ()


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", Fault.FLAGS_EMPTY),
        (b" \n ", Fault.FLAGS_EMPTY),
        (b"{", Fault.FLAGS_UNREADABLE),
        (b"[]", Fault.FLAGS_UNREADABLE),
        (b"null", Fault.FLAGS_UNREADABLE),
        (b'"halt"', Fault.FLAGS_UNREADABLE),
        (b"\xff\xfe{}", Fault.FLAGS_UNREADABLE),
        (b'{"a": {"enabled": false}, "a": {"enabled": false}}', Fault.FLAGS_UNREADABLE),
        (b'{"a": {"enabled": true, "enabled": false}}', Fault.FLAGS_UNREADABLE),
        (b'{"a": NaN}', Fault.FLAGS_UNREADABLE),
        (b"[" * 100_000, Fault.FLAGS_UNREADABLE),
        (b" " * (1 << 20) + b"{}", Fault.FLAGS_TOO_LARGE),
        (b'{"version": "2", "flags": {}, "values": {}}', Fault.FLAGS_SCHEMA_VERSION),
        (b'{"version": 1, "flags": {}, "values": {}}', Fault.FLAGS_SCHEMA_VERSION),
        (b'{"version": "1", "values": {}}', Fault.FLAGS_UNREADABLE),
        (b'{"version": "1", "flags": {}, "values": {}, "more": 1}', Fault.FLAGS_UNREADABLE),
        (b'{"flags": {}, "values": {}}', Fault.FLAGS_UNREADABLE),
        (None, Fault.FLAGS_UNREADABLE),
        (17, Fault.FLAGS_UNREADABLE),
    ],
)
def test_what_is_not_a_document_is_a_fault(raw: Any, expected: Fault) -> None:
    assert fault(raw) is expected


@pytest.mark.parametrize(
    "attributes",
    [
        {"effect": "stop"},
        {"effect": None},
        {"actions": []},
        {"actions": "all"},
        {"actions": ["fly"]},
        {"actions": ["search"] * 26},
        {"sectors": ["police"]},
        {"jurisdictions": ["USA"]},
        {"jurisdictions": ["us-ca"]},
        {"jurisdictions": ["XX"]},
        {"jurisdictions": ["US-ZZ"]},
        {"jurisdictions": ["US-CA-San Francisco"]},
        {"jurisdictions": ["US\n"]},
        {"starts": "2020-06-10"},
        {"starts": "2020-06-10T00:00:00"},
        {"starts": "2020-06-10T00:00:00+00:00"},
        {"starts": "2020-02-30T00:00:00Z"},
        {"starts": "2020-06-10T00:00:00Z\n"},
        {"starts": 1591747200},
        {"ends": "2020-01-01T00:00:00Z"},
        {"ends": "2019-01-01T00:00:00Z"},
        {"ends": ""},
        {"ends": False},
        {"on_expiry": "maybe"},
        {"on_expiry": None},
        {"exempt_tenants": ["thorn"]},
        {"exempt_tenants": ["thorn"], "exempt_purposes": []},
        {"exempt_tenants": ["thorn\n"], "exempt_purposes": ["missing_children"]},
        {"exempt_purposes": ["all purposes"]},
        {"exempt_until": "2021-01-01T00:00:00Z"},
        {"min_similarity": 99},
        {"human_review": 1},
        {"effect": "restrict"},
        {"effect": "restrict", "min_similarity": 101},
        {"effect": "restrict", "min_similarity": "99"},
        {"effect": "restrict", "min_similarity": True},
        {"effect": "restrict", "human_review": 0},
        {"effect": "restrict", "human_review": 1.5},
        {"effect": "restrict", "human_review": True},
        {"reason": ""},
        {"reason": "x" * 1025},
        {"source": None},
        {"until": "2021-01-01T00:00:00Z"},
        {"_variants": []},
        {"enabled": "true"},
        {"enabled": 1},
        {"enabled": None},
    ],
    ids=json.dumps,
)
def test_a_flag_that_is_not_exactly_one_makes_the_document_unreadable(attributes: dict[str, Any]) -> None:
    flag = value(**attributes)
    assert fault({"a": flag}) is Fault.FLAGS_UNREADABLE
    assert fault(hosted(fine=value(), a=flag)) is Fault.FLAGS_UNREADABLE


def test_a_disabled_flag_may_lack_attributes_but_not_have_wrong_ones() -> None:
    assert parse({"a": {"enabled": False}}).disabled == ("a",)
    assert parse({"a": value(enabled=False)}).disabled == ("a",)
    assert fault({"a": {"enabled": False, "effect": "stop"}}) is Fault.FLAGS_UNREADABLE
    assert fault({"a": {"enabled": False, "more": 1}}) is Fault.FLAGS_UNREADABLE


def test_whole_numbers_may_come_as_doubles() -> None:
    flags = parse('{"a": ' + json.dumps(value(effect="restrict", human_review=2.0)) + "}").flags
    assert flags[0].human_review == 2


def test_hosted_document_and_its_values_say_the_same() -> None:
    off = value(enabled=False)
    document = hosted(a=value(), b=off, c=value(effect="restrict", min_similarity=99))
    values_only = {
        "a": value(),
        "b": {"enabled": False},
        "c": value(effect="restrict", min_similarity=99.0),
    }
    assert parse(document).digest == parse(values_only).digest
    assert parse(document).version == f"sha256:{parse(document).digest[:12]}"
    assert parse(document, version="7").version == "7"


def test_appconfig_s_own_dates_do_not_count() -> None:
    document = hosted(a=value())
    stamped = copy.deepcopy(document)
    stamped["flags"]["a"]["_createdAt"] = "2026-01-01T00:00:00.000Z"
    stamped["values"]["a"]["_updatedAt"] = "2026-01-02T00:00:00.000Z"
    assert document_digest(stamped) == document_digest(document)
    assert parse(stamped).digest == parse(document).digest


def test_flags_and_values_must_name_the_same_flags() -> None:
    document = hosted(a=value(), b=value())
    del document["flags"]["b"]
    assert fault(document) is Fault.FLAGS_UNREADABLE
    document = hosted(a=value(), b=value())
    del document["values"]["b"]
    assert fault(document) is Fault.FLAGS_UNREADABLE


def test_flags_may_be_called_version_flags_and_values() -> None:
    assert len(parse({"version": value(), "flags": value(), "values": value()}).flags) == 3


@pytest.mark.parametrize("key", ["Upper", "1st", "with space", "", "a" * 65, "a\n"])
def test_flag_keys_are_appconfig_s(key: str) -> None:
    assert fault({key: value()}) is Fault.FLAGS_UNREADABLE


# -- the schema and AppConfig's limits


def test_the_committed_schema_is_current() -> None:
    committed = Path(abeyance.moratorium.__file__).parent / "flags.schema.json"
    assert json.loads(committed.read_text()) == SCHEMA, (
        "python -m abeyance.moratorium.schema > " + committed.name
    )
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("preset", presets(), ids=lambda preset: preset.id)
def test_every_preset_fits_the_schema(preset) -> None:
    VALIDATOR.validate(of_presets([preset.id]))


#: The four points that JSON Schema cannot express, as the parser words them.
INEXPRESSIBLE = re.compile(
    "every flag needs a definition|ends must be later|must be a UTC date and time|does not exist; use ISO"
)


def agree(document: dict[str, Any]) -> None:
    text = json.loads(json.dumps(document))
    complaint = ""
    try:
        parse(text)
    except FlagsError as error:
        complaint = str(error)
    if VALIDATOR.is_valid(text):
        assert not complaint or INEXPRESSIBLE.search(complaint), complaint
    else:
        assert complaint, next(iter(VALIDATOR.iter_errors(text))).message


@s.MANY
@given(st.dictionaries(s.KEYS, st.one_of(s.values(), st.just({"enabled": False})), max_size=3))
def test_schema_and_parser_accept_generated_documents(values) -> None:
    document = hosted(**values)
    VALIDATOR.validate(document)
    parse(document)


junk = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 200),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=12),
    st.lists(st.sampled_from(["all", "search", "US", "US-CA", "xx", ""]), max_size=3),
    st.sampled_from(
        ["restrict", "halt", "hold", "2021-02-28T00:00:00Z", "2021-02-30T00:00:00Z", "missing_persons"]
    ),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@settings(s.MANY, max_examples=400)
@given(s.values(), st.data())
def test_schema_and_parser_agree_on_damaged_documents(flag, data) -> None:
    document = hosted(a=flag)
    place = data.draw(st.sampled_from(["value", "definition", "top"]))
    target = {"value": document["values"]["a"], "definition": document["flags"]["a"], "top": document}[place]
    names = (
        sorted(target)
        + {
            "value": [
                "ends",
                "exempt_tenants",
                "exempt_purposes",
                "exempt_until",
                "min_similarity",
                "human_review",
            ],
            "definition": ["_deprecation", "name", "extra"],
            "top": ["extra"],
        }[place]
    )
    name = data.draw(st.sampled_from(names))
    if data.draw(st.booleans()):
        target.pop(name, None)
    else:
        target[name] = data.draw(junk)
    assume(not (name in ("description", "name") and isinstance(target.get(name), str)))
    agree(document)


def test_definitions_stay_within_appconfig_s_limits() -> None:
    """Source: type reference for AWS.AppConfig.FeatureFlags."""
    attributes = attribute_definitions()
    assert len(attributes) + 1 <= 25
    assert set(attributes) == {
        name
        for name in model.FlagValue.__struct_fields__
        if name not in ("enabled", "created_at", "updated_at")
    }
    for name, attribute in attributes.items():
        assert re.fullmatch("[a-z][a-zA-Z0-9_-]{0,63}", name)
        for constraints in (attribute["constraints"], attribute["constraints"].get("elements", {})):
            assert not {"pattern", "enum"} <= set(constraints)
            assert all(isinstance(constraints.get(bound, 0), int) for bound in ("minimum", "maximum"))
            if "pattern" in constraints:
                assert "\\d" not in constraints["pattern"]
    assert definition("n", "d")["name"] == "n"


def test_scopes_name_the_whole_vocabulary() -> None:
    assert set(model.ActionScope.__args__) == vocabulary.ACTIONS | {"all"}
    assert set(model.SectorScope.__args__) == vocabulary.SECTORS | {"all"}


# -- validation before deployment


def test_a_place_exists_if_a_tenant_is_registered_there() -> None:
    document = hosted(a=value(jurisdictions=["US-CA-PALO_ALTO"]))
    assert "not known" in check(document)[0].message
    assert check(document, places=["US-CA-PALO_ALTO"]) == []


def test_a_flag_definition_must_declare_the_attributes() -> None:
    document = hosted(a=value())
    del document["flags"]["a"]["attributes"]["exempt_until"]
    assert "exempt_until" in check(document)[0].message


def test_values_alone_are_not_a_document_to_deploy() -> None:
    assert check({"a": value()})[0].message.startswith("a document to deploy")


NOW = moment("2026-01-01")


def kind_of(old: dict[str, Any], new: dict[str, Any]) -> ChangeKind:
    return classify(parse(old), parse(new), since=NOW).kind


def test_clearing_away_what_has_ended_is_no_loosening() -> None:
    assert kind_of(hosted(a=value(ends="2021-01-01T00:00:00Z")), hosted()) is not ChangeKind.LOOSENING
    held = hosted(a=value(ends="2021-01-01T00:00:00Z", on_expiry="hold"))
    assert kind_of(held, hosted()) is ChangeKind.LOOSENING


@pytest.mark.parametrize(
    "edit",
    [
        {"enabled": False},
        {"effect": "restrict", "min_similarity": 99},
        {"actions": ["search"]},
        {"sectors": ["law_enforcement"]},
        {"jurisdictions": ["US"]},
        {"starts": "2027-01-01T00:00:00Z"},
        {"ends": "2027-01-01T00:00:00Z"},
        {"exempt_purposes": ["missing_children"]},
        {"exempt_purposes": ["missing_children"], "exempt_until": "2026-02-01T00:00:00Z"},
    ],
    ids=json.dumps,
)
def test_every_way_to_loosen_is_seen(edit: dict[str, Any]) -> None:
    assert kind_of(hosted(a=value()), hosted(a=value(**edit))) is ChangeKind.LOOSENING
    assert kind_of(hosted(a=value(**edit)), hosted(a=value())) is not ChangeKind.LOOSENING


@pytest.mark.parametrize(
    ("halted", "action", "binds"),
    [
        ("detect", "search", True),
        ("detect", "analyze", True),
        ("search", "template_search", True),
        ("search", "detect", False),
        ("search", "index", False),
        ("detect", "template_export", False),
        ("index", "template_import", True),
        ("search", "template_import", False),
    ],
)
def test_a_flag_on_what_an_action_involves_binds_the_action(halted: str, action: str, binds: bool) -> None:
    document = new_deployment()
    document["values"]["police_halt"] |= {"actions": [halted], "sectors": ["all"]}
    flags = parse(document)
    assert bool(flags.binding(action, "commercial", "US")) is binds
