"""The checks of :mod:`infra.awscheck`: a function for each assumption that can be checked, by the assumption's name."""

from __future__ import annotations

import contextlib
import datetime
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from botocore.exceptions import ClientError

from abeyance.aws.sequencer import sequencer_order
from infra.awsaccount import LOCK_S, Account, CannotCheck, DoesNotHold, now

Check = Callable[[Account], None]
CHECKS: dict[str, Check] = {}
_SOURCE = "abeyance.check"


def _check(name: str) -> Callable[[Check], Check]:
    def register(check: Check) -> Check:
        CHECKS[name] = check
        return check

    return register


def _expect(condition: bool, seen: str) -> None:
    if not condition:
        raise DoesNotHold(seen)


@contextlib.contextmanager
def _refused(*codes: str) -> Iterator[None]:
    """Expect an error of AWS with one of these codes, or of any code if none is given."""
    try:
        yield
    except ClientError as error:
        code = error.response["Error"]["Code"]
        _expect(not codes or code in codes, f"refused with {code}, not {' or '.join(codes)}")
    else:
        raise DoesNotHold("was not refused")


def _item(pk: str, sk: str = "-", **text: str) -> dict[str, Any]:
    return {name: {"S": value} for name, value in {"pk": pk, "sk": sk, **text}.items()}


@_check("dynamodb.conditional_write")
def _conditional_write(account: Account) -> None:
    dynamodb, table = account.client("dynamodb"), account.table()
    put = {"TableName": table, "ConditionExpression": "attribute_not_exists(pk)"}
    dynamodb.put_item(Item=_item("once", v="1"), **put)
    try:
        dynamodb.put_item(Item=_item("once", v="2"), ReturnValuesOnConditionCheckFailure="ALL_OLD", **put)
    except ClientError as error:
        _expect(error.response["Error"]["Code"] == "ConditionalCheckFailedException", str(error))
        _expect(error.response.get("Item") == _item("once", v="1"), "the item that stands is not returned")
    else:
        raise DoesNotHold("a second conditional put was taken")


@_check("dynamodb.consistent_read")
def _consistent_read(account: Account) -> None:
    dynamodb, table = account.client("dynamodb"), account.table()
    for number in range(20):
        item = _item("read", v=str(number))
        dynamodb.put_item(TableName=table, Item=item)
        seen = dynamodb.get_item(TableName=table, Key=_item("read"), ConsistentRead=True)["Item"]
        _expect(seen == item, "an older item was read")


@_check("dynamodb.transaction_atomic")
def _transaction_atomic(account: Account) -> None:
    dynamodb, table = account.client("dynamodb"), account.table()
    absent = {"Key": _item("nothing"), "ConditionExpression": "attribute_exists(pk)"}
    actions = [
        {"Put": {"TableName": table, "Item": _item("half")}},
        {"ConditionCheck": {"TableName": table, **absent}},
    ]
    try:
        dynamodb.transact_write_items(TransactItems=actions)
    except ClientError as error:
        reasons = [reason.get("Code") for reason in error.response.get("CancellationReasons", [])]
        _expect(reasons == ["None", "ConditionalCheckFailed"], f"reasons are {reasons}")
    else:
        raise DoesNotHold("a transaction with a failed condition was taken")
    found = dynamodb.get_item(TableName=table, Key=_item("half"), ConsistentRead=True)
    _expect("Item" not in found, "half of a transaction was written")


@_check("dynamodb.transaction_limit")
def _transaction_limit(account: Account) -> None:
    dynamodb, table = account.client("dynamodb"), account.table()
    actions = [{"Put": {"TableName": table, "Item": _item(f"many{n}")}} for n in range(101)]
    dynamodb.transact_write_items(TransactItems=actions[:100])
    with _refused("ValidationException"):
        dynamodb.transact_write_items(TransactItems=actions)


