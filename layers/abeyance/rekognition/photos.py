"""The ``Image`` of a request becomes bytes: given in the request itself, or an object under the tenant's own prefix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from abeyance.rekognition.errors import NO_OBJECT, ApiError, aws_code, invalid

#: Largest image in S3, as the service's guidelines say.
MAX_OBJECT_BYTES: Final = 15 * 1024 * 1024

#: S3's answers that mean: not this object, or not for you. Everything else is a fault of ours or of S3.
_NOT_TO_BE_HAD: Final = frozenset(
    {
        "403",
        "404",
        "AccessDenied",
        "InvalidArgument",
        "InvalidObjectState",
        "MethodNotAllowed",
        "NoSuchBucket",
    }
    | {"NoSuchKey", "NoSuchVersion", "NotFound", "PermanentRedirect", "405", "400"}
)


class Photos:
    """Reads images. One error for whatever cannot be had, so that nobody learns what another tenant has.

    Parameters
    ----------
    s3
        A boto3 S3 client.
    bucket
        The uploads bucket; no other is read.
    """

    def __init__(self, s3: Any, bucket: str) -> None:
        self._s3 = s3
        self._bucket = bucket

    def read(self, image: Mapping[str, Any], tenant: str) -> bytes:
        """The image's bytes, not decoded.

        Raises
        ------
        ApiError
            InvalidParameterException unless there is exactly one of Bytes and a complete S3Object;
            InvalidS3ObjectException for an object that is not there or not the tenant's; ImageTooLargeException.
        """
        if ("Bytes" in image) == ("S3Object" in image):
            raise invalid("An image has either Bytes or an S3Object")
        if "Bytes" in image:
            data: bytes = image["Bytes"]
            return data
        where = image["S3Object"]
        if "Bucket" not in where or "Name" not in where:
            raise invalid("An S3Object has a Bucket and a Name")
        if where["Bucket"] != self._bucket or not _belongs(where["Name"], tenant):
            raise ApiError("InvalidS3ObjectException", NO_OBJECT)
        version = {"VersionId": where["Version"]} if "Version" in where else {}
        try:
            answer = self._s3.get_object(Bucket=self._bucket, Key=where["Name"], **version)
        except self._s3.exceptions.ClientError as error:
            if aws_code(error) in _NOT_TO_BE_HAD:
                raise ApiError("InvalidS3ObjectException", NO_OBJECT) from None
            raise
        with answer["Body"] as body:
            if answer["ContentLength"] > MAX_OBJECT_BYTES:
                raise ApiError("ImageTooLargeException", "Image size is too large")
            content: bytes = body.read()
        return content


def _belongs(key: str, tenant: str) -> bool:
    """Whether the key lies under the tenant's prefix, however a client or a proxy may resolve it."""
    head, *rest = key.split("/")
    return head == tenant and bool(rest) and not {".", "..", ""} & set(rest)
