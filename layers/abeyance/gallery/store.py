"""The gallery on DynamoDB and S3.

The table has a string partition key ``pk``, a string sort key ``sk`` and the time to live attribute ``expires``
(:func:`create_table` makes one). Keep the bucket without versions, or let old versions expire within a day:
erasure deletes objects, and an old version would outlive that.
"""

from __future__ import annotations

from typing import Any, Unpack

from abeyance.aws.dynamodb import DynamoTable, back_off
from abeyance.aws.objects import S3Bucket
from abeyance.aws.table import PARTITION, SORT, TTL
from abeyance.gallery.facade import Options, TableGallery


def create_table(client: Any, name: str) -> None:
    """Create the gallery table and wait for it; for local use and tests."""
    keys = {PARTITION: "HASH", SORT: "RANGE"}
    client.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": key, "KeyType": kind} for key, kind in keys.items()],
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
        BillingMode="PAY_PER_REQUEST",
    )
    client.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1})
    client.update_time_to_live(
        TableName=name, TimeToLiveSpecification={"Enabled": True, "AttributeName": TTL}
    )


class DynamoGallery(TableGallery):
    """A :class:`~abeyance.gallery.port.Gallery` in a DynamoDB table and an S3 bucket.

    Parameters
    ----------
    dynamodb, s3
        Low-level boto3 clients. They are used from several threads, which clients allow.
    table, bucket
        Names.
    options
        As of :class:`~abeyance.gallery.facade.TableGallery`.
    """

    def __init__(self, dynamodb: Any, table: str, s3: Any, bucket: str, **options: Unpack[Options]) -> None:
        pause = options.get("pause", back_off)
        super().__init__(DynamoTable(dynamodb, table, pause=pause), S3Bucket(s3, bucket), **options)