@_check("dynamodb.batch_get")
def _batch_get(account: Account) -> None:
    dynamodb, table = account.client("dynamodb"), account.table()
    keys = [_item(f"get{n}") for n in range(101)]
    answer = dynamodb.batch_get_item(RequestItems={table: {"Keys": keys[:100]}})
    _expect("UnprocessedKeys" in answer, "the answer names no unprocessed keys")
    with _refused("ValidationException"):
        dynamodb.batch_get_item(RequestItems={table: {"Keys": keys}})


@_check("dynamodb.batch_write")
def _batch_write(account: Account) -> None:
    dynamodb, table = account.client("dynamodb"), account.table()
    requests = [{"PutRequest": {"Item": _item(f"put{n}")}} for n in range(26)]
    dynamodb.batch_write_item(RequestItems={table: requests[:25]})
    with _refused("ValidationException"):
        dynamodb.batch_write_item(RequestItems={table: requests})


@_check("dynamodb.item_size")
def _item_size(account: Account) -> None:
    dynamodb, table = account.client("dynamodb"), account.table()
    dynamodb.put_item(TableName=table, Item=_item("large", v="x" * (400 * 1024 - 50)))
    with _refused("ValidationException"):
        dynamodb.put_item(TableName=table, Item=_item("large", v="x" * (400 * 1024)))


@_check("dynamodb.query_order")
def _query_order(account: Account) -> None:
    dynamodb, table = account.client("dynamodb"), account.table()
    keys = ["B", "a", "ä", "\U0001f600", "\uffee", "0"]
    for key in keys:
        dynamodb.put_item(TableName=table, Item=_item("order", key))
    answer = dynamodb.query(
        TableName=table,
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues={":pk": {"S": "order"}},
        ConsistentRead=True,
    )
    seen = [item["sk"]["S"] for item in answer["Items"]]
    _expect(seen == sorted(keys, key=str.encode), f"the order is {seen}")


@_check("dynamodb.pitr")
def _pitr(account: Account) -> None:
    dynamodb, table = account.client("dynamodb"), account.table()
    for _ in range(30):
        try:
            dynamodb.update_continuous_backups(
                TableName=table, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
            )
            break
        except ClientError as error:
            # While backups are being enabled for a new table.
            if error.response["Error"]["Code"] != "ContinuousBackupsUnavailableException":
                raise
            time.sleep(2)
    found = dynamodb.describe_continuous_backups(TableName=table)["ContinuousBackupsDescription"]
    status = found["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"]
    _expect(status == "ENABLED", f"it is {status}")


@_check("dynamodb.resource_policy")
def _resource_policy(account: Account) -> None:
    dynamodb, table = account.client("dynamodb"), account.table()
    arn = dynamodb.describe_table(TableName=table)["Table"]["TableArn"]
    deny = {"Effect": "Deny", "Principal": "*", "Action": "dynamodb:DeleteItem", "Resource": arn}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [deny]})
    dynamodb.put_resource_policy(ResourceArn=arn, Policy=policy)
    try:
        until = time.monotonic() + 30
        while time.monotonic() < until:
            try:
                dynamodb.delete_item(TableName=table, Key=_item("denied"))
            except ClientError as error:
                _expect(error.response["Error"]["Code"] == "AccessDeniedException", str(error))
                return
            time.sleep(1)
        raise DoesNotHold("the denied action was done for 30 s")
    finally:
        dynamodb.delete_resource_policy(ResourceArn=arn)


@_check("s3.read_after_write")
def _read_after_write(account: Account) -> None:
    s3, bucket = account.client("s3"), account.bucket()
    for number in range(10):
        s3.put_object(Bucket=bucket, Key="read", Body=str(number).encode())
        body = s3.get_object(Bucket=bucket, Key="read")["Body"].read()
        _expect(body == str(number).encode(), "an older object was read")
    s3.delete_object(Bucket=bucket, Key="read")
    listed = s3.list_objects_v2(Bucket=bucket, Prefix="read").get("Contents", [])
    _expect(listed == [], "a deleted object was listed")


