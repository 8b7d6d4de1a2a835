"""Photos where people have them: buckets that a tenant made itself, keys as they are."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from tests.integration.rekognition.conftest import Api

from abeyance.local.moto import REGION


def s3_of(api: Api, principal: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=api.endpoint,
        region_name=REGION,
        aws_access_key_id=principal,
        aws_secret_access_key="any",
    )


@pytest.fixture(scope="module")
def bucket(api: Api, photos: Any) -> str:
    """A bucket of acme's with a photo under several keys."""
    s3 = s3_of(api, "acme")
    s3.create_bucket(Bucket="door-photos")
    for key in KEYS:
        s3.put_object(Bucket="door-photos", Key=key, Body=photos("obama.jpg"))
    return "door-photos"


KEYS = ("face.jpg", "2026/07/ü b.jpg", "a//b.jpg", "acme/index/staff/a.jpg")


@pytest.mark.parametrize("key", KEYS)
def test_any_key_in_ones_own_bucket(api: Api, bucket: str, key: str) -> None:
    image = {"S3Object": {"Bucket": bucket, "Name": key}}
    assert len(api.client("acme").detect_faces(Image=image)["FaceDetails"]) == 1


def test_the_guides_idiom_of_naming_a_face_after_its_key(api: Api, bucket: str) -> None:
    client = api.client("acme")
    client.create_collection(CollectionId="doors")

    def index(key: str) -> str:
        image = {"S3Object": {"Bucket": bucket, "Name": key}}
        answer = client.index_faces(CollectionId="doors", Image=image, ExternalImageId=key)
        return str(answer["FaceRecords"][0]["Face"]["ExternalImageId"])

    assert index("face.jpg") == "face.jpg"
    with pytest.raises(ClientError) as refused:
        index("acme/index/staff/a.jpg")
    assert refused.value.response["Error"]["Code"] == "InvalidParameterException"
    assert r"pattern: [a-zA-Z0-9_.\-:]+" in refused.value.response["Error"]["Message"]
    client.delete_collection(CollectionId="doors")


def code(api: Api, principal: str, bucket: str, key: str = "face.jpg") -> str:
    image = {"S3Object": {"Bucket": bucket, "Name": key}}
    with pytest.raises(ClientError) as refused:
        api.client(principal).detect_faces(Image=image)
    assert "registered" in refused.value.response["Error"]["Message"]
    return str(refused.value.response["Error"]["Code"])


def test_a_bucket_is_its_makers_alone(api: Api, bucket: str) -> None:
    assert code(api, "globex", bucket) == "InvalidS3ObjectException"
    assert code(api, "acme", "nobodys") == "InvalidS3ObjectException"
    assert code(api, "acme", bucket, "absent") == "InvalidS3ObjectException"


def test_a_bucket_that_changed_hands_is_its_new_makers(api: Api, photos: Any) -> None:
    for maker, other in (("acme", "globex"), ("globex", "acme")):
        s3 = s3_of(api, maker)
        s3.create_bucket(Bucket="changing-hands")
        s3.put_object(Bucket="changing-hands", Key="face.jpg", Body=photos("obama.jpg"))
        image = {"S3Object": {"Bucket": "changing-hands", "Name": "face.jpg"}}
        assert api.client(maker).detect_faces(Image=image)["FaceDetails"]
        assert code(api, other, "changing-hands") == "InvalidS3ObjectException"
        s3.delete_object(Bucket="changing-hands", Key="face.jpg")
        s3.delete_bucket(Bucket="changing-hands")


def test_making_a_bucket_again_takes_it_from_nobody(api: Api, bucket: str) -> None:
    """S3 answers a second CreateBucket in us-east-1 with success; the bucket stays the first one's."""
    s3_of(api, "globex").create_bucket(Bucket=bucket)
    assert code(api, "globex", bucket) == "InvalidS3ObjectException"
    image = {"S3Object": {"Bucket": bucket, "Name": "face.jpg"}}
    assert api.client("acme").detect_faces(Image=image)["FaceDetails"]


def test_the_deployments_buckets_are_nobodys(api: Api, photos: Any) -> None:
    s3 = s3_of(api, "acme")
    s3.create_bucket(Bucket="results")
    s3.put_object(Bucket="results", Key="face.jpg", Body=photos("obama.jpg"))
    assert code(api, "acme", "results") == "InvalidS3ObjectException"
