"""The way onto the ledger for a decision that somebody waits for: confirmed by the queue, or an error."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import msgspec
import rfc8785

from abeyance.ledger.chain import Record, normalise
from abeyance.ledger.errors import Inadmissible, LedgerUnavailable

#: One chain, so one message group: SQS then hands it to one consumer at a time, in order.
MESSAGE_GROUP: Final = "ledger"

#: For ``botocore.config.Config(**CLIENT_OPTIONS)``. Someone waits for the answer, and after five seconds at
#: most it is a denial; the defaults of botocore would let them wait for minutes.
CLIENT_OPTIONS: Final[dict[str, Any]] = {
    "connect_timeout": 1.0,
    "read_timeout": 1.5,
    "retries": {"total_max_attempts": 2, "mode": "standard"},
}

_decoder: Final = msgspec.json.Decoder(Record)


def queue_url(sqs: Any, queue: str) -> str:
    """URL of a queue that is given by its name or by its URL."""
    return queue if "://" in queue else str(sqs.get_queue_url(QueueName=queue)["QueueUrl"])


class LedgerQueue:
    """Puts records on the FIFO queue that the writer of the ledger consumes.

    Parameters
    ----------
    client
        A boto3 ``sqs`` client, made with :data:`CLIENT_OPTIONS`.
    url
        URL of the FIFO queue.
    """

    def __init__(self, client: Any, url: str) -> None:
        self._client = client
        self._url = url

    def put(self, record: Record) -> None:
        """Queue one record and return when SQS has confirmed that it holds exactly these bytes.

        The deduplication id covers the whole record, not only its id: a retry is dropped by SQS, while
        another content under the same id reaches the ledger and is written there as a conflict.

        Raises
        ------
        LedgerUnavailable
            The record is inadmissible, SQS refused or did not answer, or its answer does not confirm these
            bytes. The caller denies.
        """
        try:
            body = encode_record(record)
        except Inadmissible as error:
            raise LedgerUnavailable(f"the ledger does not take this record: {error}") from error
        try:
            answer = self._client.send_message(
                QueueUrl=self._url,
                MessageBody=body,
                MessageGroupId=MESSAGE_GROUP,
                MessageDeduplicationId=hashlib.sha256(body.encode()).hexdigest(),
            )
            confirmed = bool(answer["MessageId"]) and answer["MD5OfMessageBody"] == _md5(body)
        except Exception as error:  # noqa: BLE001 - whatever went wrong, the record is not known to be queued
            # The cause's text may quote the request, so only its type is told.
            raise LedgerUnavailable(
                f"the ledger queue did not confirm: {type(error).__name__}; deny"
            ) from None
        if not confirmed:
            raise LedgerUnavailable("the ledger queue confirmed something else than was sent; deny")


def encode_record(record: Record) -> str:
    """A record as the body of a message: canonical JSON of the normalised record.

    Raises
    ------
    Inadmissible
        See :func:`abeyance.ledger.chain.normalise`.
    """
    return rfc8785.dumps(msgspec.structs.asdict(normalise(record))).decode()


def decode_record(body: str | bytes) -> Record:
    """The inverse of :func:`encode_record`, unchecked: the store checks what it appends.

    Raises
    ------
    msgspec.DecodeError, msgspec.ValidationError
        Not a record.
    """
    return _decoder.decode(body)


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