@_check("s3.if_none_match_put")
def _if_none_match_put(account: Account) -> None:
    s3, bucket = account.client("s3"), account.bucket()
    s3.put_object(Bucket=bucket, Key="once", Body=b"1", IfNoneMatch="*")
    with _refused("PreconditionFailed"):
        s3.put_object(Bucket=bucket, Key="once", Body=b"2", IfNoneMatch="*")


@_check("s3.if_match_read")
def _if_match_read(account: Account) -> None:
    s3, bucket = account.client("s3"), account.bucket()
    etag = s3.put_object(Bucket=bucket, Key="match", Body=b"1")["ETag"]
    s3.get_object(Bucket=bucket, Key="match", IfMatch=etag)
    s3.put_object(Bucket=bucket, Key="match", Body=b"2")
    with _refused("PreconditionFailed"):
        s3.get_object(Bucket=bucket, Key="match", IfMatch=etag)
    with _refused("412", "PreconditionFailed"):
        s3.head_object(Bucket=bucket, Key="match", IfMatch=etag)


@_check("s3.missing_object")
def _missing_object(account: Account) -> None:
    s3, bucket = account.client("s3"), account.bucket()
    with _refused("404"):
        s3.head_object(Bucket=bucket, Key="never")
    with _refused("NoSuchKey"):
        s3.get_object(Bucket=bucket, Key="never")


@_check("s3.key_bytes")
def _key_bytes(account: Account) -> None:
    s3, bucket = account.client("s3"), account.bucket()
    s3.put_object(Bucket=bucket, Key="ä" * 512, Body=b"")
    with _refused("KeyTooLongError", "KeyTooLong"):
        s3.put_object(Bucket=bucket, Key="ä" * 512 + "x", Body=b"")


