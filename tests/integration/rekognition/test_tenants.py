"""Tenants try to see, search, list, guess, read and delete what is another's; and what moratoria do to them."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from abeyance.rekognition import wire
from abeyance.rekognition.client import client as deployed_client

Photos = Callable[[str], bytes]


@pytest.fixture(scope="module")
def theirs(api: Any, photos: Photos) -> str:
    """Acme's collection, with a face and a user; returns the face."""
    acme = api.client("acme")
    acme.create_collection(CollectionId="secret")
    answer = acme.index_faces(CollectionId="secret", Image={"Bytes": photos("obama.jpg")})
    face: str = answer["FaceRecords"][0]["Face"]["FaceId"]
    acme.create_user(CollectionId="secret", UserId="u")
    acme.associate_faces(CollectionId="secret", UserId="u", FaceIds=[face])
    api.aws.client("s3").put_object(Bucket="uploads", Key="acme/photo", Body=photos("obama.jpg"))
    return face


@pytest.fixture(autouse=True)
def no_flags(api: Any) -> Iterator[None]:
    api.flags()
    yield
    api.flags()


def attacks(face: str, photo: bytes) -> dict[str, dict[str, Any]]:
    """A request on acme's collection by each operation that names one."""
    on = {"CollectionId": "secret"}
    image = {"Image": {"Bytes": photo}}
    return {
        "describe_collection": on,
        "delete_collection": on,
        "list_faces": on,
        "list_users": on,
        "index_faces": {**on, **image},
        "delete_faces": {**on, "FaceIds": [face]},
        "search_faces": {**on, "FaceId": face},
        "search_faces_by_image": {**on, **image},
        "create_user": {**on, "UserId": "x"},
        "delete_user": {**on, "UserId": "u"},
        "associate_faces": {**on, "UserId": "u", "FaceIds": [face]},
        "disassociate_faces": {**on, "UserId": "u", "FaceIds": [face]},
        "search_users": {**on, "UserId": "u"},
        "search_users_by_image": {**on, **image},
        "search_faces_by_template": {**on, "Template": [1.0] * 128, "FaceModelVersion": "any"},
        "get_face_template": {**on, "FaceId": face},
        "export_faces": {**on, "WithTemplates": True},
        "import_faces": {**on, "FaceModelVersion": "any", "Faces": []},
        "reembed_faces": {**on, "TargetCollectionId": "secret"},
        "switch_collections": {
            **on,
            "TargetCollectionId": "secret",
            "Version": "x",
            "TargetVersion": "x",
        },
    }


def test_another_tenants_collection_is_not_there(api: Any, theirs: str, photos: Photos) -> None:
    """The answers are those for a name that nobody ever used, so there is nothing to guess either."""
    lab = api.client("lab")
    for operation, request in attacks(theirs, photos("obama.jpg")).items():
        with pytest.raises(lab.exceptions.ResourceNotFoundException) as real:
            getattr(lab, operation)(**request)
        with pytest.raises(lab.exceptions.ResourceNotFoundException) as imagined:
            getattr(lab, operation)(**{**request, "CollectionId": "never-existed"})
        message = real.value.response["Error"]["Message"]
        assert message == imagined.value.response["Error"]["Message"]
    arn = api.client("acme").describe_collection(CollectionId="secret")["CollectionARN"]
    for call, more in (
        (lab.list_tags_for_resource, {}),
        (lab.tag_resource, {"Tags": {"a": "b"}}),
        (lab.untag_resource, {"TagKeys": ["a"]}),
    ):
        with pytest.raises(lab.exceptions.ResourceNotFoundException):
            call(ResourceArn=arn, **more)
    assert lab.list_collections()["CollectionIds"] == []
    acme = api.client("acme")
    assert acme.describe_collection(CollectionId="secret")["FaceCount"] == 1
    assert acme.describe_collection(CollectionId="secret")["UserCount"] == 1


def test_the_same_name_is_another_collection(api: Any, theirs: str, photos: Photos) -> None:
    lab = api.client("lab")
    lab.create_collection(CollectionId="secret")
    try:
        found = lab.search_faces_by_image(CollectionId="secret", Image={"Bytes": photos("obama.jpg")})
        assert found["FaceMatches"] == []
        for missing in (
            lambda: lab.search_faces(CollectionId="secret", FaceId=theirs),
            lambda: lab.get_face_template(CollectionId="secret", FaceId=theirs),
            lambda: lab.search_users(CollectionId="secret", FaceId=theirs),
        ):
            with pytest.raises(ClientError, match="was not found"):
                missing()
        assert lab.delete_faces(CollectionId="secret", FaceIds=[theirs])["DeletedFaces"] == []
        own = lab.index_faces(CollectionId="secret", Image={"Bytes": photos("obama.jpg")})
        assert own["FaceRecords"][0]["Face"]["FaceId"] != theirs
        assert own["FaceRecords"][0]["Face"]["ImageId"] not in json.dumps(
            api.client("acme").list_faces(CollectionId="secret")["Faces"]
        )
    finally:
        lab.delete_collection(CollectionId="secret")
    assert api.client("acme").describe_collection(CollectionId="secret")["FaceCount"] == 1


