"""Checks of S3."""

from __future__ import annotations

import datetime
import json
import time
from typing import Any

from abeyance.aws.sequencer import sequencer_order
from infra.awschecks.account import LOCK_S, Account, CannotCheck, now
from infra.awschecks.registry import check, expect, refused


@check("s3.read_after_write")
def _read_after_write(account: Account) -> None:
    s3, bucket = account.client("s3"), account.bucket()
    for number in range(10):
        s3.put_object(Bucket=bucket, Key="read", Body=str(number).encode())
        body = s3.get_object(Bucket=bucket, Key="read")["Body"].read()
        expect(body == str(number).encode(), "an older object was read")
    s3.delete_object(Bucket=bucket, Key="read")
    listed = s3.list_objects_v2(Bucket=bucket, Prefix="read").get("Contents", [])
    expect(listed == [], "a deleted object was listed")


@check("s3.if_none_match_put")
def _if_none_match_put(account: Account) -> None:
    s3, bucket = account.client("s3"), account.bucket()
    s3.put_object(Bucket=bucket, Key="once", Body=b"1", IfNoneMatch="*")
    with refused("PreconditionFailed"):
        s3.put_object(Bucket=bucket, Key="once", Body=b"2", IfNoneMatch="*")


@check("s3.if_match_put")
def _if_match_put(account: Account) -> None:
    s3, bucket = account.client("s3"), account.bucket()
    etag = s3.put_object(Bucket=bucket, Key="changed", Body=b"1")["ETag"]
    s3.put_object(Bucket=bucket, Key="changed", Body=b"2", IfMatch=etag)
    with refused("PreconditionFailed"):
        s3.put_object(Bucket=bucket, Key="changed", Body=b"3", IfMatch=etag)
    with refused("NoSuchKey"):
        s3.put_object(Bucket=bucket, Key="never", Body=b"1", IfMatch=etag)


@check("s3.if_match_read")
def _if_match_read(account: Account) -> None:
    s3, bucket = account.client("s3"), account.bucket()
    etag = s3.put_object(Bucket=bucket, Key="match", Body=b"1")["ETag"]
    s3.get_object(Bucket=bucket, Key="match", IfMatch=etag)
    s3.put_object(Bucket=bucket, Key="match", Body=b"2")
    with refused("PreconditionFailed"):
        s3.get_object(Bucket=bucket, Key="match", IfMatch=etag)
    with refused("412", "PreconditionFailed"):
        s3.head_object(Bucket=bucket, Key="match", IfMatch=etag)


@check("s3.missing_object")
def _missing_object(account: Account) -> None:
    s3, bucket = account.client("s3"), account.bucket()
    with refused("404"):
        s3.head_object(Bucket=bucket, Key="never")
    with refused("NoSuchKey"):
        s3.get_object(Bucket=bucket, Key="never")


@check("s3.key_bytes")
def _key_bytes(account: Account) -> None:
    s3, bucket = account.client("s3"), account.bucket()
    s3.put_object(Bucket=bucket, Key="ä" * 512, Body=b"")
    with refused("KeyTooLongError", "KeyTooLong"):
        s3.put_object(Bucket=bucket, Key="ä" * 512 + "x", Body=b"")


@check("s3.object_lock")
def _object_lock(account: Account) -> None:
    s3, bucket = account.client("s3"), account.bucket()
    until = now() + datetime.timedelta(seconds=LOCK_S)
    lock = {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": until}
    place = {"Bucket": bucket, "Key": "locked"}
    version = s3.put_object(**place, Body=b"1", ChecksumAlgorithm="SHA256", **lock)["VersionId"]
    # At the end, wait until the lock has ended.
    account.later("lock", lambda: time.sleep(max(0.0, (until - now()).total_seconds() + 2)))
    with refused("AccessDenied"):
        s3.delete_object(**place, VersionId=version)
    s3.put_object(**place, Body=b"2", ChecksumAlgorithm="SHA256")
    body = s3.get_object(**place, VersionId=version)["Body"].read()
    expect(body == b"1", "the locked version has another content")


@check("s3.archived_object")
def _archived_object(account: Account) -> None:
    s3, bucket = account.client("s3"), account.bucket()
    s3.put_object(Bucket=bucket, Key="cold", Body=b"1", StorageClass="GLACIER")
    with refused("InvalidObjectState"):
        s3.get_object(Bucket=bucket, Key="cold")
    tier = s3.head_object(Bucket=bucket, Key="cold").get("StorageClass")
    expect(tier == "GLACIER", f"HEAD names {tier}")


def _object_events(account: Account) -> list[dict[str, Any]]:
    """Return S3's events about one key with an odd name: created, created, deleted; asked for once."""

    def make() -> list[dict[str, Any]]:
        s3, bucket, key = account.client("s3"), account.bucket(), "odd/ä b+c %.jpg"
        pattern = {"source": ["aws.s3"], "detail": {"bucket": {"name": [bucket]}, "object": {"key": [key]}}}
        queue = account.route("objects", "default", pattern)
        time.sleep(2)
        found: dict[str, dict[str, Any]] = {}
        for attempt in range(6):
            # A new rule and a bucket's new configuration take a while until they hold.
            for body in (b"1", b"2"):
                s3.put_object(Bucket=bucket, Key=key, Body=body)
            s3.delete_object(Bucket=bucket, Key=key)
            for message in account.receive(queue, 3, 15):
                event = json.loads(message["Body"])
                found[event["detail"]["object"]["sequencer"]] = event
            if len(found) >= 3 and attempt:
                break
        if not found:
            raise CannotCheck("no event of S3 came in 90 s")
        return list(found.values())

    events: list[dict[str, Any]] = account.once("object events", make)
    return events


@check("s3.event_form")
def _event_form(account: Account) -> None:
    events = _object_events(account)
    kinds = {event["detail-type"] for event in events}
    expect(kinds == {"Object Created", "Object Deleted"}, f"detail-types are {kinds}")
    for event in events:
        thing = event["detail"]["object"]
        expect(thing["key"] == "odd/ä b+c %.jpg", f"the key is {thing['key']!r}")
        expect(bool(thing.get("sequencer")), "there is no sequencer")
        if event["detail-type"] == "Object Created":
            expect(bool(thing.get("etag")) and '"' not in thing["etag"], f"the ETag is {thing.get('etag')}")


@check("s3.sequencer_order")
def _sequencer_order(account: Account) -> None:
    events = sorted(
        _object_events(account), key=lambda event: sequencer_order(event["detail"]["object"]["sequencer"])
    )
    times = [event["time"] for event in events]
    expect(times == sorted(times), f"sequencers order the events as {times}")
