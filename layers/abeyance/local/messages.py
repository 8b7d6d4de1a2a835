"""The messages of one SQS queue, in an order that costs the same with ten of them and with ten thousand.

moto walks every message of a queue at each send and receive. Here a message is in exactly one place: a *line*, if it
can be received now, or the heap of those that can be received later, because they are in flight or delayed. A standard
queue has one line. A FIFO queue has one for each group, closed while a message of the group is in flight.
"""

from __future__ import annotations

import enum
import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from moto.sqs.models import Message

#: SQS forgets a deduplication id after this time, whether its message is still there or not.
DEDUPLICATION_MS: Final = 300_000


class _Place(enum.Enum):
    READY = "ready"
    IN_FLIGHT = "in flight"
    HIDDEN = "hidden"
    DELAYED = "delayed"


@dataclass(slots=True, eq=False)
class _Entry:
    """A message and its place in the queue."""

    message: Message
    #: Number by arrival; a message that becomes visible again stands where it stood.
    number: int
    line: _Line
    place: _Place = _Place.READY
    #: Grows with every change of place, so that what a heap has of an earlier place is known as outdated.
    moves: int = 0


@dataclass(slots=True, eq=False)
class _Line:
    """The messages of a group that can be received, first come first."""

    ready: list[tuple[int, int, _Entry]] = field(default_factory=list)
    entries: int = 0
    in_flight: int = 0
    #: Number of the first message under which the store has noted the line as open; 0 for none.
    noted: int = 0