@_check("s3.object_lock")
def _object_lock(account: Account) -> None:
    s3, bucket = account.client("s3"), account.bucket()
    until = now() + datetime.timedelta(seconds=LOCK_S)
    lock = {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": until}
    place = {"Bucket": bucket, "Key": "locked"}
    version = s3.put_object(**place, Body=b"1", ChecksumAlgorithm="SHA256", **lock)["VersionId"]
    # At the end, wait until the lock has ended.
    account.later("lock", lambda: time.sleep(max(0.0, (until - now()).total_seconds() + 2)))
    with _refused("AccessDenied"):
        s3.delete_object(**place, VersionId=version)
    s3.put_object(**place, Body=b"2", ChecksumAlgorithm="SHA256")
    body = s3.get_object(**place, VersionId=version)["Body"].read()
    _expect(body == b"1", "the locked version has another content")


@_check("s3.archived_object")
def _archived_object(account: Account) -> None:
    s3, bucket = account.client("s3"), account.bucket()
    s3.put_object(Bucket=bucket, Key="cold", Body=b"1", StorageClass="GLACIER")
    with _refused("InvalidObjectState"):
        s3.get_object(Bucket=bucket, Key="cold")
    tier = s3.head_object(Bucket=bucket, Key="cold").get("StorageClass")
    _expect(tier == "GLACIER", f"HEAD names {tier}")


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


@_check("s3.event_form")
def _event_form(account: Account) -> None:
    events = _object_events(account)
    kinds = {event["detail-type"] for event in events}
    _expect(kinds == {"Object Created", "Object Deleted"}, f"detail-types are {kinds}")
    for event in events:
        thing = event["detail"]["object"]
        _expect(thing["key"] == "odd/ä b+c %.jpg", f"the key is {thing['key']!r}")
        _expect(bool(thing.get("sequencer")), "there is no sequencer")
        if event["detail-type"] == "Object Created":
            _expect(bool(thing.get("etag")) and '"' not in thing["etag"], f"the ETag is {thing.get('etag')}")


@_check("s3.sequencer_order")
def _sequencer_order(account: Account) -> None:
    events = sorted(
        _object_events(account), key=lambda event: sequencer_order(event["detail"]["object"]["sequencer"])
    )
    times = [event["time"] for event in events]
    _expect(times == sorted(times), f"sequencers order the events as {times}")


@_check("sqs.visibility")
def _visibility(account: Account) -> None:
    queue = account.queue("visibility", VisibilityTimeout="3")
    account.client("sqs").send_message(QueueUrl=queue, MessageBody="1")
    _expect(len(account.receive(queue)) == 1, "the message did not come")
    _expect(account.receive(queue, patience=1) == [], "it came again before its time")
    _expect(len(account.receive(queue, patience=15)) == 1, "it did not come again")


@_check("sqs.receive_count")
def _receive_count(account: Account) -> None:
    dead = account.queue("dead")
    redrive = json.dumps({"deadLetterTargetArn": account.arn(dead), "maxReceiveCount": 2})
    queue = account.queue("counted", VisibilityTimeout="1", RedrivePolicy=redrive)
    account.client("sqs").send_message(QueueUrl=queue, MessageBody="1")
    for wanted in ("1", "2"):
        (message,) = account.receive(queue, patience=20) or ({"Attributes": {}},)
        count = message["Attributes"].get("ApproximateReceiveCount")
        _expect(count == wanted, f"delivery {wanted} counts {count}")
        time.sleep(1.5)
    _expect(account.receive(queue, patience=3) == [], "it was delivered a third time")
    _expect(len(account.receive(dead, patience=20)) == 1, "it is not in the dead-letter queue")


@_check("sqs.sent_timestamp")
def _sent_timestamp(account: Account) -> None:
    queue = account.queue("plain")
    account.client("sqs").send_message(QueueUrl=queue, MessageBody="1")
    (message,) = account.receive(queue) or ({"Attributes": {}},)
    sent = int(message["Attributes"].get("SentTimestamp", 0)) / 1000
    _expect(abs(sent - time.time()) < 60, f"it says {sent}")


@_check("sqs.delay")
def _delay(account: Account) -> None:
    sqs, queue = account.client("sqs"), account.queue("delay")
    sqs.send_message(QueueUrl=queue, MessageBody="1", DelaySeconds=900)
    with _refused():
        sqs.send_message(QueueUrl=queue, MessageBody="1", DelaySeconds=901)


@_check("sqs.fifo_deduplication")
def _fifo_deduplication(account: Account) -> None:
    queue = account.queue("same.fifo")
    for _ in range(2):
        account.client("sqs").send_message(QueueUrl=queue, MessageBody="1", MessageGroupId="g")
    _expect(len(account.receive(queue, 2, 6)) == 1, "the same body came twice")


@_check("sqs.fifo_order")
def _fifo_order(account: Account) -> None:
    sqs, queue = account.client("sqs"), account.queue("order.fifo", VisibilityTimeout="60")
    for number in range(3):
        sqs.send_message(QueueUrl=queue, MessageBody=str(number), MessageGroupId="g")
    answer = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=1, WaitTimeSeconds=5)
    _expect([message["Body"] for message in answer.get("Messages", [])] == ["0"], "the first is not first")
    _expect(account.receive(queue, 1, 2) == [], "one came while another of its group is in flight")


@_check("sqs.group_on_standard")
def _group_on_standard(account: Account) -> None:
    sqs, queue = account.client("sqs"), account.queue("grouped")
    entries = [{"Id": "0", "MessageBody": "1", "MessageGroupId": "acme"}]
    _expect(not sqs.send_message_batch(QueueUrl=queue, Entries=entries).get("Failed"), "it was refused")
    (message,) = account.receive(queue) or ({"Attributes": {}},)
    group = message["Attributes"].get("MessageGroupId")
    _expect(group == "acme", f"the group is {group}")


def _bus(account: Account) -> str:
    def make() -> str:
        events = account.client("events")
        events.create_event_bus(Name=account.name)
        account.later(f"bus {account.name}", lambda: events.delete_event_bus(Name=account.name))
        return account.name

    return str(account.once("bus", make))


