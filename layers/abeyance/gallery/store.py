"""The gallery on DynamoDB and S3.

The table has a string partition key ``pk``, a string sort key ``sk`` and the time to live attribute ``expires``.
Keep the bucket without versions, or let old versions expire within a day: erasure deletes objects, and an old version
would outlive that.
"""

from __future__ import annotations

from typing import Any, Unpack

from abeyance.aws.dynamodb import DynamoTable, back_off
from abeyance.aws.objects import S3Bucket
from abeyance.gallery.facade import Gallery, Options


class DynamoGallery(Gallery):
    """A :class:`~abeyance.gallery.facade.Gallery` in a DynamoDB table and an S3 bucket.

    Parameters
    ----------
    dynamodb, s3
        Low-level boto3 clients. They are used from several threads, which clients allow.
    table, bucket
        Names.
    options
        As of :class:`~abeyance.gallery.facade.Gallery`.
    """

    def __init__(self, dynamodb: Any, table: str, s3: Any, bucket: str, **options: Unpack[Options]) -> None:
        pause = options.get("pause", back_off)
        super().__init__(DynamoTable(dynamodb, table, pause=pause), S3Bucket(s3, bucket), **options)
