"""Photos in S3 that cannot be read: a clear answer for a tenant's own, and one answer for all that is not its own."""

from __future__ import annotations

import io
import re
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from abeyance.moratorium.tenants import Tenant
from abeyance.rekognition.errors import NO_OBJECT, ApiError
from abeyance.rekognition.photos import Photos

ANSWERS = {
    "InvalidObjectState": "archived",
    "InvalidRequest": "SSE-C",
    "KMS.DisabledException": "encryption key",
    "KMS.NotFoundException": "encryption key",
    "AccessDenied": NO_OBJECT,
    "NoSuchKey": NO_OBJECT,
    "NoSuchVersion": NO_OBJECT,
}


@pytest.mark.parametrize("code", ANSWERS)
def test_an_unreadable_photo_has_a_clear_answer(code: str) -> None:
    s3: Any = boto3.client("s3", "us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
    image = {"S3Object": {"Bucket": "uploads", "Name": "acme/index/staff/a.jpg"}}
    with Stubber(s3) as stub:
        stub.add_client_error("get_object", code)
        with pytest.raises(ApiError, match=re.escape(ANSWERS[code])) as caught:
            Photos(s3, "uploads", {}.get).read(image, "acme")
    assert (caught.value.name, caught.value.status) == ("InvalidS3ObjectException", 400)


@pytest.mark.parametrize("name", ["globex/index/a.jpg", "acme/../globex/a.jpg", "acme/./a.jpg", "acme"])
def test_a_name_that_could_be_another_tenants_is_not_asked_for(name: str) -> None:
    image = {"S3Object": {"Bucket": "uploads", "Name": name}}
    with pytest.raises(ApiError, match=re.escape(NO_OBJECT)):
        Photos(None, "uploads", {}.get).read(image, "acme")


class OneObject:
    """S3 with the same object everywhere; says where it was asked."""

    class exceptions:  # noqa: N801 - as boto3 names it
        ClientError = ValueError

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def get_object(self, **request: Any) -> Any:
        self.asked.append((request["Bucket"], request["Key"]))
        return {"Body": io.BytesIO(b"photo"), "ContentLength": 5}


def registered(*places: str) -> Tenant:
    return Tenant(
        id="acme", sector="commercial", jurisdiction="US", actions=(), purposes=(), buckets=tuple(places)
    )


@pytest.mark.parametrize(
    ("places", "bucket", "key", "read"),
    [
        (["doors"], "doors", "a.jpg", True),
        (["doors"], "doors", "any/place//at all/ü.jpg", True),
        (["doors/in/"], "doors", "in/a.jpg", True),
        (["doors/in/"], "doors", "in//a.jpg", True),
        (["doors/in/"], "doors", "out/a.jpg", False),
        (["doors/in/"], "doors", "in", False),
        (["doors/in/"], "doors", "in/../out/a.jpg", False),
        (["doors"], "doors-2", "a.jpg", False),
        ([], "doors", "a.jpg", False),
        (["uploads"], "uploads", "globex/a.jpg", False),
        (["uploads"], "uploads", "acme//a.jpg", True),
        (["gallery"], "gallery", "acme/a.jpg", False),
    ],
)
def test_registered_places_are_read_keys_as_they_are(
    places: list[str], bucket: str, key: str, read: bool
) -> None:
    s3, tenants = OneObject(), {"acme": registered(*places), "globex": registered("doors")}
    photos = Photos(s3, "uploads", tenants.get, frozenset({"gallery"}))
    image = {"S3Object": {"Bucket": bucket, "Name": key}}
    if read:
        assert photos.read(image, "acme") == b"photo"
        assert s3.asked == [(bucket, key)]
    else:
        with pytest.raises(ApiError, match=re.escape(NO_OBJECT)):
            photos.read(image, "acme")
        assert s3.asked == []
