"""moto's SQS with our own store of messages behind it: the same interface, and no walk over all messages."""

from __future__ import annotations

import copy
from typing import Any, Final

from moto.sqs import models
from moto.sqs.exceptions import InvalidParameterValue, ReceiptHandleIsInvalid
from moto.sqs.models import Message, Queue, SQSBackend

from abeyance.local.messages import MessageStore

#: SQS keeps a message invisible no longer than this, counted from when it was sent.
_MAX_HIDDEN_S: Final = 43_200


def _now_ms() -> float:
    # By its name in moto's module, so that whoever moves moto's clock moves ours.
    return float(models.unix_time_millis())  # type: ignore[attr-defined]


class StoredQueue(Queue):
    """A queue of moto whose messages are in a :class:`~abeyance.local.messages.MessageStore`."""

    def __init__(self, name: str, region: str, account_id: str, **attributes: Any) -> None:
        super().__init__(name, region, account_id, **attributes)
        self.store = MessageStore(fifo=self.fifo_queue)

    @property
    def approximate_number_of_messages(self) -> int:
        with self._messages_lock:
            return self.store.visible(_now_ms())

    @property
    def approximate_number_of_messages_not_visible(self) -> int:
        with self._messages_lock:
            return self.store.not_visible(_now_ms())

    @property
    def approximate_number_of_messages_delayed(self) -> int:
        with self._messages_lock:
            return self.store.delayed(_now_ms())

    def add_message(self, message: Message) -> None:
        """Add a message, unless it is a duplicate, and wake who waits for one."""
        now = _now_ms()
        with self._messages_lock:
            scope: Any = getattr(self, "deduplication_scope", "queue")
            if self.fifo_queue and self.store.is_duplicate(message, now, per_group=scope == "messageGroup"):
                return
            self.store.add(message, now)
            self._messages_lock.notify_all()

    def receive(self, most: int, wait_s: float, visibility_s: int) -> list[Message]:
        """Return messages, marked as received; wait up to ``wait_s`` seconds for the first."""
        policy: Any = self.redrive_policy if self.dead_letter_queue else None
        retained_ms = 1000.0 * int(self.message_retention_period)  # type: ignore[attr-defined]
        end = _now_ms() + 1000 * wait_s
        while True:
            with self._messages_lock:
                now = _now_ms()
                received, dead = self.store.take(
                    most,
                    now,
                    visibility_s=visibility_s,
                    max_receives=policy["maxReceiveCount"] if policy else 0,
                    retained_ms=retained_ms,
                )
                if not received and not dead and now < end:
                    change = self.store.next_change()
                    until = end if change is None else min(end, change)
                    self._messages_lock.wait(max(0.001, (until - now) / 1000))
            for message in dead:
                # What waited here has waited: the other queue hands it out at once, whatever its id.
                self.dead_letter_queue.take_over(message)  # type: ignore[union-attr]
            if received or now >= end:
                return received

    def take_over(self, message: Message) -> None:
        """Add a message of another queue, which gave it up."""
        with self._messages_lock:
            self.store.add(message, _now_ms())
            self._messages_lock.notify_all()

    def delete_message(self, receipt_handle: str) -> None:
        """Delete a message; one that is deleted already is no error."""
        with self._messages_lock:
            if receipt_handle in self.deleted_messages:
                return
            message = self._find(receipt_handle)
            self.store.delete(message)
            self.deleted_messages.update(handle for handle in message.all_receipt_handles if handle)
            self._messages_lock.notify_all()

    def change_visibility(self, receipt_handle: str, visibility_s: int) -> None:
        """Hide a message from now on for some seconds; 0 makes it visible."""
        with self._messages_lock:
            message = self._find(receipt_handle)
            now = _now_ms()
            if now + 1000 * visibility_s - (message.sent_timestamp or 0) > 1000 * _MAX_HIDDEN_S:
                raise InvalidParameterValue(
                    f"Value {visibility_s} for parameter VisibilityTimeout is invalid. Reason: Total "
                    f"VisibilityTimeout for the message is beyond the limit [{_MAX_HIDDEN_S} seconds]"
                )
            message.change_visibility(visibility_s)
            self.store.hide(message, now)
            self._messages_lock.notify_all()

    def purge(self) -> None:
        """Delete all messages."""
        with self._messages_lock:
            self.store.clear()

    def depth(self) -> int:
        """Return the number of messages, those in flight and those that are delayed included."""
        return len(self.store)

    def _find(self, receipt_handle: str) -> Message:
        message = self.store.find(receipt_handle)
        if message is None:
            raise ReceiptHandleIsInvalid
        return message


def install() -> None:
    """Put our store behind moto's SQS in this process."""
    models.Queue = StoredQueue  # type: ignore[misc]
    SQSBackend.receive_message = _receive_message  # type: ignore[method-assign, assignment]
    SQSBackend.change_message_visibility = _change_message_visibility  # type: ignore[method-assign, assignment]
    SQSBackend.purge_queue = _purge_queue  # type: ignore[method-assign, assignment]
    # moto keeps every object of its own for ever in a list.
    Message.__new__ = lambda cls, *_, **__: object.__new__(cls)  # type: ignore[method-assign]


def _receive_message(
    backend: SQSBackend,
    queue_name: str,
    count: int,
    wait_seconds_timeout: int,
    visibility_timeout: int,
    message_attribute_names: list[str] | None = None,
) -> list[Message]:
    queue: Any = backend.get_queue(queue_name)
    received = []
    for message in queue.receive(count, wait_seconds_timeout, int(visibility_timeout or 0)):
        shown = copy.copy(message)
        models._filter_message_attributes(shown, message_attribute_names or [])
        received.append(shown)
    return received


def _change_message_visibility(
    backend: SQSBackend, queue_name: str, receipt_handle: str, visibility_timeout: int
) -> None:
    queue: Any = backend.get_queue(queue_name)
    queue.change_visibility(receipt_handle, int(visibility_timeout))


def _purge_queue(backend: SQSBackend, queue_name: str) -> None:
    queue: Any = backend.get_queue(queue_name)
    queue.purge()
