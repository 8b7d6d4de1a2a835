"""The corrections to moto do what AWS does."""

from __future__ import annotations

import http.client
import json
import threading

import pytest
from botocore.exceptions import ClientError

from abeyance.aws.dynamodb import DynamoTable
from abeyance.local.aws import LocalAws
from abeyance.local.moto import Inbox
from abeyance.pipeline.events import Upload
from abeyance.pipeline.outbox import rejected
from abeyance.pipeline.upload_records import KEY, UploadRecords


@pytest.fixture(scope="module")
def aws() -> LocalAws:
    local = LocalAws()
    local.start()
    yield local
    local.stop()


def test_it_listens_on_loopback_only(aws: LocalAws) -> None:
    for endpoint, server in zip((aws.endpoint, aws.own_endpoint), aws._servers, strict=True):
        assert endpoint.startswith("http://127.0.0.1:")
        assert server.bind_addr[0] == "127.0.0.1"


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


def test_an_event_reaches_its_queue_as_it_was_put(aws: LocalAws) -> None:
    """Also where its text looks like a place in a template."""
    detail = {
        "upload": {"key": 'acme/index/staff/<id> <detail> "q".jpg'},
        "n": [1, 2.5, None, True],
        "media": "photo",
    }
    aws.client("events").put_events(
        Entries=[
            {
                "EventBusName": aws.settings.event_bus,
                "Source": "abeyance",
                "DetailType": "Upload Permitted",
                "Detail": json.dumps(detail),
            }
        ]
    )
    inbox = Inbox("abeyance-detect")
    (message,) = inbox.receive(10, 1)
    envelope = json.loads(message.body)
    assert envelope["detail"] == detail
    assert (envelope["detail-type"], envelope["source"]) == ("Upload Permitted", "abeyance")
    assert {"id", "account", "time", "region", "resources", "version"} <= envelope.keys()
    assert inbox.depth() == 1
    inbox.release(message, 0)
    (again,) = inbox.receive(10, 1)
    assert (again.id, again.approximate_receive_count) == (message.id, 2)
    inbox.delete(again)
    inbox.delete(again)
    assert inbox.depth() == 0


def test_a_queue_loses_nothing_that_comes_while_others_are_deleted(aws: LocalAws) -> None:
    sqs = aws.client("sqs")
    url = sqs.create_queue(QueueName="busy")["QueueUrl"]
    inbox, taken = Inbox("busy"), set()
    writers = [
        threading.Thread(
            target=lambda name=name: [
                sqs.send_message(QueueUrl=url, MessageBody=f"{name}-{n}") for n in range(40)
            ]
        )
        for name in "abc"
    ]
    for writer in writers:
        writer.start()
    while len(taken) < 120:
        messages = inbox.receive(10, 1)
        assert messages, f"{120 - len(taken)} are lost"
        for message in messages:
            taken.add(message.body)
            inbox.delete(message)
    for writer in writers:
        writer.join()
    assert inbox.depth() == 0


def test_connections_stay_open_and_metadata_keeps_its_spelling(aws: LocalAws) -> None:
    s3 = aws.client("s3")
    given = {"purpose": "access_control", "with_underscore": "1", "with-hyphen": "2"}
    s3.put_object(Bucket="results", Key="empty", Body=b"", Metadata=given)
    assert s3.head_object(Bucket="results", Key="empty")["Metadata"] == given
    connection = http.client.HTTPConnection(aws.endpoint.removeprefix("http://"))
    sockets = set()
    for _ in range(3):
        connection.request("HEAD", "/results/empty")
        assert connection.getresponse().read() == b""
        sockets.add(connection.sock)
    assert len(sockets) == 1
    assert None not in sockets
    connection.close()


def test_records_of_uploads_are_read_together(aws: LocalAws) -> None:
    table = DynamoTable(aws.client("dynamodb"), aws.settings.uploads_table, partition=KEY, sort="")
    records = UploadRecords(table, 1, lambda: 1e9)
    first, second, other = (
        Upload(bucket="uploads", key=key, version="v", sequencer=sequencer)
        for key, sequencer in (("a", "01"), ("a", "02"), ("b", "01"))
    )
    assert [records.claim(upload) for upload in (second, first, other)] == [True, False, True]
    outcome = rejected("gate", second, "KEY_NOT_UNDERSTOOD", "why")
    assert records.record("gate", outcome) is outcome
    assert records.record("gate", rejected("gate", second, "OTHER", "why")) == outcome
    states = records.read_states([first, second, other, second])
    assert [state.latest for state in states] == [False, True, True, True]
    assert [dict(state.recorded) for state in states] == [{}, {"gate": outcome}, {}, {"gate": outcome}]
    assert records.latest([first, second, other]) == [second.identity, second.identity, other.identity]
    assert records.read_states([]) == []