def _put_event(account: Account, detail: dict[str, Any]) -> None:
    entry = {
        "Source": _SOURCE,
        "DetailType": "Check",
        "Detail": json.dumps(detail),
        "EventBusName": _bus(account),
    }
    account.client("events").put_events(Entries=[entry])


def _routed(account: Account, suffix: str, detail: dict[str, Any], **target: Any) -> dict[str, Any]:
    queue = account.route(suffix, _bus(account), {"source": [_SOURCE]}, **target)
    for _ in range(6):
        _put_event(account, detail)
        if found := account.receive(queue, 1, 15):
            return found[0]
    raise CannotCheck("no event came in 90 s")


@_check("events.whole_event")
def _whole_event(account: Account) -> None:
    detail = {"upload": {"tenant": "acme", "key": "<id> ä"}, "n": [1.5, None]}
    event = json.loads(_routed(account, "whole", detail)["Body"])
    _expect(event["detail"] == detail, f"the detail is {event['detail']}")
    _expect({"id", "time", "source", "detail-type"} <= event.keys(), f"it has {sorted(event)}")


@_check("events.group_from_path")
def _group_from_path(account: Account) -> None:
    parameters = {"SqsParameters": {"MessageGroupId": "$.detail.upload.tenant"}}
    message = _routed(account, "path", {"upload": {"tenant": "acme"}}, **parameters)
    group = message["Attributes"].get("MessageGroupId")
    _expect(group == "acme", f"the group is {group}")


@_check("events.entry_size")
def _entry_size(account: Account) -> None:
    events, entry = (
        account.client("events"),
        {"Source": _SOURCE, "DetailType": "Check", "EventBusName": _bus(account)},
    )
    entries = [{**entry, "Detail": "{}"} for _ in range(11)]
    events.put_events(Entries=entries[:10])
    with _refused():
        events.put_events(Entries=entries)
    with _refused():
        events.put_events(Entries=[{**entry, "Detail": json.dumps({"x": "x" * (2 << 20)})}])


class _ConfigurationProfile:
    """A profile of AppConfig with two versions, the first deployed."""

    def __init__(self, account: Account) -> None:
        client, name = account.client("appconfig"), account.name
        self.client = client
        app = client.create_application(Name=name)["Id"]
        account.later(f"application {name}", lambda: client.delete_application(ApplicationId=app))
        self.place = {"ApplicationId": app}
        environment = client.create_environment(**self.place, Name=name)["Id"]
        account.later(
            f"environment {name}",
            lambda: client.delete_environment(
                **self.place, EnvironmentId=environment, DeletionProtectionCheck="BYPASS"
            ),
        )
        profile = client.create_configuration_profile(**self.place, Name=name, LocationUri="hosted")["Id"]
        account.later(
            f"profile {name}",
            lambda: client.delete_configuration_profile(
                **self.place, ConfigurationProfileId=profile, DeletionProtectionCheck="BYPASS"
            ),
        )
        self.ids = {"environment": environment, "profile": profile}
        for body in (b'{"v": 1}', b'{"v": 2}'):
            made = client.create_hosted_configuration_version(
                **self.place, ConfigurationProfileId=profile, Content=body, ContentType="application/json"
            )
            number = made["VersionNumber"]
            account.later(
                f"version {number}",
                lambda number=number: client.delete_hosted_configuration_version(
                    **self.place, ConfigurationProfileId=profile, VersionNumber=number
                ),
            )
        self.strategies = {minutes: self._strategy(account, minutes) for minutes in (0, 10)}
        self.deploy("1", 0)
        self.wait()

    def _strategy(self, account: Account, minutes: int) -> str:
        made = self.client.create_deployment_strategy(
            Name=f"{account.name}-{minutes}",
            DeploymentDurationInMinutes=minutes,
            FinalBakeTimeInMinutes=0,
            GrowthFactor=100.0 if not minutes else 10.0,
            ReplicateTo="NONE",
        )["Id"]
        account.later(
            f"strategy {made}", lambda: self.client.delete_deployment_strategy(DeploymentStrategyId=made)
        )
        return str(made)

    def deploy(self, version: str, minutes: int) -> int:
        """Start a deployment and return its number."""
        answer = self.client.start_deployment(
            **self.place,
            EnvironmentId=self.ids["environment"],
            ConfigurationProfileId=self.ids["profile"],
            ConfigurationVersion=version,
            DeploymentStrategyId=self.strategies[minutes],
        )
        return int(answer["DeploymentNumber"])

    def stop(self, number: int) -> None:
        self.client.stop_deployment(
            **self.place, EnvironmentId=self.ids["environment"], DeploymentNumber=number
        )

    def wait(self) -> None:
        """Wait until no deployment is under way."""
        until = time.monotonic() + 90
        while time.monotonic() < until:
            found = self.client.list_deployments(**self.place, EnvironmentId=self.ids["environment"])["Items"]
            if all(
                one["State"] not in ("DEPLOYING", "BAKING", "ROLLING_BACK", "VALIDATING") for one in found
            ):
                return
            time.sleep(1)
        raise CannotCheck("a deployment did not end in 90 s")

    def session(self, account: Account) -> str:
        answer = account.client("appconfigdata").start_configuration_session(
            ApplicationIdentifier=self.place["ApplicationId"],
            EnvironmentIdentifier=self.ids["environment"],
            ConfigurationProfileIdentifier=self.ids["profile"],
            RequiredMinimumPollIntervalInSeconds=15,
        )
        return str(answer["InitialConfigurationToken"])


