"""Photos in S3 that cannot be read: a clear answer for a tenant's own, and one answer for all that is not its own."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

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
        with pytest.raises(ApiError, match=ANSWERS[code]) as caught:
            Photos(s3, "uploads").read(image, "acme")
    assert (caught.value.name, caught.value.status) == ("InvalidS3ObjectException", 400)


@pytest.mark.parametrize(
    "name", ["globex/index/a.jpg", "acme/../globex/a.jpg", "acme/./a.jpg", "acme//a.jpg", "acme"]
)
def test_a_name_that_could_be_another_tenants_is_not_asked_for(name: str) -> None:
    image = {"S3Object": {"Bucket": "uploads", "Name": name}}
    with pytest.raises(ApiError, match=NO_OBJECT):
        Photos(None, "uploads").read(image, "acme")
