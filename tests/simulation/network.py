"""What the network does to messages: any order, twice, late, to a process that dies, in the middle of another one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.simulation import actions, people
from tests.simulation.aws import QueuedMessage, SimulatedQueue
from tests.simulation.model import PEOPLE, Violation

from abeyance.pipeline import topology
from abeyance.pipeline.batch import answer

if TYPE_CHECKING:
    from tests.simulation.world import World

_STAGE_OF = {stage.queue: stage for stage in topology.STAGES}
#: Of the calls in whose middle something happens, those whose own photo it happens to.
_RACES = 0.4


class Network:
    """The deliveries of one seed."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._random = world.random
        self._clock = world.clock
        self._queues = world.aws.sqs.queues
        #: The messages of the invocation that is under way.
        self._at_work: list[QueuedMessage] = []

    def deliver(self, queue: SimulatedQueue, *, chaos: bool = True) -> bool:
        """Hand some visible messages of a queue to its stage; return whether there were any."""
        world, stage = self._world, _STAGE_OF[queue.name]
        batch = self._receive(queue, stage, chaos=chaos)
        if not batch:
            return False
        if not world.faults.nested:
            self._at_work = batch
        event = {
            "Records": [
                {
                    "messageId": message.id,
                    "body": message.body,
                    "attributes": {
                        "ApproximateReceiveCount": str(message.receives),
                        "ApproximateFirstReceiveTimestamp": str(int(message.first_received_s * 1000)),
                    },
                }
                for message in batch
            ]
        }
        failed = {message.id for message in batch}
        ended = True
        try:
            ended, response = world.run(stage.name, lambda: answer(event, world.stage(stage.name)))
            if ended:
                failed = {one["itemIdentifier"] for one in response["batchItemFailures"]}
        except Exception:
            pass
        for message in batch:
            again = message.id in failed or (chaos and self._random.random() < world.aws.duplicate / 2)
            if message not in queue.messages:
                continue
            if not again:
                queue.messages.remove(message)
            elif message.id in failed and message.receives >= queue.max_receives:
                queue.messages.remove(message)
                queue.dead.append(message)
            else:
                message.visible_at_s = self._clock.now_s + queue.visibility_s
        if chaos and not ended:
            self._meanwhile(self._random.choice(batch), stage.name)
        return True

    def deliver_some(self) -> None:
        """Hand messages of any queue to its stage."""
        waiting = [queue for queue in self._queues.values() if queue.messages]
        if waiting:
            self.deliver(self._random.choice(waiting))

    def deliver_all(self, rounds: int = 4) -> None:
        """Hand what is visible to its stage, as a quiet minute would."""
        for _ in range(rounds):
            for queue in self._queues.values():
                self.deliver(queue)

    def deliver_next(self, queue: SimulatedQueue, *, chaos: bool = True) -> bool:
        """Let the time go by until a message of the queue is visible, and hand it over."""
        if not queue.messages:
            return False
        self._clock.advance(max(0.0, _next_delivery_s(queue) - self._clock.now_s) + 0.1)
        return self.deliver(queue, chaos=chaos)

    def drain(self) -> None:
        """Deliver until nothing waits. Raises :class:`Violation` if that does not come to an end."""
        for _ in range(5_000):
            queues = list(self._queues.values())
            if not any(queue.messages for queue in queues):
                return
            delivered = [queue.messages and self.deliver(queue, chaos=False) for queue in queues]
            if not any(delivered):
                soonest = min(_next_delivery_s(queue) for queue in queues if queue.messages)
                self._clock.advance(max(0.0, soonest - self._clock.now_s) + 0.1)
        raise Violation("something waits for ever", self._world.seed)

    def interleave(self) -> None:
        """Let another invocation happen while one is under way, or somebody upload or delete."""
        drawn = self._random.random()
        if drawn < _RACES and self._at_work:
            self.overtake(_key_of(self._random.choice(self._at_work)))
        elif drawn < 0.8:
            self.deliver_some()
        elif drawn < 0.93:
            actions.upload(self._world)
        else:
            actions.delete(self._world)

    def overtake(self, key: str) -> None:
        """Let a photo be deleted or replaced, and that be processed to its end, in the middle of an invocation."""
        world = self._world
        stored = world.photos.get(key)
        drawn = self._random.random()
        if stored is None or key.count("/") < 3:
            return
        if drawn < 0.5:
            world.change(key, None)
        else:
            who = self._random.sample(PEOPLE, self._random.choice((0, 1)))
            world.change(key, people.photo(who, world.nonce(), bad=drawn < 0.7))
        with world.quietly():
            for _ in range(3):
                for stage in topology.PHOTO_STAGES[:3]:
                    self.deliver(self._queues[stage.queue], chaos=False)

    def _meanwhile(self, message: QueuedMessage, unit: str) -> None:
        """Let something happen to what a process died of, before it is delivered again."""
        world, key = self._world, _key_of(message)
        drawn = self._random.random()
        if drawn < 0.4:
            # A halt that comes between two deliveries; at the gate it would only keep everything out.
            world.set_flags(halted=unit != topology.GATE.name)
        elif key and drawn < 0.7:
            stored = world.photos.get(key)
            if drawn < 0.47 and stored:
                world.change(key, None)
            elif drawn < 0.55 and stored:
                world.change(key, stored.body)
                world.set_flags(halted=self._random.random() < 0.7)
            else:
                world.change(key, people.photo([self._random.choice(PEOPLE)], world.nonce()))

    def _receive(self, queue: SimulatedQueue, stage: topology.Stage, *, chaos: bool) -> list[QueuedMessage]:
        now_s = self._clock.now_s
        visible = [message for message in queue.messages if message.visible_at_s <= now_s]
        if chaos:
            self._random.shuffle(visible)
        most = min(stage.batch_size, len(visible))
        batch = visible[: self._random.randint(1, most) if chaos and most else most]
        for message in batch:
            message.receives += 1
            message.first_received_s = message.first_received_s or now_s
            message.visible_at_s = now_s + queue.visibility_s
        return batch


def _key_of(message: QueuedMessage) -> str:
    """Return the key of the photo that a message is about; empty if it is about none."""
    detail: Any = json.loads(message.body).get("detail")
    upload = detail.get("upload", detail.get("object")) if isinstance(detail, dict) else None
    return str(upload.get("key", "")) if isinstance(upload, dict) else ""


def _next_delivery_s(queue: SimulatedQueue) -> float:
    """Return the moment of the queue's next delivery."""
    return min(message.visible_at_s for message in queue.messages)
