"""What happens in one seed: one thing after the other, and the rest after them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from tests.simulation import actions, doors, people, stories, visitors
from tests.simulation.restore import back_up

from abeyance.deployment import build
from abeyance.deployment.flags import build_watch
from abeyance.ledger import indexer
from abeyance.pipeline import topology
from abeyance.pipeline.lapse import GRACE

if TYPE_CHECKING:
    from tests.simulation.world import World

Deed: TypeAlias = Callable[["World"], None]


def _wait(seconds: float) -> Deed:
    return lambda world: world.clock.advance(seconds)


#: What people do to a deployment besides uploading.
DEEDS: tuple[Deed, ...] = (
    actions.delete,
    actions.delete,
    actions.flip,
    actions.flip,
    actions.review,
    actions.associate,
    actions.erase,
    actions.send_poison,
    actions.send_forgery,
    back_up,
    stories.cut_off,
    stories.cut_off,
    stories.overtaken,
    stories.overtaken,
    stories.delete_a_collection,
    stories.group_faces,
    stories.replace_a_users_photo,
    stories.halt,
    stories.suspend_a_tenant,
    stories.review_a_match,
    stories.loosen,
    stories.loosen,
    stories.erase_somebody,
    stories.erase_from_a_deleted_collection,
    stories.search_after_an_erasure,
    stories.outage,
    stories.race_for_an_order,
    stories.follow_an_order,
    visitors.lapse,
    visitors.revoke,
    visitors.call_api,
    visitors.call_api,
    visitors.change_policy,
    visitors.change_tenant,
    visitors.write_checkpoint,
    visitors.write_index,
    visitors.announce,
    visitors.watch,
    visitors.watch,
    visitors.sweep,
    visitors.switch_embedder,
    visitors.jump,
    _wait(20.0),
    _wait(400.0),
    _wait(90_000.0),
)

#: One of these, or some of all deeds, is what happens most often in a seed.
FOCI: tuple[tuple[Deed, ...], ...] = (
    (visitors.call_api, stories.group_faces, stories.delete_a_collection),
    (stories.group_faces, actions.associate, actions.erase, actions.delete),
    (stories.replace_a_users_photo, stories.group_faces),
    (stories.review_a_match, actions.review, actions.review, actions.flip),
    (stories.loosen, visitors.change_policy),
    (visitors.switch_embedder, _wait(20.0), actions.flip),
    (stories.cut_off, stories.overtaken),
    (stories.erase_somebody,),
    (stories.erase_somebody, stories.review_a_match),
    (stories.erase_somebody, actions.delete, stories.overtaken),
    (stories.delete_a_collection, stories.overtaken),
    (stories.delete_a_collection, stories.erase_from_a_deleted_collection),
    (stories.review_a_match, actions.send_forgery),
    (stories.search_after_an_erasure, visitors.call_api),
    (stories.outage, visitors.switch_embedder),
    (visitors.announce, visitors.watch, visitors.write_checkpoint),
    (visitors.change_tenant, stories.suspend_a_tenant, stories.halt),
    (visitors.write_checkpoint, visitors.write_index, _wait(4000.0)),
    (stories.race_for_an_order, visitors.call_api),
    (stories.follow_an_order, visitors.lapse, stories.overtaken),
    (stories.follow_an_order, stories.race_for_an_order, actions.review),
    (stories.follow_an_order, stories.race_for_an_order),
)


def run_steps(world: World, steps: int) -> None:
    """Let things happen, one after the other: at least one flip of a flag and one death."""
    chance = world.random
    favourites = chance.choice((tuple(chance.sample(DEEDS, 3)), *FOCI))
    if doors.is_door_seed(world):
        favourites = (*favourites, *doors.DEEDS)
    actions.flip(world)
    for _ in range(steps):
        drawn = chance.random()
        if drawn < 0.5:
            world.network.deliver_some()
        elif drawn < 0.7:
            actions.upload(world)
        else:
            chance.choice(favourites if chance.random() < 0.7 else DEEDS)(world)
        world.clock.advance(chance.random())
    while not world.faults.died:
        actions.upload(world)
        with world.faults.certain_death(chance.randint(1, 3), chance.choice(("before", "after"))):
            world.network.deliver_next(world.aws.sqs.queues[topology.GATE.queue])


def settle(world: World) -> None:
    """Let all faults end, and everything that waits come to its end. Raises ``Violation`` if it does not."""
    world.faults.active = False
    world.clock.skew_s = 0.0
    people.EMBEDDER.available = True
    for _ in range(3):
        for queue in world.aws.sqs.queues.values():
            # Operators move dead letters back once what killed them is mended.
            for message in queue.dead:
                message.receives, message.visible_at_s = 0, 0.0
            queue.messages += queue.dead
            queue.dead = []
        world.network.drain()
        for erasure in world.erasures:
            if not erasure.ended:
                actions.try_erasure(world, erasure)
        visitors.sweep(world)
        # Whoever opens the queue of reviews closes those that are complete.
        world.console().reviews.next_comparison(actions.READER)
    _let_orders_lapse(world)
    world.task(build_watch, "flags")
    world.network.drain()
    world.task(build.build_checkpoint, "checkpoint")
    world.clock.advance(indexer.WAIT_S)
    visitors.write_index(world)


def _let_orders_lapse(world: World) -> None:
    """Let the time of every late search be over."""
    uses = build.build_authorizations(world.settings, world.aws.client).uses
    for _ in range(3):
        visitors.lapse(world)
        world.network.drain()
        waiting = uses.late()
        if not waiting:
            return
        last_s = max(late.due_at for late in waiting).timestamp() + GRACE.total_seconds()
        world.clock.advance(max(0.0, last_s - world.clock.now_s) + 1.0)
