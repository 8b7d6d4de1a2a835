"""The corrections to moto do what AWS does."""

from __future__ import annotations

import threading

import pytest
from botocore.exceptions import ClientError

from abeyance.local.aws import LocalAws


@pytest.fixture(scope="module")
def aws() -> LocalAws:
    local = LocalAws()
    local.start()
    yield local
    local.stop()


def test_it_listens_on_loopback_only(aws: LocalAws) -> None:
    assert aws.endpoint.startswith("http://127.0.0.1:")
    assert aws._server.bind_addr[0] == "127.0.0.1"


def test_a_cancelled_transaction_changes_nothing_and_says_why(aws: LocalAws) -> None:
    dynamodb, table = aws.client("dynamodb"), aws.settings.gallery_table
    there = {"pk": {"S": "a"}, "sk": {"S": "there"}, "n": {"N": "1"}}
    dynamodb.put_item(TableName=table, Item=there)
    update = {
        "Update": {
            "TableName": table,
            "Key": {"pk": {"S": "a"}, "sk": {"S": "there"}},
            "UpdateExpression": "SET n = :two",
            "ExpressionAttributeValues": {":two": {"N": "2"}},
        }
    }
    put = {"Put": {"TableName": table, "Item": {"pk": {"S": "a"}, "sk": {"S": "new"}}}}
    doomed = {
        "ConditionCheck": {
            "TableName": table,
            "Key": {"pk": {"S": "a"}, "sk": {"S": "nowhere"}},
            "ConditionExpression": "attribute_exists(pk)",
        }
    }
    with pytest.raises(ClientError) as caught:
        dynamodb.transact_write_items(TransactItems=[update, put, doomed])
    reasons = [reason["Code"] for reason in caught.value.response["CancellationReasons"]]
    assert reasons == ["None", "None", "ConditionalCheckFailed"]
    items = dynamodb.query(
        TableName=table, KeyConditionExpression="pk = :a", ExpressionAttributeValues={":a": {"S": "a"}}
    )["Items"]
    assert items == [there]
    dynamodb.transact_write_items(TransactItems=[update, put])
    assert dynamodb.get_item(TableName=table, Key=update["Update"]["Key"])["Item"]["n"] == {"N": "2"}


def test_transactions_of_many_threads_do_not_undo_each_other(aws: LocalAws) -> None:
    dynamodb, table = aws.client("dynamodb"), aws.settings.gallery_table
    key = {"pk": {"S": "counter"}, "sk": {"S": "counter"}}
    dynamodb.put_item(TableName=table, Item={**key, "n": {"N": "0"}})
    done = []

    def count() -> None:
        for _ in range(15):
            now = dynamodb.get_item(TableName=table, Key=key, ConsistentRead=True)["Item"]["n"]["N"]
            change = {
                "Update": {
                    "TableName": table,
                    "Key": key,
                    "UpdateExpression": "SET n = :next",
                    "ConditionExpression": "n = :now",
                    "ExpressionAttributeValues": {":now": {"N": now}, ":next": {"N": str(int(now) + 1)}},
                }
            }
            try:
                dynamodb.transact_write_items(TransactItems=[change])
            except dynamodb.exceptions.TransactionCanceledException:
                continue
            done.append(1)

    threads = [threading.Thread(target=count) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert dynamodb.get_item(TableName=table, Key=key, ConsistentRead=True)["Item"]["n"]["N"] == str(
        len(done)
    )


def test_s3_events_have_the_form_and_order_of_aws(aws: LocalAws) -> None:
    import json

    sqs, s3 = aws.client("sqs"), aws.client("s3")
    url = sqs.get_queue_url(QueueName="abeyance-gate")["QueueUrl"]
    s3.put_object(Bucket="uploads", Key="acme/index/a b/ü.jpg", Body=b"1")
    s3.put_object(Bucket="uploads", Key="acme/index/a b/ü.jpg", Body=b"22")
    s3.delete_object(Bucket="uploads", Key="acme/index/a b/ü.jpg")
    s3.put_object(Bucket="results", Key="elsewhere", Body=b"")
    messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    first, second, deleted = (json.loads(message["Body"]) for message in messages)
    assert first["detail-type"] == "Object Created"
    assert first["detail"]["reason"] == "PutObject"
    assert first["detail"]["bucket"]["name"] == "uploads"
    assert first["detail"]["object"]["key"] == "acme/index/a b/ü.jpg"
    assert first["detail"]["object"]["etag"] == "c4ca4238a0b923820dcc509a6f75849b"
    assert (first["detail"]["object"]["size"], second["detail"]["object"]["size"]) == (1, 2)
    assert deleted["detail-type"] == "Object Deleted"
    assert "etag" not in deleted["detail"]["object"]
    order = [event["detail"]["object"]["sequencer"] for event in (first, second, deleted)]
    assert order == sorted(set(order))
