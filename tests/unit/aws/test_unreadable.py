"""Objects that S3 has and does not give: what HeadObject shows, and what GetObject's errors mean."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from abeyance.aws.objects import ObjectUnreadable
from abeyance.pipeline.aws import S3Objects
from abeyance.pipeline.events import Upload
from abeyance.pipeline.ports import ObjectGone

UPLOAD = Upload(bucket="uploads", key="acme/index/staff/a.jpg", version="e", etag="e", sequencer="0A")

#: What HeadObject answers -> True if S3 gives the bytes.
HEADS: dict[str, tuple[dict[str, str], bool]] = {
    "standard": ({}, True),
    "instant retrieval": ({"StorageClass": "GLACIER_IR"}, True),
    "infrequent access": ({"StorageClass": "STANDARD_IA"}, True),
    "one zone": ({"StorageClass": "ONEZONE_IA"}, True),
    "intelligent tiering, not archived": ({"StorageClass": "INTELLIGENT_TIERING"}, True),
    "flexible retrieval": ({"StorageClass": "GLACIER"}, False),
    "deep archive": ({"StorageClass": "DEEP_ARCHIVE"}, False),
    "archive tier": ({"StorageClass": "INTELLIGENT_TIERING", "ArchiveStatus": "ARCHIVE_ACCESS"}, False),
    "deep archive tier": (
        {"StorageClass": "INTELLIGENT_TIERING", "ArchiveStatus": "DEEP_ARCHIVE_ACCESS"},
        False,
    ),
    "restore under way": ({"StorageClass": "GLACIER", "Restore": 'ongoing-request="true"'}, False),
    "tier's restore under way": (
        {"ArchiveStatus": "ARCHIVE_ACCESS", "Restore": 'ongoing-request="true"'},
        False,
    ),
    "restored": (
        {
            "StorageClass": "DEEP_ARCHIVE",
            "Restore": 'ongoing-request="false", expiry-date="Fri, 21 Dec 2029 00:00:00 GMT"',
        },
        True,
    ),
}

#: S3's code and status for GetObject -> the reason, and if it may pass.
ERRORS = {
    ("InvalidObjectState", 403): ("OBJECT_ARCHIVED", False),
    ("InvalidRequest", 400): ("OBJECT_ENCRYPTED", False),
    ("AccessDenied", 403): ("OBJECT_DENIED", True),
    ("KMS.DisabledException", 400): ("OBJECT_DENIED", True),
    ("KMS.KMSInvalidStateException", 400): ("OBJECT_DENIED", True),
    ("KMS.NotFoundException", 400): ("OBJECT_DENIED", True),
}


@pytest.fixture
def s3() -> Any:
    return boto3.client("s3", "us-east-1", aws_access_key_id="a", aws_secret_access_key="b")


@pytest.mark.parametrize("name", HEADS)
def test_a_head_shows_an_archived_object(s3: Any, name: str) -> None:
    answer, is_readable = HEADS[name]
    with Stubber(s3) as stub:
        stub.add_response("head_object", {"Metadata": {"purpose": "x"}, **answer})
        if is_readable:
            assert S3Objects(s3).head(UPLOAD) == {"purpose": "x"}
            return
        with pytest.raises(ObjectUnreadable, match="Restore it") as caught:
            S3Objects(s3).head(UPLOAD)
    assert (caught.value.reason, caught.value.may_pass) == ("OBJECT_ARCHIVED", False)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error[0])
def test_an_error_of_a_read_has_a_reason(s3: Any, error: tuple[str, int]) -> None:
    with Stubber(s3) as stub:
        stub.add_client_error("get_object", error[0], http_status_code=error[1])
        with pytest.raises(ObjectUnreadable) as caught:
            S3Objects(s3).read(UPLOAD)
    assert (caught.value.reason, caught.value.may_pass) == ERRORS[error]


@pytest.mark.parametrize(("status", "reason"), [(400, "OBJECT_ENCRYPTED"), (403, "OBJECT_DENIED")])
def test_an_error_of_a_head_may_pass(s3: Any, status: int, reason: str) -> None:
    with Stubber(s3) as stub:
        stub.add_client_error("head_object", str(status), http_status_code=status)
        with pytest.raises(ObjectUnreadable) as caught:
            S3Objects(s3).head(UPLOAD)
    assert (caught.value.reason, caught.value.may_pass) == (reason, True)


@pytest.mark.parametrize("code", ["404", "412"])
def test_an_object_that_is_gone_is_not_unreadable(s3: Any, code: str) -> None:
    with Stubber(s3) as stub:
        stub.add_client_error("head_object", code, http_status_code=int(code))
        with pytest.raises(ObjectGone):
            S3Objects(s3).head(UPLOAD)


@pytest.mark.parametrize("code", ["SlowDown", "InternalError", "ExpiredToken", "RequestTimeout"])
def test_a_fault_of_s3_or_ours_stays_a_fault(s3: Any, code: str) -> None:
    with Stubber(s3) as stub:
        stub.add_client_error("get_object", code, http_status_code=503)
        with pytest.raises(s3.exceptions.ClientError):
            S3Objects(s3).read(UPLOAD)
