"""The ledger's queue, for a decision that a caller waits for: SQS confirms the record, or there is an error."""

from __future__ import annotations

import hashlib
import secrets
from typing import Any, Protocol

import msgspec

from abeyance.aws.sqs import queue_url
from abeyance.aws.timestamps import timestamp
from abeyance.ledger.entry import SEED_BYTES, Record, make_entry
from abeyance.ledger.errors import Inadmissible, LedgerUnavailable


class RecordQueue(Protocol):
    """The port of the queue; :class:`LedgerQueue` is its adapter."""

    def put(self, record: Record) -> None:
        """Send a record. Raises :class:`~abeyance.ledger.errors.LedgerUnavailable`."""
        ...


class LedgerQueue:
    """The queue that the sequencer of the ledger consumes.

    Parameters
    ----------
    client
        A low-level SQS client with short timeouts: somebody waits, and no answer is a denial.
    queue
        Name or URL of the queue; a name is resolved when the first record comes.
    """

    def __init__(self, client: Any, queue: str) -> None:
        self._client = client
        self._queue = queue
        self._url = ""

    def put(self, record: Record) -> None:
        """Queue one record and return when SQS has confirmed that it holds exactly these bytes.

        A retry that SQS takes twice has one place on the ledger. Another content under the same id is written there
        as a conflict.

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
            self._url = self._url or queue_url(self._client, self._queue)
            answer = self._client.send_message(QueueUrl=self._url, MessageBody=body)
            confirmed = bool(answer["MessageId"]) and answer["MD5OfMessageBody"] == _md5(body)
        except Exception as error:  # noqa: BLE001 - whatever went wrong, the record is not known to be queued
            # The cause's text may quote the request, so the message has only its type.
            raise LedgerUnavailable(
                f"the ledger queue did not confirm: {type(error).__name__}; deny"
            ) from None
        if not confirmed:
            raise LedgerUnavailable("the ledger queue confirmed something else than was sent; deny")


def record_change(
    queue: RecordQueue, kind: str, body: dict[str, Any], *, entry_id: str = "", time: str = ""
) -> None:
    """Queue a record about a change of moratoria or tenants; raises ``LedgerUnavailable`` if it is not confirmed.

    An entry that is sent again has the ``entry_id`` and ``time`` of the first attempt.
    """
    record_id = entry_id or f"moratorium:{secrets.token_hex(8)}"
    queue.put(Record(id=record_id, type=kind, time=time or timestamp(), body=body))


def encode_record(record: Record) -> str:
    """Return a record as the body of a message, JSON; its entry is made here once, to see that it can be written.

    Raises
    ------
    Inadmissible
        See :func:`abeyance.ledger.entry.make_entry`.
    """
    make_entry(record, bytes(SEED_BYTES))
    return msgspec.json.encode(record).decode()


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