def test_a_page_token_opens_nobody_elses_pages(api: Any, theirs: str) -> None:
    acme, lab = api.client("acme"), api.client("lab")
    acme.create_collection(CollectionId="second")
    token = acme.list_collections(MaxResults=1)["NextToken"]
    with pytest.raises(lab.exceptions.InvalidPaginationTokenException):
        lab.list_collections(NextToken=token)
    acme.delete_collection(CollectionId="second")


@pytest.mark.parametrize(
    "name",
    ["acme/photo", "lab/../acme/photo", "./acme/photo", "/acme/photo", "lab/..%2facme/photo", "nothing"],
)
def test_another_tenants_photos_cannot_be_read(api: Any, theirs: str, name: str) -> None:
    lab = api.client("lab")
    image = {"S3Object": {"Bucket": "uploads", "Name": name}}
    for ask in (
        lambda: lab.detect_faces(Image=image),
        lambda: lab.compare_faces(SourceImage=image, TargetImage=image),
    ):
        with pytest.raises(lab.exceptions.InvalidS3ObjectException):
            ask()


@pytest.mark.parametrize("bucket", ["results", "abeyance-chips", "abeyance-gallery", "abeyance-ledger"])
def test_other_buckets_cannot_be_read(api: Any, bucket: str, photos: Photos) -> None:
    api.aws.client("s3").put_object(Bucket=bucket, Key="lab/photo", Body=photos("obama.jpg"))
    lab = api.client("lab")
    with pytest.raises(lab.exceptions.InvalidS3ObjectException):
        lab.detect_faces(Image={"S3Object": {"Bucket": bucket, "Name": "lab/photo"}})


def test_strangers(api: Any) -> None:
    api.decisions()
    for principal in ("mallory", "acme ", "acme/../lab", "gone"):
        mallory = api.client(principal)
        with pytest.raises(ClientError) as caught:
            mallory.list_collections()
        assert caught.value.response["Error"]["Code"] == "AccessDeniedException"
    assert [record["body"]["decision"]["clause"] for record in api.decisions()].count("suspended_tenant") == 1


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer acme"}, {"x-abeyance-tenant": "acme"}])
def test_without_a_signature(api: Any, headers: dict[str, str]) -> None:
    request = urllib.request.Request(
        api.endpoint,
        data=b"{}",
        headers={
            "X-Amz-Target": "RekognitionService.ListCollections",
            "Content-Type": wire.CONTENT_TYPE,
            **headers,
        },
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=30)
    assert json.load(caught.value)["__type"] == "AccessDeniedException"


def flag(**more: Any) -> dict[str, Any]:
    return {
        "enabled": True,
        "effect": "restrict",
        "actions": ["compare", "search", "template_search"],
        "sectors": ["commercial"],
        "jurisdictions": ["all"],
        "starts": "2020-06-10T00:00:00Z",
        "on_expiry": "hold",
        "reason": "Only with care.",
        "source": "test",
        **more,
    }


def test_the_police_are_halted_and_it_is_on_the_ledger(api: Any, photos: Photos) -> None:
    api.decisions()
    police = api.client("springfield-police")
    police.create_collection(CollectionId="suspects")
    with pytest.raises(
        police.exceptions.AccessDeniedException, match="halted until further notice"
    ) as caught:
        police.search_faces_by_image(CollectionId="suspects", Image={"Bytes": photos("obama.jpg")})
    created, record = api.decisions()
    assert created["body"]["operation"] == "CreateCollection"
    answered = caught.value.response["ResponseMetadata"]
    assert record["body"]["request"] == answered["RequestId"]
    assert answered["HTTPStatusCode"] == 400
    assert record["type"] == "decision"
    assert record["body"]["operation"] == "SearchFacesByImage"
    assert record["body"]["collection"] == "suspects"
    assert record["body"]["decision"]["flags"][0]["key"] == "police_halt"
    police.delete_collection(CollectionId="suspects")


