"""Places in S3: how they are written, what they cover, and the policy that their owner sets."""

from __future__ import annotations

import json

import pytest

from abeyance.moratorium.buckets import bucket_policy, covers, is_place
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
    (statement,) = json.loads(bucket_policy(["doors/out/", "doors/in/"], READER))["Statement"]
    assert statement["Principal"] == {"AWS": READER}
    assert statement["Action"] == ["s3:GetObject", "s3:GetObjectVersion"]
    assert statement["Resource"] == ["arn:aws:s3:::doors/in/*", "arn:aws:s3:::doors/out/*"]
    for places in ([], ["doors", "gates"]):
        with pytest.raises(ValueError, match="one bucket"):
            bucket_policy(places, READER)
