"""One deployment in one process: real stages over simulated AWS, and everything that people and networks do to it."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from unittest import mock

from tests.simulation import people, visitors
from tests.simulation.aws import QueuedMessage, SimulatedAws, SimulatedQueue, Stored
from tests.simulation.clock import VirtualClock
from tests.simulation.faults import Died, Faults

from abeyance.console.errors import ConsoleError, NotFound
from abeyance.console.roles import Person, Role
from abeyance.deployment import build
from abeyance.deployment.settings import UNITS, ConsoleSettings, DeploymentSettings
from abeyance.gallery.errors import CollectionNotFound, GalleryError
from abeyance.gallery.model import CollectionRef
from abeyance.local.tenants import TENANTS
from abeyance.moratorium.presets import new_deployment
from abeyance.moratorium.schema import definition
from abeyance.pipeline import topology
from abeyance.pipeline.batch import answer
from abeyance.pipeline.review_cases import Ground, Verdict
from abeyance.vision.models.manifest import Manifest

FLAGS_FUNCTION = "abeyance-flags"
#: Settings of single functions.
_OWN = {
    "flag_pipeline": FLAGS_FUNCTION,
    "announcement_role": "arn:aws:iam::123456789012:role/announce",
    "announcement_group": "moratoria",
}
_MODEL = SimpleNamespace(identity=people.MODEL, dimension=people.DIMENSION)
FLAGS = "appconfig:abeyance/live/moratoria"
COLLECTIONS = ("staff", "guests")
ACTIONS = ("index", "index", "index", "search", "search", "analyze")
PEOPLE = range(1, 7)
_STAGE_OF = {stage.queue: stage for stage in topology.STAGES}
STAGES = {stage.name: stage for stage in topology.STAGES}
OFFICER = Person(principal="clara@local", name="Clara", roles=(Role.OFFICER,))
REVIEWERS = tuple(
    Person(principal=f"{name}@local", name=name, roles=(Role.REVIEWER,)) for name in ("ada", "ben", "eve")
)


def flags(*, halted: bool, reviewed: bool) -> dict[str, Any]:
    """Return a document: the police halt, perhaps a halt of everybody, perhaps review of every match."""
    document = new_deployment()
    common = {
        "jurisdictions": ["all"],
        "sectors": ["all"],
        "starts": "2020-01-01T00:00:00Z",
        "ends": "2031-01-01T00:00:00Z",
        "on_expiry": "hold",
        "reason": "Simulated.",
        "source": "Simulation",
    }
    for name, on, attributes in (
        ("everybody", halted, {"effect": "halt", "actions": ["all"]}),
        ("reviewed", reviewed, {"effect": "restrict", "actions": ["search"], "human_review": 1}),
    ):
        document["flags"][name] = definition(name, name)
        document["values"][name] = {"enabled": on, **common, **attributes}
    return document


@dataclass
class Upload:
    """What was done to a key of the uploads bucket, at one moment."""

    key: str
    at_s: float
    sequencer: str
    #: None for a deletion.
    body: bytes | None

    @property
    def people(self) -> list[int]:
        return [] if self.body is None else json.loads(self.body)["people"]


@dataclass
class Erasure:
    """A person's erasure that somebody asked for, and what there was of the person."""

    ref: CollectionRef
    named_by: str
    name: str
    #: Faces that there were at any attempt: the name may have come to mean more faces meanwhile.
    attempted: set[str] = field(default_factory=set)
    #: Set with the receipt, or when there is nothing (more) to erase.
    ended: bool = False
    ended_at_s: float = 0.0


@dataclass
class Violation(Exception):
    """A broken invariant."""

    message: str
    seed: int = -1

    def __str__(self) -> str:
        return f"seed {self.seed}: {self.message}"


def _next_delivery_s(queue: SimulatedQueue) -> float:
    """Return the moment of the queue's next delivery; a FIFO queue's first messages wait for each other."""
    if queue.fifo:
        return max(message.visible_at_s for message in queue.messages[: _STAGE_OF[queue.name].batch_size])
    return min(message.visible_at_s for message in queue.messages)


def _wait(seconds: float) -> Callable[[World], None]:
    return lambda world: world.clock.advance(seconds)