def test_a_purpose_lifts_what_it_is_exempt_from(api: Any, photos: Photos) -> None:
    api.flags(no_search=flag(effect="halt", exempt_purposes=["missing_children"]))
    acme = api.client("acme")
    acme.create_collection(CollectionId="missing")
    request = {"CollectionId": "missing", "Image": {"Bytes": photos("obama.jpg")}}
    with pytest.raises(acme.exceptions.AccessDeniedException, match="Only with care"):
        acme.search_faces_by_image(**request)
    keys = {"aws_access_key_id": "acme", "aws_secret_access_key": "any"}
    for_children = deployed_client(api.endpoint, "us-east-1", purpose="missing_children", **keys)
    assert for_children.search_faces_by_image(**request)["FaceMatches"] == []
    acme.delete_collection(CollectionId="missing")


def test_a_restriction_raises_the_threshold_and_says_so(api: Any, theirs: str, photos: Photos) -> None:
    acme = api.client("acme")
    images = {"SourceImage": {"Bytes": photos("obama.jpg")}, "TargetImage": {"Bytes": photos("obama2.jpg")}}
    before = acme.compare_faces(SimilarityThreshold=50, **images)
    (match,) = before["FaceMatches"]
    assert "x-abeyance-similarity-threshold" not in before["ResponseMetadata"]["HTTPHeaders"]
    least = min(100.0, match["Similarity"] + 0.01)
    api.flags(care=flag(min_similarity=least))
    after = acme.compare_faces(SimilarityThreshold=50, **images)
    assert after["FaceMatches"] == []
    assert len(after["UnmatchedFaces"]) == 1
    headers = after["ResponseMetadata"]["HTTPHeaders"]
    assert float(headers["x-abeyance-similarity-threshold"]) == pytest.approx(least, abs=0.01)
    assert headers["x-abeyance-flags"] == "care"
    found = acme.search_faces_by_image(
        CollectionId="secret", Image={"Bytes": photos("obama2.jpg")}, FaceMatchThreshold=0
    )
    assert all(m["Similarity"] >= least for m in found["FaceMatches"])
    strict = acme.compare_faces(SimilarityThreshold=100, **images)
    assert "x-abeyance-similarity-threshold" not in strict["ResponseMetadata"]["HTTPHeaders"]


def test_a_review_cannot_be_skipped(api: Any, theirs: str, photos: Photos) -> None:
    api.flags(care=flag(human_review=1))
    acme = api.client("acme")
    for ask in (
        lambda: acme.search_faces_by_image(CollectionId="secret", Image={"Bytes": photos("obama.jpg")}),
        lambda: acme.search_faces(CollectionId="secret", FaceId=theirs),
        lambda: acme.search_users(CollectionId="secret", FaceId=theirs),
    ):
        with pytest.raises(acme.exceptions.AccessDeniedException, match="independent reviewer"):
            ask()


class TestTemplates:
    def test_round_trip(self, api: Any, photos: Photos) -> None:
        lab = api.client("lab")
        version = lab.create_collection(CollectionId="t")["FaceModelVersion"]
        face = lab.index_faces(CollectionId="t", Image={"Bytes": photos("obama.jpg")})["FaceRecords"][0][
            "Face"
        ]
        answer = lab.get_face_template(CollectionId="t", FaceId=face["FaceId"])
        template = answer["Template"]
        assert answer["FaceModelVersion"] == version
        assert sum(x * x for x in template) == pytest.approx(1, abs=1e-3)
        scaled = [17 * x for x in template]
        found = lab.search_faces_by_template(CollectionId="t", Template=scaled, FaceModelVersion=version)
        (match,) = found["FaceMatches"]
        assert match["Face"]["FaceId"] == face["FaceId"]
        assert match["Similarity"] > 99.9
        for wrong in (
            {"Template": template[1:], "FaceModelVersion": version},
            {"Template": [0.0] * len(template), "FaceModelVersion": version},
            {"Template": template, "FaceModelVersion": "another@000000000000"},
        ):
            with pytest.raises(lab.exceptions.InvalidParameterException):
                lab.search_faces_by_template(CollectionId="t", **wrong)
        lab.delete_collection(CollectionId="t")

    def test_off_unless_registered(self, api: Any, theirs: str) -> None:
        acme = api.client("acme")
        with pytest.raises(acme.exceptions.AccessDeniedException, match="not registered"):
            acme.get_face_template(CollectionId="secret", FaceId=theirs)
        with pytest.raises(acme.exceptions.AccessDeniedException, match="not registered"):
            acme.search_faces_by_template(CollectionId="secret", Template=[1.0], FaceModelVersion="x")

    def test_flags_reach_them(self, api: Any) -> None:
        api.flags(care=flag(effect="halt", actions=["template_export"]))
        lab = api.client("lab")
        with pytest.raises(lab.exceptions.AccessDeniedException, match="Only with care"):
            lab.get_face_template(CollectionId="t", FaceId="02fc7f98-57d4-59e9-a67a-8b3633471b3a")
