"""One deployment in one process: real stages over simulated AWS, and everything that people and networks do to it."""

from __future__ import annotations

import contextlib
import json
import logging
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime
from types import SimpleNamespace
from typing import Any
from unittest import mock

from tests import office
from tests.simulation import people
from tests.simulation.aws import SimulatedAws, Stored
from tests.simulation.clock import VirtualClock
from tests.simulation.faults import Died, Faults
from tests.simulation.model import (
    DOOR_BUCKET,
    DOOR_PLACES,
    DOOR_PREFIX,
    Backup,
    Erasure,
    Upload,
    flags,
)
from tests.simulation.network import Network

from abeyance.deployment import build
from abeyance.deployment.flags import build_flags
from abeyance.deployment.settings import UNITS, ConsoleSettings, DeploymentSettings
from abeyance.gallery.facade import Gallery
from abeyance.gallery.model import CollectionRef
from abeyance.local.tenants import TENANTS
from abeyance.moratorium.client import ChangeClient
from abeyance.moratorium.documents import GRACE_S
from abeyance.moratorium.errors import MoratoriumError
from abeyance.moratorium.subjects import FlagsChange
from abeyance.pipeline import topology
from abeyance.vision.models.manifest import Manifest

#: Settings of single functions.
_OWN = {
    **office.SETTINGS,
    "announcement_role": "arn:aws:iam::123456789012:role/announce",
    "announcement_group": "moratoria",
}
_MODEL = SimpleNamespace(identity=people.MODEL, dimension=people.DIMENSION)
FLAGS = "appconfig:abeyance/live/moratoria"
BRAKE = "appconfig:abeyance/brake/brake"
STAGES = {stage.name: stage for stage in topology.STAGES}