class World:
    """Deployment, people and network of one seed."""

    def __init__(self, seed: int, faults: Faults, clock: VirtualClock) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.clock = clock
        self.faults = faults
        self.aws = SimulatedAws(clock, faults, self.random, flags(halted=False, reviewed=False))
        self.aws.duplicate = 0.1
        self.settings = DeploymentSettings.of(flags=FLAGS)
        self.aws.create(self.settings)
        self.aws.s3.on_read = self._on_read
        self.aws.functions.functions[FLAGS_FUNCTION] = self._invoke_flags
        self.aws.appconfig.validate = lambda content: self._invoke_flags(
            {"content": base64.b64encode(content).decode()}
        )
        people.EMBEDDER.available = True
        faults.interleave = self._interleave
        self.uploads: list[Upload] = []
        self.erasures: list[Erasure] = []
        self.poison: list[str] = []
        self.flips = 0
        self._kinds = self.random.choice((tuple(self.random.sample(KINDS, 3)), *FOCI))
        #: What was seen to be wrong while it happened.
        self.violations: list[str] = []
        self.skewed = False
        #: What callers of the API asked to be deleted, whether or not they learned that it was.
        self.deleted_faces: set[str] = set()
        self.deleted_collections: set[CollectionRef] = set()
        #: Moments (epoch seconds) and whether the tenant acme was active from then on.
        self.registrations: list[tuple[float, bool]] = [(0.0, True)]
        #: By function, and whether it runs in the middle of another invocation.
        self._processes: dict[tuple[str, bool], Any] = {}
        self._nonce = 0
        with self.quietly():
            registry = build.build_tenants(self.settings, self.aws.client)
            for tenant in TENANTS:
                registry.add(tenant)

    # -- processes

    def stage(self, name: str) -> Any:
        """Return the running process of a stage, started anew after a death."""
        return self.process(
            name,
            {
                "gate": build.build_gate,
                "detect": build.build_detect,
                "recognize": build.build_recognize,
                "review": build.build_review,
                "ledger": build.build_record,
            }[name],
        )

    def process(self, name: str, builder: Callable[..., Any]) -> Any:
        """Return the running process of a function, started anew after a death."""
        place = name, self.faults.nested
        if place not in self._processes:
            self._processes[place] = builder(UNITS[name].of(**self._own(UNITS[name])), self.aws.client)
        return self._processes[place]

    def nonce(self) -> int:
        """Return a number that was not there before."""
        self._nonce += 1
        return self._nonce

    def purpose_of(self, tenant: str) -> str:
        """Return the purpose that the tenant states."""
        return "missing_children" if tenant == "icmec" else "unspecified"

    def note_registration(self) -> None:
        """Remember from when on the tenant acme is active or suspended."""
        registry = build.build_tenants(self.settings, self.aws.client)
        acme = registry.get("acme")
        self.registrations.append((self.clock.now_s, acme is not None and acme.status == "active"))

    def check_answer(self, tenant: str, operation: str, answer: dict[str, Any]) -> None:
        """Note a violation if the API's answer names something of another tenant."""
        with self.quietly():
            gallery = build.build_gallery(self.settings, self.aws.client)
            own: set[str] = set()
            for name in COLLECTIONS:
                with contextlib.suppress(GalleryError):
                    own |= {face.id for face in gallery.list_faces(CollectionRef(tenant, name)).items}
        for face in answer.get("Faces", []):
            if face["FaceId"] not in own:
                self.violations.append(f"{operation} of {tenant} shows a face that {tenant} has not")
        for match in answer.get("FaceMatches", []):
            if match["Face"]["FaceId"] not in own:
                self.violations.append(f"{operation} of {tenant} finds a face that {tenant} has not")

    def _invoke_flags(self, event: dict[str, Any]) -> Any:
        """Answer an event of the flags function; a death of it is an error for whoever invoked it."""
        caller, self.faults.unit = self.faults.unit, "flags"
        try:
            return self.process("flags", build.build_flags)(event)
        except Died:
            self._processes.pop(("flags", self.faults.nested), None)
            raise RuntimeError("the function ended") from None
        finally:
            self.faults.unit = caller

    def console(self) -> Any:
        """Return the console's services, started anew after a death."""
        place = "console", self.faults.nested
        if place not in self._processes:
            settings = ConsoleSettings.of(**self._own(ConsoleSettings))
            self._processes[place] = build.build_console(settings, self.aws.client)
        return self._processes[place]

    def task(self, builder: Callable[..., Callable[[], Any]], unit: str) -> None:
        """Run a scheduled task, as its function does."""
        self.run(unit, lambda: builder(UNITS[unit].of(**self._own(UNITS[unit])), self.aws.client)())

    def run(self, unit: str, work: Callable[[], Any]) -> tuple[bool, Any]:
        """Run ``work`` in a unit's process; return whether it came to its end, and with what."""
        self.faults.unit = unit
        try:
            return True, work()
        except Died:
            self._processes.pop((unit, self.faults.nested), None)
            return False, None
        finally:
            self.faults.unit = ""

    def _own(self, unit: type[Any]) -> dict[str, Any]:
        known = set(unit.variables().values())
        return {name: value for name, value in (self.settings.values() | _OWN).items() if name in known}

    # -- what people do

    def upload(self) -> None:
        """Somebody uploads a photo: a new one, one over another, or the same once more."""
        tenant = self.random.choice(("acme", "acme", "acme", "acme", "icmec", "springfield-police"))
        key = "/".join(
            (
                tenant,
                self.random.choice(ACTIONS),
                self.random.choice(COLLECTIONS),
                f"{self.random.randrange(4)}.jpg",
            )
        )
        self._nonce += self.random.random() < 0.8
        count = self.random.choice((0, 1, 1, 1, 2))
        body = people.photo(self.random.sample(PEOPLE, count), self._nonce, bad=self.random.random() < 0.1)
        self._change(key, body)

    def delete(self) -> None:
        """Somebody deletes a photo."""
        keys = sorted(self.aws.s3.buckets[self.settings.uploads_bucket])
        if keys:
            self._change(self.random.choice(keys), None)

    def flip(self) -> None:
        """Somebody turns a halt or review on or off."""
        self._flip(halted=self.random.random() < 0.2)

    def _flip(self, *, halted: bool) -> None:
        self.aws.appconfig.deploy(flags(halted=halted, reviewed=self.random.random() < 0.5))
        self.flips += 1

    def review(self) -> None:
        """A reviewer takes the next comparison and judges it."""
        person = self.random.choice(REVIEWERS)
        verdict = self.random.choice((Verdict.SAME, Verdict.SAME, Verdict.DIFFERENT))

        def judge() -> None:
            service = self.console().reviews
            with contextlib.suppress(ConsoleError):
                found = service.next_comparison(person)
                if found:
                    service.judge(person, found.review.identity, found.case.number, verdict, Ground.OTHER)

        with contextlib.suppress(Exception):
            self.run("console", judge)

    def associate(self) -> None:
        """Somebody makes a user and gives it faces."""
        ref = CollectionRef("acme", self.random.choice(COLLECTIONS))
        user = f"user-{self.random.randrange(3)}"

        def work() -> None:
            gallery = build.build_gallery(self.settings, self.aws.client)
            with contextlib.suppress(GalleryError):
                faces = [face.id for face in gallery.list_faces(ref).items if not face.user_id]
                with contextlib.suppress(GalleryError):
                    gallery.create_user(ref, user)
                if faces:
                    gallery.associate_faces(ref, user, self.random.sample(faces, 1))

        with contextlib.suppress(Exception):
            self.run("api", work)

    def erase(self) -> None:
        """Somebody asks for the erasure of a person; whoever is told to try again does so, later."""
        ref = CollectionRef("acme", self.random.choice(COLLECTIONS))
        with self.quietly():
            gallery = build.build_gallery(self.settings, self.aws.client)
            try:
                faces = gallery.list_faces(ref).items
                users = gallery.list_users(ref).items
            except GalleryError:
                return
            named = [("user_id", user.id) for user in users] + [
                ("external_image_id", face.external_image_id) for face in faces
            ]
            if not named:
                return
            named_by, name = self.random.choice(sorted(set(named)))
            try:
                self.console().galleries.find(ref, named_by, name)
            except ConsoleError:
                return
        erasure = Erasure(ref, named_by, name)
        self.erasures.append(erasure)
        self.try_erasure(erasure)

    def try_erasure(self, erasure: Erasure) -> None:
        """Ask once (again)."""
        with self.quietly(), contextlib.suppress(ConsoleError):
            subject = self.console().galleries.find(erasure.ref, erasure.named_by, erasure.name)
            erasure.attempted |= {face.id for face in subject.faces}
        service = lambda: self.console().galleries  # noqa: E731
        try:
            ended, _ = self.run(
                "console", lambda: service().erase(OFFICER, erasure.ref, erasure.named_by, erasure.name)
            )
        except NotFound:
            ended = True
        except Exception:
            return
        if ended:
            erasure.ended, erasure.ended_at_s = True, self.clock.now_s
            with self.quietly(), contextlib.suppress(CollectionNotFound):
                gallery = build.build_gallery(self.settings, self.aws.client)
                if left := gallery.get_faces(erasure.ref, sorted(erasure.attempted)):
                    self.violations.append(f"{len(left)} faces were there when the receipt was given")

    def send_poison(self) -> None:
        """Somebody puts an event onto the bus that nobody can read."""
        detail_type = self.random.choice(("Upload Permitted", "Faces Detected", "Nonsense"))
        detail: Any = self.random.choice(({"id": 1}, {}, [], "text"))
        envelope = {
            "id": f"poison-{self.random.random()}",
            "source": topology.SOURCE,
            "detail-type": detail_type,
            "time": "2026-01-01T00:00:00Z",
            "detail": detail,
        }
        self.poison.append(envelope["id"])
        self.aws.route(envelope)

    def _change(self, key: str, body: bytes | None) -> None:
        bucket = self.settings.uploads_bucket
        if body is None:
            self.aws.s3.remove(bucket, key)
        else:
            self.aws.s3.store(bucket, key, body, {"purpose": self.purpose_of(key.split("/")[0])})
        self.uploads.append(Upload(key, self.clock.now_s, f"{self.aws._sequence:016X}", body))

    # -- what the network does

    def deliver(self, queue: SimulatedQueue, *, chaos: bool = True) -> bool:
        """Hand some visible messages of a queue to its stage; return whether there were any."""
        stage = _STAGE_OF[queue.name]
        batch = self._receive(queue, stage, chaos=chaos)
        if not batch:
            return False
        event = {
            "Records": [
                {
                    "messageId": message.id,
                    "body": message.body,
                    "attributes": {"ApproximateReceiveCount": str(message.receives)},
                }
                for message in batch
            ]
        }
        failed = {message.id for message in batch}
        ended = True
        try:
            ended, response = self.run(stage.name, lambda: answer(event, self.stage(stage.name)))
            if ended:
                failed = {one["itemIdentifier"] for one in response["batchItemFailures"]}
        except Exception:
            pass
        for message in batch:
            again = message.id in failed or (
                chaos and not queue.fifo and self.random.random() < self.aws.duplicate / 2
            )
            if message not in queue.messages:
                continue
            if not again:
                queue.messages.remove(message)
            elif message.id in failed and message.receives >= queue.max_receives:
                queue.messages.remove(message)
                queue.dead.append(message)
            else:
                message.visible_at_s = self.clock.now_s + queue.visibility_s
        if chaos and not ended:
            self._meanwhile(self.random.choice(batch), stage.name)
        return True

    def _meanwhile(self, message: QueuedMessage, unit: str) -> None:
        """Let something happen to what a process died of, before it is delivered again."""
        detail = json.loads(message.body).get("detail")
        upload = detail.get("upload", detail.get("object")) if isinstance(detail, dict) else None
        drawn = self.random.random()
        if drawn < 0.4:
            # A halt that comes between two deliveries; at the gate it would only keep everything out.
            self._flip(halted=unit != topology.GATE.name)
        elif isinstance(upload, dict) and "key" in upload and drawn < 0.7:
            stored = self.aws.s3.buckets[self.settings.uploads_bucket].get(upload["key"])
            if drawn < 0.47 and stored:
                self._change(upload["key"], None)
            elif drawn < 0.55 and stored:
                self._change(upload["key"], stored.body)
                self._flip(halted=self.random.random() < 0.7)
            else:
                self._change(upload["key"], people.photo([self.random.choice(PEOPLE)], self.nonce()))

    def _receive(self, queue: SimulatedQueue, stage: topology.Stage, *, chaos: bool) -> list[QueuedMessage]:
        now_s = self.clock.now_s
        if queue.fifo:
            waiting = queue.messages[: stage.batch_size]
            visible = waiting if all(message.visible_at_s <= now_s for message in waiting) else []
        else:
            visible = [message for message in queue.messages if message.visible_at_s <= now_s]
            if chaos:
                self.random.shuffle(visible)
        count = self.random.randint(1, stage.batch_size) if chaos else stage.batch_size
        batch = visible[:count]
        for message in batch:
            message.receives += 1
            message.visible_at_s = now_s + queue.visibility_s
        return batch

    def _interleave(self) -> None:
        """Let another invocation happen while one is under way, or somebody upload or delete."""
        drawn = self.random.random()
        if drawn < 0.7:
            waiting = [queue for queue in self.aws.sqs.queues.values() if queue.messages]
            if waiting:
                self.deliver(self.random.choice(waiting))
        elif drawn < 0.9:
            self.upload()
        else:
            self.delete()

    def step(self) -> None:
        """Let one thing happen."""
        drawn = self.random.random()
        if drawn < 0.5:
            waiting = [queue for queue in self.aws.sqs.queues.values() if queue.messages]
            if waiting:
                self.deliver(self.random.choice(waiting))
        elif drawn < 0.7:
            self.upload()
        else:
            kinds = self._kinds if self.random.random() < 0.7 else KINDS
            self.random.choice(kinds)(self)
        self.clock.advance(self.random.random())

    def settle(self) -> None:
        """Let all faults end, and everything that waits come to its end. Raises :class:`Violation` if it does not."""
        self.faults.active = False
        self.clock.skew_s = 0.0
        people.EMBEDDER.available = True
        for _ in range(3):
            for queue in self.aws.sqs.queues.values():
                # Operators move dead letters back once what killed them is mended.
                for message in queue.dead:
                    message.receives, message.visible_at_s = 0, 0.0
                queue.messages += queue.dead
                queue.dead = []
            self._drain()
            for erasure in self.erasures:
                if not erasure.ended:
                    self.try_erasure(erasure)
            visitors.sweep(self)
        self._drain()
        self.task(build.build_checkpoint, "ledger")

    def _drain(self) -> None:
        for _ in range(5_000):
            queues = list(self.aws.sqs.queues.values())
            if not any(queue.messages for queue in queues):
                return
            delivered = [queue.messages and self.deliver(queue, chaos=False) for queue in queues]
            if not any(delivered):
                soonest = min(_next_delivery_s(queue) for queue in queues if queue.messages)
                self.clock.advance(max(0.0, soonest - self.clock.now_s) + 0.1)
        raise Violation("something waits for ever", self.seed)

    def _on_read(self, bucket: str, key: str, stored: Stored) -> None:
        if bucket == self.settings.uploads_bucket and self.faults.unit in STAGES:
            self._require_permit(key)

    def _require_permit(self, key: str) -> None:
        """Note a violation unless a document permits that is in force, or was so recently that it may be cached."""
        # While AppConfig does not answer, the flags of the last answer hold until they are too old.
        disturbed = self.faults.failed["appconfigdata"] > 0
        poll_s = (self.settings.flags_max_age if disturbed else self.settings.flags_poll_interval) + 1.0
        now_s = self.clock.now_s
        self.aws.appconfig._finish()
        history = self.aws.appconfig.history
        recent = [
            document
            for (start_s, document), end_s in zip(
                history, [moment for moment, _ in history[1:]] + [float("inf")], strict=True
            )
            if start_s <= now_s and end_s > now_s - poll_s
        ]
        tenant = key.split("/")[0]
        permitted = any(not document["values"]["everybody"]["enabled"] for document in recent)
        if tenant == "acme" and not self.registrations[-1][1]:
            permitted = False
        if not permitted or tenant == "springfield-police":
            self.violations.append(f"{self.faults.unit} read pixels of {key} without a permit in force")

    @contextlib.contextmanager
    def quietly(self) -> Iterator[None]:
        """Calls that belong to the test, not to the product: no faults."""
        before, self.faults.active = self.faults.active, False
        try:
            yield
        finally:
            self.faults.active = before


