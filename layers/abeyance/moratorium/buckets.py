"""Places in S3 that a tenant registers: a bucket, or the keys of a bucket that begin with a prefix."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Final

#: Of the names that S3 allows, those without dots at both ends.
#: https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_MAX_PREFIX_BYTES: Final = 1024
PLACE_FORM: Final = (
    "a place in S3 is written BUCKET or BUCKET/PREFIX, such as door-photos or door-photos/entrance/"
)


def is_place(place: object) -> bool:
    """Return whether a text is ``BUCKET`` or ``BUCKET/PREFIX``; ``*`` stands for nothing but itself in no prefix."""
    if not isinstance(place, str):
        return False
    bucket, _, prefix = place.partition("/")
    plain = not any(character in prefix for character in "*?$") and prefix.isprintable()
    return bool(_BUCKET.fullmatch(bucket)) and plain and len(prefix.encode()) <= _MAX_PREFIX_BYTES


def covers(places: Iterable[str], bucket: str, key: str) -> bool:
    """Return whether an object lies in one of the places. Keys are compared as they are, character by character."""
    return any(
        own == bucket and key.startswith(prefix)
        for own, _, prefix in (place.partition("/") for place in places)
    )


def bucket_policy(places: Iterable[str], reader: str, partition: str = "aws") -> str:
    """Return the bucket policy, JSON, that lets a role read what is registered of one bucket, and nothing else.

    Parameters
    ----------
    places
        Places in one bucket.
    reader
        ARN of the role of the deployment's API. It reads for a tenant only what that tenant has registered, so no
        other tenant of the deployment reads there.
    partition
        Of AWS.

    Raises
    ------
    ValueError
        If the places are none, or of several buckets.
    """
    found = sorted(set(places))
    if len({place.partition("/")[0] for place in found}) != 1:
        raise ValueError("a bucket policy is that of one bucket")
    objects = [
        f"arn:{partition}:s3:::{bucket}/{prefix}*"
        for bucket, _, prefix in (place.partition("/") for place in found)
    ]
    statement = {
        "Sid": "AbeyanceReadsPhotos",
        "Effect": "Allow",
        "Principal": {"AWS": reader},
        "Action": ["s3:GetObject", "s3:GetObjectVersion"],
        "Resource": objects,
        "Condition": {"Bool": {"aws:SecureTransport": "true"}},
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]}, indent=2)
