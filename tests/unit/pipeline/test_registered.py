"""Uploads to buckets that tenants registered: whose an object is follows from bucket, key and version of the rules."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from abeyance.moratorium.buckets import BucketRegistration
from abeyance.pipeline.events import Upload
from abeyance.pipeline.registered import RegisteredBuckets
from abeyance.pipeline.uploads import MAX_KEY_BYTES, S3Notification, result_key, result_key_of

DOORS = (
    BucketRegistration("doors", 1, "acme", ("doors/in/=index:staff:access_control",)),
    BucketRegistration("doors", 2, "acme", ("doors/in/=search:staff", "doors/out/=index:staff")),
    BucketRegistration("doors", 3, "acme", ()),
    BucketRegistration("doors", 4, "globex", ("doors/out/=index:guests",)),
)


def registered(version: int) -> RegisteredBuckets:
    """The rules of the bucket doors as they were when a version was in force."""
    return RegisteredBuckets(lambda bucket: DOORS[:version] if bucket == "doors" else ())


def upload(key: str = "in/a.jpg", **more: Any) -> Upload:
    return Upload(bucket="doors", key=key, version="e", etag="e", size=5, sequencer="01", **more)


def assigned(version: int, key: str = "in/a.jpg", *, is_deletion: bool = False) -> Any:
    return registered(version).assign(S3Notification(upload(key), is_deletion))


def test_the_rule_in_force_says_what_an_upload_is() -> None:
    (found, is_deletion), purpose = assigned(1)
    assert (found.tenant, found.action, found.collection, found.registration) == ("acme", "index", "staff", 1)
    assert (purpose, is_deletion, found.etag) == ("access_control", False, "e")
    (found, _), purpose = assigned(2)
    assert (found.action, found.registration, purpose) == ("search", 2, "")


@pytest.mark.parametrize(
    ("version", "key"), [(1, "out/a.jpg"), (1, "in"), (4, "hall/a.jpg"), (0, "in/a.jpg")]
)
def test_what_no_rule_ever_was_about_is_nobodys(version: int, key: str) -> None:
    assert assigned(version, key) is None
    assert assigned(version, key, is_deletion=True) is None


def test_a_photo_that_loses_its_rule_goes_when_it_is_written_over() -> None:
    for is_deletion in (False, True):
        (found, withdrawn), _ = assigned(3, is_deletion=is_deletion)
        assert (withdrawn, found.tenant, found.registration) == (True, "acme", 2)
    (found, _), _ = assigned(3)
    assert found.identity == upload().identity
    assert not found.is_version_only


def test_a_recorded_upload_is_derived_again_whatever_is_registered_since() -> None:
    (found, _), _ = assigned(1)
    assert registered(4).derive(found) == found
    for forged in ({"tenant": "globex"}, {"action": "search"}, {"collection": "x"}, {"registration": 2}):
        wrong = msgspec.structs.replace(found, **forged)
        assert registered(4).derive(wrong) != wrong
    unknown = msgspec.structs.replace(found, registration=9)
    assert registered(4).derive(unknown).tenant == ""
    elsewhere = msgspec.structs.replace(found, bucket="gates")
    assert registered(4).derive(elsewhere).tenant == ""


def test_an_upload_holds_while_the_rules_say_the_same_of_it() -> None:
    (found, _), _ = assigned(1)
    assert [registered(version).holds(found) for version in (0, 1, 2, 3, 4)] == [
        False,
        True,
        False,
        False,
        False,
    ]
    assert registered(4).holds(Upload(bucket="uploads", key="acme/index/c/a", version="", sequencer=""))


def test_other_places_are_those_of_other_rules_each_once() -> None:
    (found, _), _ = assigned(4, "out/a.jpg")
    (other,) = registered(4).others(found)
    assert (other.tenant, other.collection, other.registration) == ("acme", "staff", 2)
    assert registered(4).others(Upload(bucket="uploads", key="k", version="", sequencer="")) == []


def test_versions_that_were_read_are_not_read_again() -> None:
    reads: list[str] = []

    def read(bucket: str) -> Any:
        reads.append(bucket)
        return DOORS

    rules = RegisteredBuckets(read)
    (found, _), _ = assigned(1)
    assert rules.derive(found) == rules.derive(found) == found
    assert reads == ["doors"]


KEYS = st.one_of(
    st.text(max_size=12),
    st.builds("/".join, st.lists(st.sampled_from(["acme", "s3:doors", "in", "key-sha256-" + "0" * 64, ""]))),
    st.text(min_size=300, max_size=1024),
).filter(lambda key: 0 < len(key.encode(errors="replace")) <= MAX_KEY_BYTES and "\ud800" not in key)


@given(st.lists(st.tuples(st.sampled_from(["", "doors", "door"]), KEYS), max_size=12))
def test_no_two_objects_have_one_result(objects: list[tuple[str, str]]) -> None:
    """Of the uploads bucket, and of registered ones of one tenant; each within S3's limit."""
    results = {}
    for bucket, key in objects:
        if any(0xD800 <= ord(character) <= 0xDFFF for character in key):
            continue
        own = upload(key, tenant="acme", registration=1)
        found = result_key_of(msgspec.structs.replace(own, bucket=bucket)) if bucket else result_key(key)
        assert len(found.encode()) <= MAX_KEY_BYTES
        assert results.setdefault(found, (bucket, key)) == (bucket, key)


def test_a_result_is_below_its_tenant_and_names_the_bucket() -> None:
    found = upload("in/ü b.jpg", tenant="acme", registration=1)
    assert result_key_of(found) == "acme/s3:doors/in/ü b.jpg.json"
