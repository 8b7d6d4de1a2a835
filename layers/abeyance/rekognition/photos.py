"""The bytes of an ``Image``: in the request itself, under the tenant's own prefix, or in a place it has registered.

Stored videos are named in the same way, and found in the same places.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from abeyance.aws.errors import aws_code
from abeyance.aws.objects import ObjectUnreadable, require_readable, unreadable
from abeyance.moratorium.buckets import covers
from abeyance.moratorium.tenants import Tenant
from abeyance.rekognition.errors import NO_OBJECT, ApiError, invalid

#: Largest image in S3, as the service's guidelines have it.
MAX_OBJECT_BYTES: Final = 15 * 1024 * 1024

#: Codes of S3 for an object that is not there or not permitted. Any other is a fault of ours or of S3, unless it is
#: one of an object that the tenant has and that S3 does not give.
_ABSENT: Final = frozenset(
    {"400", "403", "404", "405", "AccessDenied", "InvalidArgument", "MethodNotAllowed"}
    | {"NoSuchBucket", "NoSuchKey", "NoSuchVersion", "NotFound", "PermanentRedirect"}
)


class Photos:
    """A reader of images. Absent and denied are one error, so that nobody learns what another tenant has.

    Parameters
    ----------
    s3
        A boto3 S3 client.
    bucket
        The uploads bucket, where every tenant has its own prefix.
    tenants
        Returns the registration of a tenant, which names further places; asked only where the request names one.
    reserved
        Other buckets of the deployment, which nobody can register.
    """

    def __init__(
        self,
        s3: Any,
        bucket: str,
        tenants: Callable[[str], Tenant | None],
        reserved: frozenset[str] = frozenset(),
    ) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._tenants = tenants
        self._reserved = reserved

    def read(self, image: Mapping[str, Any], tenant: str) -> bytes:
        """Return the image's bytes, not decoded.

        Raises
        ------
        ApiError
            InvalidParameterException unless there is exactly one of Bytes and a complete S3Object;
            InvalidS3ObjectException for an object that is not there, not the tenant's, or that S3 does not give,
            such as an archived one; ImageTooLargeException.
        """
        if ("Bytes" in image) == ("S3Object" in image):
            raise invalid("An image has either Bytes or an S3Object")
        if "Bytes" in image:
            data: bytes = image["Bytes"]
            return data
        answer = self._ask("get_object", image["S3Object"], tenant)
        with answer["Body"] as body:
            if answer["ContentLength"] > MAX_OBJECT_BYTES:
                raise ApiError("ImageTooLargeException", "Image size is too large")
            content: bytes = body.read()
        return content

    def head(self, where: Mapping[str, Any], tenant: str) -> Mapping[str, Any]:
        """Return S3's answer to a HEAD of the object of an ``S3Object``; its bytes are not read.

        Raises
        ------
        ApiError
            InvalidParameterException for an incomplete S3Object; InvalidS3ObjectException as :meth:`read`.
        """
        answer = self._ask("head_object", where, tenant)
        try:
            require_readable(answer)
        except ObjectUnreadable as denial:
            raise ApiError("InvalidS3ObjectException", str(denial)) from None
        return answer

    def may_read(self, bucket: str, key: str, tenant: str) -> bool:
        """Return whether a tenant may name an object, whether it is there or not."""
        # Some client or proxy may resolve these parts, and so come to another prefix.
        if bucket in self._reserved or {".", ".."} & set(key.split("/")):
            return False
        if bucket == self._bucket:
            return key.startswith(f"{tenant}/")
        registered = self._tenants(tenant)
        return registered is not None and covers(registered.buckets, bucket, key)

    def _ask(self, operation: str, where: Mapping[str, Any], tenant: str) -> Mapping[str, Any]:
        """Return S3's answer to an operation on the object of an ``S3Object``, if the tenant may name it."""
        if "Bucket" not in where or "Name" not in where:
            raise invalid("An S3Object has a Bucket and a Name")
        bucket, key = where["Bucket"], where["Name"]
        if not self.may_read(bucket, key, tenant):
            raise ApiError("InvalidS3ObjectException", NO_OBJECT)
        version = {"VersionId": where["Version"]} if "Version" in where else {}
        try:
            answer: Mapping[str, Any] = getattr(self._s3, operation)(Bucket=bucket, Key=key, **version)
        except self._s3.exceptions.ClientError as error:
            code = aws_code(error)
            if code in _ABSENT:
                raise ApiError("InvalidS3ObjectException", NO_OBJECT) from None
            if denial := unreadable(code):
                raise ApiError("InvalidS3ObjectException", str(denial)) from None
            raise
        return answer
