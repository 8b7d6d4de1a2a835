"""Fairness between tenants: the message group that makes SQS deliver quiet tenants before one that fills the queue.

SQS's fair queues take a tenant from a message's group. For our own events EventBridge reads it from the event
(:data:`abeyance.pipeline.topology.TENANT_PATH`). An event of S3 has the tenant only as the first part of a key, which
no rule can cut out, so its messages come without a group, and SQS takes each for a quiet tenant of its own. They are
delivered in about the order of their arrival, and the gate keeps up. When it does not, :class:`GroupByTenant` puts them
back into the same queue with their group; see docs/adr/0013-fair-queues.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from abeyance.aws.dynamodb import batches
from abeyance.aws.sqs import queue_url
from abeyance.pipeline.batch import Batch, Message
from abeyance.pipeline.uploads import tenant_of_key

#: A message without a group that has waited for longer is in a backlog.
BACKLOG_S: Final = 10.0
#: After such a message, an environment puts every message without a group back for this time.
SORT_S: Final = 60.0
#: The group of keys that name no tenant.
NO_TENANT: Final = "-"
#: The envelope's field with the group, by which a message is put back only once.
GROUP_FIELD: Final = "group"
#: SQS's limit for one call.
_MOST_SENT: Final = 10


def group_of(envelope: Mapping[str, Any], uploads_bucket: str = "") -> str:
    """Return the message group of an event of ours or of S3: its tenant, or the bucket that a tenant registered."""
    detail = envelope.get("detail", {})
    bucket = detail.get("bucket", {}).get("name", "")
    if bucket not in ("", uploads_bucket):
        return f"bucket/{bucket}"
    tenant = detail.get("upload", {}).get("tenant") or tenant_of_key(detail.get("object", {}).get("key", ""))
    return tenant or NO_TENANT


class GroupByTenant:
    """A stage whose messages without a group go back into its queue under their tenant's while there is a backlog.

    That takes one call for the messages of an invocation, a tenth of their work, so the backlog is soon sorted. A crash
    in between leaves two copies, which the stage bears, as it bears S3's own.

    Parameters
    ----------
    stage
        Does the work.
    sqs
        Makes the SQS client, when it is first needed.
    queue
        Name or URL of the stage's own queue.
    uploads_bucket
        Where keys begin with the tenant.
    clock
        Epoch seconds.
    """

    def __init__(
        self,
        stage: Callable[[Batch[Message]], None],
        sqs: Callable[[], Any],
        queue: str,
        uploads_bucket: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._stage = stage
        self._make_sqs = sqs
        self._queue = queue
        self._uploads_bucket = uploads_bucket
        self._clock = clock
        self._sqs: Any = None
        self._sorts_until = 0.0

    def __call__(self, batch: Batch[Message]) -> None:
        """Put back what waits in a backlog, and hand the rest to the stage."""
        now = self._clock()
        # One that was delivered before has waited for its own reason, and counts its deliveries.
        ungrouped = [one for one in batch if one.receives == 1 and GROUP_FIELD not in one.envelope]
        if any(one.sent and now - one.sent > BACKLOG_S for one in ungrouped):
            self._sorts_until = now + SORT_S
        back = {one.id for one in ungrouped} if now < self._sorts_until else set()
        batch.filter(lambda one: one.id in back).map_together(self._put_back)
        self._stage(batch.filter(lambda one: one.id not in back))

    def _put_back(self, messages: list[Message]) -> list[None]:
        if self._sqs is None:
            self._sqs = self._make_sqs()
            self._queue = queue_url(self._sqs, self._queue)
        for some in batches(enumerate(messages), _MOST_SENT):
            entries = [self._entry(str(number), message.envelope) for number, message in some]
            failed = self._sqs.send_message_batch(QueueUrl=self._queue, Entries=entries).get("Failed")
            if failed:
                raise RuntimeError(f"SQS did not take a message: {failed[0].get('Code')}")
        return [None] * len(messages)

    def _entry(self, name: str, envelope: Mapping[str, Any]) -> dict[str, str]:
        group = group_of(envelope, self._uploads_bucket)
        body = msgspec.json.encode({**envelope, GROUP_FIELD: group}).decode()
        return {"Id": name, "MessageBody": body, "MessageGroupId": group}