class MessageStore:
    """The messages. Every method takes the time, in milliseconds since 1970; none locks.

    Parameters
    ----------
    fifo
        Whether groups are kept in order.
    """

    def __init__(self, *, fifo: bool) -> None:
        self._fifo = fifo
        self._entries: dict[str, _Entry] = {}
        self._handles: dict[str, _Entry] = {}
        self._lines: dict[str | None, _Line] = {}
        #: First number of a line that may be open, and the line; outdated ones are skipped.
        self._open: list[tuple[int, int, _Line]] = []
        self._later: list[tuple[float, int, int, _Entry]] = []
        self._counts = dict.fromkeys(_Place, 0)
        self._numbers = 0
        self._seen: dict[tuple[str | None, str], float] = {}
        self._seen_order: deque[tuple[float, tuple[str | None, str]]] = deque()
        #: Messages that were deleted, since the start.
        self.deleted = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Message]:
        return (entry.message for entry in self._entries.values())

    def visible(self, now: float) -> int:
        """Return the number of messages that are neither in flight nor delayed."""
        self._advance(now)
        return self._counts[_Place.READY]

    def not_visible(self, now: float) -> int:
        """Return the number of messages that were received, or hidden, and are not visible again."""
        self._advance(now)
        return self._counts[_Place.IN_FLIGHT] + self._counts[_Place.HIDDEN]

    def delayed(self, now: float) -> int:
        """Return the number of messages whose delay has not passed."""
        self._advance(now)
        return self._counts[_Place.DELAYED]

    def next_change(self) -> float | None:
        """Return the time at which the next message becomes visible by itself, or a little before; None for never."""
        return self._later[0][0] if self._later else None

    def is_duplicate(self, message: Message, now: float, *, per_group: bool) -> bool:
        """Return whether the deduplication id was seen in the last five minutes, and remember it.

        ``per_group`` is the scope of the id; otherwise it is the queue.
        """
        if message.deduplication_id is None:
            return False
        while self._seen_order and self._seen_order[0][0] <= now - DEDUPLICATION_MS:
            del self._seen[self._seen_order.popleft()[1]]
        key = (message.group_id if per_group else None, message.deduplication_id)
        if key in self._seen:
            return True
        self._seen[key] = now
        self._seen_order.append((now, key))
        return False

    def add(self, message: Message, now: float) -> None:
        """Add a message; it can be received when its delay and an earlier visibility timeout have passed."""
        line = self._lines.setdefault(message.group_id if self._fifo else None, _Line())
        self._numbers += 1
        entry = self._entries[message.id] = _Entry(message, self._numbers, line)
        line.entries += 1
        for handle in message.all_receipt_handles:
            if handle is not None:
                self._handles[handle] = entry
        self._counts[entry.place] += 1
        self._put(entry, _Place.DELAYED, max(message.delayed_until, message.visible_at), now)

    def take(
        self, most: int, now: float, *, visibility_s: int, max_receives: int, retained_ms: float
    ) -> tuple[list[Message], list[Message]]:
        """Receive messages, and remove those that were received too often.

        Parameters
        ----------
        most
            Most messages to receive.
        now
            The time.
        visibility_s
            Time until a received message is visible again.
        max_receives
            Receives after which a message is dead; 0 for no limit.
        retained_ms
            Time after which a message is lost.

        Returns
        -------
        The received messages, marked as received, and the dead ones.
        """
        self._advance(now)
        self._expire(now - retained_ms)
        received: list[Message] = []
        dead: list[Message] = []
        started: list[_Line] = []
        while len(received) < most and (entry := self._next(started)) is not None:
            message = entry.message
            if (message.sent_timestamp or 0) <= now - retained_ms:
                self._remove(entry)
            elif max_receives and message.approximate_receive_count >= max_receives:
                self._remove(entry)
                dead.append(message)
            else:
                message.mark_received(visibility_timeout=visibility_s)
                self._handles[str(message.receipt_handle)] = entry
                # Not twice in one call, also where it is visible again at once.
                self._put(entry, _Place.IN_FLIGHT, max(message.visible_at, now + 1), now)
                received.append(message)
                if self._fifo and entry.line not in started:
                    started.append(entry.line)
        return received, dead

    def find(self, handle: str) -> Message | None:
        """Return the message that was ever received with a handle, if it is there."""
        entry = self._handles.get(handle)
        return entry.message if entry else None

    def hide(self, message: Message, now: float) -> None:
        """Put a message where its ``visible_at`` has it."""
        self._advance(now)
        entry = self._entries[message.id]
        place = _Place.IN_FLIGHT if entry.place is _Place.IN_FLIGHT else _Place.HIDDEN
        self._put(entry, place, message.visible_at, now)

    def delete(self, message: Message) -> None:
        """Remove a message for good."""
        self._remove(self._entries[message.id])
        self.deleted += 1

    def clear(self) -> None:
        """Remove every message."""
        for entry in list(self._entries.values()):
            self._remove(entry)

    def _put(self, entry: _Entry, later: _Place, due: float, now: float) -> None:
        """Move an entry to its line if it is due, else to ``later``."""
        place = _Place.READY if due <= now else later
        line, was_in_flight = entry.line, entry.place is _Place.IN_FLIGHT
        self._counts[entry.place] -= 1
        self._counts[place] += 1
        entry.place = place
        entry.moves += 1
        if was_in_flight is not (place is _Place.IN_FLIGHT):
            line.in_flight += -1 if was_in_flight else 1
        if place is _Place.READY:
            heapq.heappush(line.ready, (entry.number, entry.moves, entry))
        else:
            heapq.heappush(self._later, (due, entry.number, entry.moves, entry))
        self._reopen(line)

    def _remove(self, entry: _Entry) -> None:
        message, line = entry.message, entry.line
        del self._entries[message.id]
        for handle in message.all_receipt_handles:
            if handle is not None:
                self._handles.pop(handle, None)
        self._counts[entry.place] -= 1
        line.entries -= 1
        line.in_flight -= entry.place is _Place.IN_FLIGHT
        entry.moves = -1
        if not line.entries:
            self._lines.pop(message.group_id if self._fifo else None, None)
        self._reopen(line)

    def _advance(self, now: float) -> None:
        """Move what is due to its line."""
        while self._later and self._later[0][0] <= now:
            _, _, moves, entry = heapq.heappop(self._later)
            if entry.moves == moves:
                self._put(entry, entry.place, now, now)

    def _expire(self, before: float) -> None:
        """Remove the oldest messages if they were sent before a time."""
        while self._entries:
            oldest = next(iter(self._entries.values()))
            if (oldest.message.sent_timestamp or 0) > before:
                return
            self._remove(oldest)

    def _head(self, line: _Line) -> _Entry | None:
        while line.ready:
            _, moves, entry = line.ready[0]
            if entry.moves == moves:
                return entry
            heapq.heappop(line.ready)
        return None

    def _reopen(self, line: _Line) -> None:
        """Note the line's first message, if the line is open and has one."""
        if self._fifo and line.in_flight:
            return
        head = self._head(line)
        if head is not None and head.number != line.noted:
            line.noted = head.number
            heapq.heappush(self._open, (head.number, id(line), line))

    def _next(self, started: list[_Line]) -> _Entry | None:
        """Return the first message that can be received, by number; ``started`` are the groups of this call."""
        for line in started:
            # As many messages of one group as possible, as SQS has it; no other call gets them now.
            if (head := self._head(line)) is not None:
                return head
        while self._open:
            number, _, line = self._open[0]
            head = self._head(line)
            if head is not None and head.number == number and not (self._fifo and line.in_flight):
                return head
            heapq.heappop(self._open)
            if line.noted == number:
                line.noted = 0
        return None
