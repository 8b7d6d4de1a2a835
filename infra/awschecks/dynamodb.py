"""Checks of DynamoDB."""

from __future__ import annotations

import json
import time
from typing import Any

from botocore.exceptions import ClientError

from infra.awschecks.account import Account, DoesNotHold
from infra.awschecks.registry import check, expect, refused


def _item(pk: str, sk: str = "-", **text: str) -> dict[str, Any]:
    return {name: {"S": value} for name, value in {"pk": pk, "sk": sk, **text}.items()}


@check("dynamodb.conditional_write")
def _conditional_write(account: Account) -> None:
    dynamodb, table = account.client("dynamodb"), account.table()
    put = {"TableName": table, "ConditionExpression": "attribute_not_exists(pk)"}
    dynamodb.put_item(Item=_item("once", v="1"), **put)
    try:
        dynamodb.put_item(Item=_item("once", v="2"), ReturnValuesOnConditionCheckFailure="ALL_OLD", **put)
    except ClientError as error:
        expect(error.response["Error"]["Code"] == "ConditionalCheckFailedException", str(error))
        expect(error.response.get("Item") == _item("once", v="1"), "the item that stands is not returned")
    else:
        raise DoesNotHold("a second conditional put was taken")


@check("dynamodb.consistent_read")
def _consistent_read(account: Account) -> None:
    dynamodb, table = account.client("dynamodb"), account.table()
    for number in range(20):
        item = _item("read", v=str(number))
        dynamodb.put_item(TableName=table, Item=item)
        seen = dynamodb.get_item(TableName=table, Key=_item("read"), ConsistentRead=True)["Item"]
        expect(seen == item, "an older item was read")


@check("dynamodb.transaction_atomic")
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
        expect(reasons == ["None", "ConditionalCheckFailed"], f"reasons are {reasons}")
    else:
        raise DoesNotHold("a transaction with a failed condition was taken")
    found = dynamodb.get_item(TableName=table, Key=_item("half"), ConsistentRead=True)
    expect("Item" not in found, "half of a transaction was written")


@check("dynamodb.transaction_limit")
def _transaction_limit(account: Account) -> None:
    dynamodb, table = account.client("dynamodb"), account.table()
    actions = [{"Put": {"TableName": table, "Item": _item(f"many{n}")}} for n in range(101)]
    dynamodb.transact_write_items(TransactItems=actions[:100])
    with refused("ValidationException"):
        dynamodb.transact_write_items(TransactItems=actions)


@check("dynamodb.batch_get")
def _batch_get(account: Account) -> None:
    dynamodb, table = account.client("dynamodb"), account.table()
    keys = [_item(f"get{n}") for n in range(101)]
    answer = dynamodb.batch_get_item(RequestItems={table: {"Keys": keys[:100]}})
    expect("UnprocessedKeys" in answer, "the answer names no unprocessed keys")
    with refused("ValidationException"):
        dynamodb.batch_get_item(RequestItems={table: {"Keys": keys}})


@check("dynamodb.batch_write")
def _batch_write(account: Account) -> None:
    dynamodb, table = account.client("dynamodb"), account.table()
    requests = [{"PutRequest": {"Item": _item(f"put{n}")}} for n in range(26)]
    dynamodb.batch_write_item(RequestItems={table: requests[:25]})
    with refused("ValidationException"):
        dynamodb.batch_write_item(RequestItems={table: requests})


@check("dynamodb.item_size")
def _item_size(account: Account) -> None:
    dynamodb, table = account.client("dynamodb"), account.table()
    dynamodb.put_item(TableName=table, Item=_item("large", v="x" * (400 * 1024 - 50)))
    with refused("ValidationException"):
        dynamodb.put_item(TableName=table, Item=_item("large", v="x" * (400 * 1024)))


@check("dynamodb.query_order")
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
    expect(seen == sorted(keys, key=str.encode), f"the order is {seen}")


@check("dynamodb.pitr")
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
    expect(status == "ENABLED", f"it is {status}")


@check("dynamodb.resource_policy")
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
                expect(error.response["Error"]["Code"] == "AccessDeniedException", str(error))
                return
            time.sleep(1)
        raise DoesNotHold("the denied action was done for 30 s")
    finally:
        dynamodb.delete_resource_policy(ResourceArn=arn)
