"""Documents that decide, on the ledger: an entry with their digests, and their text beside the log, written once.

A decision names the digest of the flags that made it (``FlagSet.digest``), and an approval the digest of the document
that was agreed to (``document_digest``). The entry of a document joins the two, and the object with its text has the
second digest in its key, so that a decision can be made again from the log alone. So it is with guardrails, and with
a document that was refused because of them: the entry of the refusal names both.
"""

from __future__ import annotations

import logging
from collections.abc import Container, Iterator
from typing import Any, Final

import rfc8785

from abeyance.aws.timestamps import timestamp
from abeyance.ledger.entry import Record, blob_value
from abeyance.ledger.errors import LedgerError
from abeyance.ledger.objects import LogObjects
from abeyance.ledger.queue import RecordQueue
from abeyance.moratorium.document import parse, without_metadata
from abeyance.moratorium.guardrails import parse_guardrails
from abeyance.moratorium.publish import FlagPublisher, Published, Serving
from abeyance.moratorium.subjects import AuditChange, Change, DocumentChange, GuardrailsChange

log = logging.getLogger("abeyance")

#: Type of the entry of a flags document, and of a document of guardrails.
DOCUMENT: Final = "moratorium.document"
GUARDRAILS_DOCUMENT: Final = "moratorium.guardrails"
#: Type of the entry of a signed audit.
AUDIT_DOCUMENT: Final = "moratorium.audit"


class DocumentLog:
    """Puts documents on the ledger, each once."""

    def __init__(self, queue: RecordQueue, objects: LogObjects) -> None:
        self._queue = queue
        self._objects = objects

    def record(self, document: dict[str, Any]) -> bool:
        """Put a hosted document on the ledger; return whether it was new.

        The text is stored before the entry is queued, so no entry names a text that is missing; and a mark behind both
        says that they were, so that after a death the next call does both again.

        Raises
        ------
        LedgerUnavailable
            SQS or S3 did not confirm.
        FlagsError
            It cannot be read.
        """
        return self._record(document, DOCUMENT, "document", {"flags": parse(document).digest})

    def record_guardrails(self, document: dict[str, Any]) -> bool:
        """Put a document of guardrails on the ledger, as :meth:`record` does flags."""
        parse_guardrails(document)
        return self._record(document, GUARDRAILS_DOCUMENT, "guardrails", {})

    def record_audit(self, note: str) -> bool:
        """Put the signed note of an audit on the ledger, as :meth:`record` does flags."""
        return self._put(note.encode(), AUDIT_DOCUMENT, "audit", {})

    def record_change(self, change: Change) -> bool:
        """Put the document of a change on the ledger; return whether there is one, and it was new."""
        if isinstance(change, AuditChange):
            return self.record_audit(change.note)
        if isinstance(change, GuardrailsChange):
            return self.record_guardrails(change.document)
        return isinstance(change, DocumentChange) and self.record(change.document)

    def _record(self, document: dict[str, Any], kind: str, name: str, body: dict[str, Any]) -> bool:
        return self._put(rfc8785.dumps(without_metadata(document)), kind, name, body)

    def _put(self, text: bytes, kind: str, name: str, body: dict[str, Any]) -> bool:
        key, value = blob_value(text)
        mark = rfc8785.dumps({"recorded": value["blob"]})
        mark_key, _ = blob_value(mark)
        if self._objects.part(mark_key, 0, 1) is not None:
            return False
        self._objects.put_new(key, text)
        body |= {"document": value["blob"], "content": value}
        self._queue.put(Record(f"{name}:{value['blob']}", kind, timestamp("microseconds"), body))
        self._objects.put_new(mark_key, mark)
        return True


class RecordedPublisher:
    """A store of a flags document, whose documents are on the ledger before they are deployed.

    A ledger that does not answer holds up no halt: the task that watches for drift puts the document there later.
    """

    def __init__(self, publisher: FlagPublisher, log: DocumentLog) -> None:
        self._publisher = publisher
        self._log = log

    def serving(self) -> Serving:
        """Return what the store hands out."""
        return self._publisher.serving()

    def deployed(self, known: Container[str] = ()) -> Iterator[Published]:
        """Yield what was ever deployed."""
        return self._publisher.deployed(known)

    def deploy(self, document: dict[str, Any], /, *, gradual: bool, note: str) -> str:
        """Deploy a document, and return its version; raises as the store's own method does."""
        try:
            self._log.record(document)
        except LedgerError as error:
            log.warning("a document is not on the ledger yet", extra={"error": type(error).__name__})
        return self._publisher.deploy(document, gradual=gradual, note=note)
