"""Places in S3: how they are written, what they cover, and the policy that their owner sets."""

from __future__ import annotations

import json

import pytest

from abeyance.moratorium.buckets import (
    BucketRegistration,
    UploadRule,
    bucket_policy,
    covers,
    is_place,
    parse_rules,
)
from abeyance.moratorium.tenants import Tenant

READER = "arn:aws:iam::111122223333:role/api"


@pytest.mark.parametrize("place", ["doors", "doors/in/", "a.b-c/ü d/", "doors/in", "doors/a//b"])
def test_places(place: str) -> None:
    assert is_place(place)


@pytest.mark.parametrize(
    "place",
    [
        *("", "Doors", "do", "-doors", "doors/*", "doors*", "doors/${aws:x}", "doors/\n", "s3://doors", None),
        "doors/" + "x" * 1025,
    ],
)
def test_no_places(place: object) -> None:
    assert not is_place(place)
    with pytest.raises(ValueError, match="a place in S3"):
        Tenant(
            id="acme",
            sector="commercial",
            jurisdiction="US",
            actions=(),
            purposes=(),
            buckets=(place,),  # type: ignore[arg-type]
        )


def test_what_is_covered() -> None:
    places = ("doors/in/", "gates")
    assert covers(places, "doors", "in/a")
    assert covers(places, "gates", "anything")
    assert not covers(places, "doors", "out/a")
    assert not covers(places, "gates-2", "a")
    assert not covers((), "doors", "in/a")


def test_the_policy_permits_reading_what_is_registered_and_no_more() -> None:
    (statement,) = json.loads(bucket_policy(["doors/out/", "doors/in/"], [READER]))["Statement"]
    assert statement["Principal"] == {"AWS": [READER]}
    assert statement["Action"] == ["s3:GetObject", "s3:GetObjectVersion"]
    assert statement["Resource"] == ["arn:aws:s3:::doors/in/*", "arn:aws:s3:::doors/out/*"]
    for places in ([], ["doors", "gates"]):
        with pytest.raises(ValueError, match="one bucket"):
            bucket_policy(places, [READER])
    assert statement["Condition"]["StringEquals"] == {"aws:PrincipalAccount": ["111122223333"]}
    assert statement["Condition"]["ArnEquals"] == {"aws:PrincipalArn": [READER]}
    for readers in ([], ["*"], [READER, "arn:aws:iam::111122223333:root"]):
        with pytest.raises(ValueError, match="a role is written"):
            bucket_policy(["doors"], readers)


def test_the_gate_may_read_tags_alone() -> None:
    gate = READER.replace("/api", "/gate")
    photos, tags = json.loads(bucket_policy(["doors/in/"], [READER], gate))["Statement"]
    assert gate not in str(photos)
    assert tags["Principal"] == {"AWS": [gate]}
    assert tags["Action"] == ["s3:GetObjectTagging", "s3:GetObjectVersionTagging"]
    assert tags["Resource"] == ["arn:aws:s3:::doors/in/*"]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("doors=index:staff", UploadRule("doors", "index", "staff")),
        (
            "doors/in 1/=search:st.af-f_1:access_control",
            UploadRule("doors/in 1/", "search", "st.af-f_1", "access_control"),
        ),
        ("doors/a=b:c/=analyze:x", UploadRule("doors/a=b:c/", "analyze", "x")),
    ],
)
def test_rules(text: str, rule: UploadRule) -> None:
    assert UploadRule.parse(text) == rule


@pytest.mark.parametrize(
    "text",
    [
        *("", "doors", "doors=", "doors=index", "doors=index:", "doors=compare:staff", "=index:staff"),
        *("doors=index:st/aff", "doors=index:staff:", "doors=index:staff:No Purpose", "doors/*=index:staff"),
    ],
)
def test_no_rules(text: str) -> None:
    with pytest.raises(ValueError, match=r"a rule for uploads is written|purpose"):
        UploadRule.parse(text)


def test_a_rule_is_about_registered_objects_and_no_two_are_about_one() -> None:
    assert (
        len(parse_rules(["doors/in/=index:a", "doors/out/=index:b", "gates=index:a"], ["doors", "gates"]))
        == 3
    )
    for rules in (["gates=index:a"], ["doors=index:a"], ["doors/in/=index:a", "doors/in/x=index:a"]):
        with pytest.raises(ValueError, match=r"rules? for uploads"):
            parse_rules(rules, ["doors/in/"])
    registration = BucketRegistration("doors", 1, "acme", ("doors/in/=index:a", "doors/out/=search:b"))
    assert [
        rule and rule.collection for rule in map(registration.rule_for, ("in/x", "out/x", "x", "in"))
    ] == [*("a", "b", None, None)]
