"""Inside the whole local system: uploads and API share collections, and the API's decisions are on the ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from tests.ledgers import entries_of

from abeyance.local.system import LocalSystem
from abeyance.local.tenants import TENANTS, register
from abeyance.rekognition.access import MANAGED


@pytest.fixture(scope="module")
def system(photos: Callable[[str], bytes]) -> Iterator[LocalSystem]:
    with LocalSystem() as running:
        register(running, TENANTS)
        yield running


def test_an_upload_is_found_and_the_search_is_on_the_ledger(
    system: LocalSystem, photos: Callable[[str], bytes]
) -> None:
    key = "acme/index/staff/ada.jpg"
    system.client("s3").put_object(Bucket="uploads", Key=key, Body=photos("obama.jpg"))
    system.drain(60)
    rekognition = system.client("rekognition", "acme")
    found = rekognition.search_faces_by_image(CollectionId="staff", Image={"Bytes": photos("obama2.jpg")})
    (match,) = found["FaceMatches"]
    assert 0 < match["Face"]["Confidence"] <= 100
    police = system.client("rekognition", "springfield-police")
    with pytest.raises(police.exceptions.AccessDeniedException) as halted:
        police.search_faces_by_image(CollectionId="staff", Image={"Bytes": photos("obama2.jpg")})
    system.drain(60)
    entries = {entry.body.get("request"): entry for entry in entries_of(system.client)}
    permitted = entries[found["ResponseMetadata"]["RequestId"]]
    denied = entries[halted.value.response["ResponseMetadata"]["RequestId"]]
    assert permitted.body["decision"]["outcome"] == "permit"
    assert (denied.body["decision"]["outcome"], denied.body["decision"]["tenant"]) == (
        "deny",
        "springfield-police",
    )
    assert denied.body["operation"] == "SearchFacesByImage"


def test_a_call_that_manages_a_collection_is_on_the_ledger(system: LocalSystem) -> None:
    rekognition = system.client("rekognition", "acme")
    calls = [
        made := rekognition.create_collection(CollectionId="managed"),
        rekognition.tag_resource(ResourceArn=made["CollectionArn"], Tags={"team": "a"}),
        rekognition.list_faces(CollectionId="managed"),
        rekognition.delete_collection(CollectionId="managed"),
    ]
    system.drain(60)
    managed = {entry.body["request"]: entry for entry in entries_of(system.client) if entry.type == MANAGED}
    found = [managed[call["ResponseMetadata"]["RequestId"]].body for call in calls]
    assert [one["operation"] for one in found] == [
        *("CreateCollection", "TagResource", "ListFaces", "DeleteCollection")
    ]
    assert {(one["tenant"], one["collection"]) for one in found} == {("acme", "managed")}
