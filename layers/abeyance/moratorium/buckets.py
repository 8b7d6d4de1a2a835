"""Places in S3 that a tenant registers, a bucket or the keys in it with a prefix, and the rules for uploads there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, Final

from msgspec import Struct

from abeyance.moratorium.vocabulary import PURPOSE_FORM, is_purpose

#: Of the names that S3 allows, those without dots at both ends.
#: https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_MAX_PREFIX_BYTES: Final = 1024
_ROLE: Final = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]+", re.ASCII)
PLACE_FORM: Final = (
    "a place in S3 is written BUCKET or BUCKET/PREFIX, such as door-photos or door-photos/entrance/"
)

#: The actions that an upload can ask for.
UPLOAD_ACTIONS: Final = ("index", "search", "analyze")
#: Amazon Rekognition's pattern of a CollectionId.
COLLECTION_NAME: Final = re.compile(r"[a-zA-Z0-9_.\-]{1,255}")
RULE_FORM: Final = (
    "a rule for uploads is written PLACE=ACTION:COLLECTION or PLACE=ACTION:COLLECTION:PURPOSE, such as "
    "door-photos/entrance/=search:staff:access_control, with the action index, search or analyze"
)


class UploadRule(Struct, frozen=True):
    """The action and collection of uploads to a place, and their purpose unless each names its own.

    Attributes
    ----------
    place : str
        ``BUCKET`` or ``BUCKET/PREFIX``.
    action : str
        One of :data:`UPLOAD_ACTIONS`.
    collection : str
        Of the tenant.
    purpose : str
        ``lower_snake``; empty where the tag ``purpose`` of each object has it.
    """

    place: str
    action: str
    collection: str
    purpose: str = ""

    @classmethod
    def parse(cls, text: str) -> UploadRule:
        """Read a rule as it is registered; raises ``ValueError``, see :data:`RULE_FORM`."""
        place, _, rest = text.rpartition("=")
        action, _, rest = rest.partition(":")
        collection, named, purpose = rest.partition(":")
        if not (is_place(place) and action in UPLOAD_ACTIONS and COLLECTION_NAME.fullmatch(collection)):
            raise ValueError(RULE_FORM)
        if named and not is_purpose(purpose):
            raise ValueError(PURPOSE_FORM)
        return cls(place, action, collection, purpose)


def parse_rules(texts: Iterable[str], places: Iterable[str]) -> tuple[UploadRule, ...]:
    """Read a tenant's rules; raises ``ValueError`` unless each is about places of its own, of which no other is."""
    rules = tuple(map(UploadRule.parse, texts))
    for number, rule in enumerate(rules):
        bucket, _, prefix = rule.place.partition("/")
        if not covers(places, bucket, prefix):
            raise ValueError(f"{rule.place} has a rule for uploads and is not registered")
        if any(covers([other.place], bucket, prefix) for other in rules[:number] + rules[number + 1 :]):
            raise ValueError(f"two rules for uploads are about objects in {rule.place}")
    return rules


class BucketRegistration(Struct, frozen=True):
    """One version of the rules for uploads to a bucket, all of one tenant; versions are never changed.

    Attributes
    ----------
    version : int
        1 for the first of the bucket.
    tenant : str
        Whose rules they are; without rules the bucket is nobody's.
    rules : tuple of str
        As registered.
    """

    bucket: str
    version: int
    tenant: str
    rules: tuple[str, ...]

    def rule_for(self, key: str) -> UploadRule | None:
        """Return the rule about an object of the bucket; None if there is none."""
        found = (UploadRule.parse(rule) for rule in self.rules)
        return next((rule for rule in found if covers([rule.place], self.bucket, key)), None)


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


def bucket_policy(
    places: Iterable[str], readers: Iterable[str], gate: str = "", partition: str = "aws"
) -> str:
    """Return the bucket policy, JSON, that lets roles read what is registered of one bucket, and nothing else.

    Parameters
    ----------
    places
        Places in one bucket.
    readers
        ARNs of the roles of the deployment that read photos. They read for a tenant only what that tenant has
        registered, so no other tenant of the deployment reads there.
    gate
        ARN of the role that reads the tags of uploads and nothing else; empty where no rule for uploads is registered.
    partition
        Of AWS.

    Raises
    ------
    ValueError
        If the places are none, or of several buckets, or a role is no ARN.
    """
    found = sorted(set(places))
    if len({place.partition("/")[0] for place in found}) != 1:
        raise ValueError("a bucket policy is that of one bucket")
    objects = [
        f"arn:{partition}:s3:::{bucket}/{prefix}*"
        for bucket, _, prefix in (place.partition("/") for place in found)
    ]
    statements = [
        _statement("AbeyanceReadsPhotos", sorted(set(readers)), ["GetObject", "GetObjectVersion"], objects)
    ]
    if gate:
        tags = ["GetObjectTagging", "GetObjectVersionTagging"]
        statements.append(_statement("AbeyanceReadsTags", [gate], tags, objects))
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, indent=2)


def _statement(sid: str, roles: list[str], actions: list[str], objects: list[str]) -> dict[str, Any]:
    if not roles or not all(_ROLE.fullmatch(role) for role in roles):
        raise ValueError(
            "a role is written arn:aws:iam::ACCOUNT:role/NAME, as the outputs of the stack have it"
        )
    return {
        "Sid": sid,
        "Effect": "Allow",
        "Principal": {"AWS": roles},
        "Action": [f"s3:{action}" for action in actions],
        "Resource": objects,
        "Condition": {
            "Bool": {"aws:SecureTransport": "true", "aws:PrincipalIsAWSService": "false"},
            # No service that acts for these roles, and no other account that a role of the name is made in.
            "StringEquals": {"aws:PrincipalAccount": sorted({role.split(":")[4] for role in roles})},
            "ArnEquals": {"aws:PrincipalArn": roles},
        },
    }