class World:
    """Deployment, people and network of one seed."""

    def __init__(self, seed: int, faults: Faults, clock: VirtualClock) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.clock = clock
        self.faults = faults
        self.aws = SimulatedAws(clock, faults, self.random)
        self.aws.duplicate = 0.1
        self.aws.refusal = 0.01
        self.settings = DeploymentSettings.of(flags=FLAGS, brake=BRAKE, ledger_parallel=1)
        self.aws.create(self.settings)
        self.aws.s3.on_read = self._on_read
        self.aws.s3.on_head = self._on_head
        #: When somebody last began to register other rules for the bucket of doors.
        self.rules_changed_s = 0.0
        self.aws.change_service = self.aws.appconfig.validate = self._invoke_flags
        people.EMBEDDER.available = True
        self.network = Network(self)
        faults.interleave = self.network.interleave
        self.uploads: list[Upload] = []
        self.erasures: list[Erasure] = []
        self.poison: list[str] = []
        self.flips = 0
        #: Tables as they were at a moment.
        self.backup: Backup | None = None
        #: The tables that went back to it, by the names of their settings.
        self.restored: tuple[str, ...] = ()
        #: What was seen to be wrong while it happened.
        self.violations: list[str] = []
        self.skewed = False
        #: What callers of the API asked to be deleted, whether or not they learned that it was.
        self.deleted_faces: set[str] = set()
        self.deleted_collections: set[CollectionRef] = set()
        #: Numbers of the authorisations that somebody registered.
        self.orders: list[str] = []
        #: The tenants that are registered and active.
        self.active: set[str] = set()
        #: By function, and whether it runs in the middle of another invocation.
        self._processes: dict[tuple[str, bool], Any] = {}
        self._nonce = 0
        self.gallery: Gallery | None = None
        with self.quietly():
            registry = build.build_tenants(self.settings, self.aws.client)
            for tenant in TENANTS:
                registry.add(tenant)
            self.note_registrations()
            self._invoke_flags({"task": topology.WATCH.task})
            self.agree(flags(halted=False, reviewed=False))

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

    def end(self, name: str) -> None:
        """End the process of a function, as Lambda does when it likes."""
        self._processes.pop((name, self.faults.nested), None)

    def nonce(self) -> int:
        """Return a number that was not there before."""
        self._nonce += 1
        return self._nonce

    def purpose_of(self, tenant: str) -> str:
        """Return the purpose that the tenant states."""
        return "missing_children" if tenant == "icmec" else "unspecified"

    def note_registrations(self) -> None:
        """Remember which tenants are active."""
        registry = build.build_tenants(self.settings, self.aws.client)
        self.active = {tenant.id for tenant in registry.all() if tenant.status == "active"}

    def face_ids(self, tenant: str) -> set[str]:
        """Return the ids of the tenant's faces, as the table has them."""
        partitions = self.aws.dynamodb.tables[self.settings.gallery_table].items
        return {
            sort_key.removeprefix("F#")
            for key, items in partitions.items()
            if key.startswith(f"{tenant}#")
            for sort_key in items
            if sort_key.startswith("F#")
        }

    def check_answer(self, tenant: str, operation: str, answer: dict[str, Any], own: set[str]) -> None:
        """Note a violation if the API's answer names a face that is not one of the tenant's ``own``."""
        named = [face["FaceId"] for face in answer.get("Faces", [])]
        # Those of CompareFaces have no id.
        named += [match["Face"].get("FaceId") for match in answer.get("FaceMatches", [])]
        if not own >= set(named) - {None}:
            self.violations.append(f"{operation} of {tenant} shows a face that {tenant} has not")

    def _invoke_flags(self, event: dict[str, Any]) -> Any:
        """Answer an event of the flags function; a death of it is an error for whoever invoked it."""
        caller, self.faults.unit = self.faults.unit, "flags"
        try:
            return self.process("flags", build_flags)(event)
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

    @property
    def photos(self) -> dict[str, Stored]:
        """The objects that photos are: of the uploads bucket, and of the one that tenants register."""
        buckets = self.aws.s3.buckets
        return buckets[self.settings.uploads_bucket] | buckets[DOOR_BUCKET]

    def change(self, key: str, body: bytes | None, authorization: str = "") -> None:
        """Somebody uploads a photo, and may name an authorisation, or deletes it."""
        bucket = DOOR_BUCKET if key.startswith(DOOR_PREFIX) else self.settings.uploads_bucket
        if body is None:
            self.aws.s3.remove(bucket, key)
        else:
            metadata = {"purpose": self.purpose_of(key.split("/")[0])}
            if authorization:
                metadata["authorization"] = authorization
            self.aws.s3.store(bucket, key, body, metadata)
        self.uploads.append(Upload(bucket, key, self.clock.now_s, f"{self.aws._sequence:016X}", body))

    def uploads_since(self, moment_s: float) -> list[Upload]:
        """Return the uploads that came after a moment, and those that the gate had not permitted then."""
        table = self.aws.dynamodb.tables[self.settings.uploads_table]
        # By the clocks of functions, which jump.
        slack_s = 1000.0 if self.skewed else 1.0
        found = []
        for upload in self.uploads:
            if upload.body is None:
                continue
            item = table.get((f"upload#{upload.upload.identity}", ""))
            if item and "stage_gate" in item:
                detail = json.loads(item["stage_gate"]["S"].split("\n", 1)[1])
                upload.gated_at_s = datetime.fromisoformat(detail["time"]).timestamp()
            if upload.at_s >= moment_s or upload.gated_at_s + slack_s >= moment_s:
                found.append(upload)
        return found

    def set_flags(self, *, halted: bool, reviewed: bool | None = None, ordered: bool = False) -> None:
        """Two people bring flags into force, for everybody at once."""
        if reviewed is None:
            reviewed = self.random.random() < 0.5
        self.agree(flags(halted=halted, reviewed=reviewed, ordered=ordered))
        self.flips += 1

    def officer(self, name: str) -> ChangeClient:
        """Return the change service for a person who signs with IAM."""
        return office.client_of(office.user(name), self._invoke_flags)

    def agree(self, document: dict[str, Any]) -> None:
        """Two people bring a document into force at once, and end first whatever is on its way."""
        with self.quietly():
            self.aws.appconfig.instant = True
            try:
                self._agree(document)
            except MoratoriumError:
                self._agree(flags(halted=True, reviewed=True))
                self.clock.advance(GRACE_S + 1)
                self._agree(document)
            finally:
                self.aws.appconfig.instant = False

    def _agree(self, document: dict[str, Any]) -> None:
        made = self.officer("alice").submit(FlagsChange(document))
        if made.state == "proposed":
            self.officer("bob").approve(made.id, made.digest)

    def _on_read(self, bucket: str, key: str, stored: Stored) -> None:
        if bucket in (self.settings.uploads_bucket, DOOR_BUCKET) and self.faults.unit in STAGES:
            self._require_permit(key)
        if bucket == DOOR_BUCKET and self.faults.unit == topology.GATE.name:
            self.violations.append(f"the gate reads {key} in somebody else's bucket")

    def _on_head(self, bucket: str, key: str) -> None:
        if bucket == DOOR_BUCKET:
            self.violations.append(f"{self.faults.unit} asks for the head of {key} in somebody else's bucket")

    def _require_permit(self, key: str) -> None:
        """Note a violation unless a document permits that is in force, or was so recently that it may be cached."""
        # While AppConfig does not answer, the flags of the last answer hold until they are too old.
        disturbed = self.faults.failed["appconfigdata"] > 0
        poll_s = (self.settings.flags_max_age if disturbed else self.settings.flags_poll_interval) + 1.0
        now_s = self.clock.now_s
        self.aws.appconfig.advance()
        history = self.aws.appconfig.history
        recent = [
            document
            for (start_s, documents), end_s in zip(
                history, [moment for moment, _ in history[1:]] + [float("inf")], strict=True
            )
            if start_s <= now_s and end_s > now_s - poll_s
            for document in documents
        ]
        tenants = (
            {key.split("/")[0]} if not key.startswith(DOOR_PREFIX) else {place[0] for place in DOOR_PLACES}
        )
        permitted = any(
            not document["values"].get("everybody", {"enabled": False})["enabled"] for document in recent
        )
        if not permitted or "springfield-police" in tenants or not tenants & self.active:
            self.violations.append(f"{self.faults.unit} read pixels of {key} without a permit in force")

    @contextlib.contextmanager
    def quietly(self) -> Iterator[None]:
        """Calls that belong to the test, not to the product: no faults."""
        before, self.faults.active = self.faults.active, False
        try:
            yield
        finally:
            self.faults.active = before


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