def _profile(account: Account) -> _ConfigurationProfile:
    profile: _ConfigurationProfile = account.once("profile", lambda: _ConfigurationProfile(account))
    return profile


@_check("appconfig.session")
def _session(account: Account) -> None:
    data, token = account.client("appconfigdata"), _profile(account).session(account)
    first = data.get_latest_configuration(ConfigurationToken=token)
    _expect(json.loads(first["Configuration"].read()) == {"v": 1}, "the first answer is another one")
    time.sleep(15)
    second = data.get_latest_configuration(ConfigurationToken=first["NextPollConfigurationToken"])
    _expect(second["Configuration"].read() == b"", "the second answer is not empty")


@_check("appconfig.poll")
def _poll(account: Account) -> None:
    data, token = account.client("appconfigdata"), _profile(account).session(account)
    answer = data.get_latest_configuration(ConfigurationToken=token)
    _expect(answer["NextPollIntervalInSeconds"] <= 15, f"it is {answer['NextPollIntervalInSeconds']} s")


@_check("appconfig.one_deployment")
def _one_deployment(account: Account) -> None:
    profile = _profile(account)
    profile.wait()
    number = profile.deploy("2", 10)
    try:
        with _refused("ConflictException"):
            profile.deploy("1", 0)
    finally:
        profile.stop(number)
        profile.wait()


@_check("appconfig.stop")
def _stop(account: Account) -> None:
    profile = _profile(account)
    profile.wait()
    profile.stop(profile.deploy("2", 10))
    profile.wait()
    data = account.client("appconfigdata")
    answer = data.get_latest_configuration(ConfigurationToken=profile.session(account))
    _expect(json.loads(answer["Configuration"].read()) == {"v": 1}, "the stopped configuration is in force")


@_check("lambda.unreserved")
def _unreserved(account: Account) -> None:
    limits = account.client("lambda").get_account_settings()["AccountLimit"]
    total, free = limits["ConcurrentExecutions"], limits["UnreservedConcurrentExecutions"]
    _expect(free >= 100 + 108, f"{free} of {total} are unreserved: reserved_concurrency=100 needs 208")


@_check("kms.deletion_waits")
def _deletion_waits(account: Account) -> None:
    kms = account.client("kms")
    key = kms.create_key(Description=account.name)["KeyMetadata"]["KeyId"]
    account.left.append(f"key {key}, scheduled for deletion in 7 days")
    try:
        with _refused("ValidationException"):
            kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=6)
    finally:
        kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