#: What people do to a deployment besides uploading. Each seed does some of them more often than others.
KINDS: tuple[Callable[[World], None], ...] = (
    World.delete,
    World.delete,
    World.flip,
    World.flip,
    World.review,
    World.review,
    World.associate,
    World.erase,
    World.send_poison,
    visitors.call_api,
    visitors.call_api,
    visitors.change_policy,
    visitors.suspend,
    visitors.write_checkpoint,
    visitors.announce,
    visitors.sweep,
    visitors.switch_embedder,
    visitors.jump,
    _wait(20.0),
    _wait(400.0),
    _wait(90_000.0),
)

#: One of these, or some of all kinds, is what happens most often in a seed.
FOCI: tuple[tuple[Callable[[World], None], ...], ...] = (
    (visitors.call_api,),
    (visitors.call_api, World.associate, World.erase, World.delete),
    (World.review, World.review, World.review, World.flip),
    (visitors.change_policy,),
    (visitors.switch_embedder, _wait(20.0), World.flip),
)


@contextlib.contextmanager
def simulated_models() -> Iterator[None]:
    """Put the stand-ins of :mod:`tests.simulation.people` in the place of the models."""
    analyzer, embedder = people.SimulatedAnalyzer(), people.EMBEDDER
    with (
        mock.patch.object(build, "build_analyzer", lambda *_: analyzer),
        mock.patch.object(build, "build_embedder", lambda *_: lambda: embedder),
        mock.patch.object(build, "build_similarity_scale", lambda *_: lambda: people.SCALE),
        mock.patch.object(Manifest, "load", lambda *_: defaultdict(lambda: _MODEL)),
    ):
        log = logging.getLogger("abeyance")
        before = log.level
        log.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            log.setLevel(before)


@dataclass
class Outcome:
    """A seed's end."""

    seed: int
    deaths: int
    flips: int
    violations: list[str] = field(default_factory=list)
