"""The things that a simulation remembers of what people did, and the flags that they deploy."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from msgspec import structs
from tests.simulation.dynamodb import SimulatedTable

from abeyance.gallery.model import CollectionRef
from abeyance.moratorium.presets import new_deployment
from abeyance.moratorium.schema import definition
from abeyance.pipeline import events
from abeyance.pipeline.leftovers import face_id

COLLECTIONS = ("staff", "guests")
#: Collections that only races use, so that they are new more often.
NEW_COLLECTIONS = ("lobby", "canteen")
ALL_COLLECTIONS = COLLECTIONS + NEW_COLLECTIONS
ACTIONS = ("index", "index", "index", "search", "search", "analyze")
PEOPLE = range(1, 7)

#: A bucket that tenants register for uploads, see tests.simulation.doors.
DOOR_BUCKET = "door-photos"
#: Keys in it begin so, and in the uploads bucket none does.
DOOR_PREFIX = "door/"
#: Tenant and rule that may be registered for it; an empty rule ends the registration.
DOOR_RULES = (
    ("acme", "index:staff"),
    ("acme", "index:staff"),
    ("acme", "index:guests"),
    ("acme", "search:staff"),
    ("icmec", "index:staff:missing_children"),
    ("", ""),
)
#: Tenant, action and collection that an object in it may have.
DOOR_PLACES = (
    ("acme", "index", "staff"),
    ("acme", "index", "guests"),
    ("acme", "search", "staff"),
    ("icmec", "index", "staff"),
)


#: Time in which a late authorisation has to arrive.
DUE_S = 3600.0


def flags(*, halted: bool, reviewed: bool, ordered: bool = False) -> dict[str, Any]:
    """Return a document: the police halt, perhaps a halt of everybody, perhaps review of every match.

    If ``ordered``, icmec needs an authorisation to index and to search, which may be late.
    """
    document = new_deployment()
    order = {
        "effect": "halt",
        "actions": ["index", "search"],
        "sectors": ["law_enforcement_support"],
        "exempt_purposes": ["missing_children"],
        "authorization_required": True,
        "authorization_due_within_hours": int(DUE_S // 3600),
    }
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
        ("ordered", ordered, order),
    ):
        document["flags"][name] = definition(name, name)
        document["values"][name] = {"enabled": on, **common, **attributes}
    return document


@dataclass
class Upload:
    """What was done to a key of a bucket that photos come to, at one moment."""

    bucket: str
    key: str
    at_s: float
    sequencer: str
    #: None for a deletion.
    body: bytes | None
    #: When the gate recorded its decision.
    gated_at_s: float = float("inf")

    @property
    def people(self) -> list[int]:
        return [] if self.body is None else json.loads(self.body)["people"]

    @property
    def upload(self) -> events.Upload:
        """The upload as the pipeline names it."""
        etag = "" if self.body is None else hashlib.md5(self.body, usedforsecurity=False).hexdigest()
        # In a registered bucket the rules say it, see tests.simulation.doors.
        parts = ["", "", ""] if self.bucket == DOOR_BUCKET else self.key.split("/", 3)
        tenant, action, collection = parts[:3]
        return events.Upload(
            bucket=self.bucket,
            key=self.key,
            version=etag,
            sequencer=self.sequencer,
            tenant=tenant,
            action=action,
            collection=collection,
            etag=etag,
        )

    @property
    def face_ids(self) -> set[str]:
        """The ids of the faces that the upload makes if it is indexed."""
        own = self.upload
        places = [(own.tenant, own.action, own.collection)] if own.tenant else DOOR_PLACES
        return {
            face_id(structs.replace(own, tenant=tenant, collection=collection), row)
            for tenant, action, collection in places
            for row in range(len(self.people))
            if action == "index"
        }


@dataclass
class Erasure:
    """A person's erasure that somebody asked for, and what there was of the person."""

    ref: CollectionRef
    named_by: str
    name: str
    asked_at_s: float
    #: Faces that there were at any attempt: the name may have come to mean more faces meanwhile.
    attempted: set[str] = field(default_factory=set)
    #: Set with the receipt, or when there is nothing (more) to erase.
    ended: bool = False
    ended_at_s: float = 0.0


@dataclass
class Backup:
    """Tables as they were at a moment, by the names of their settings."""

    at_s: float
    tables: dict[str, SimulatedTable]


@dataclass
class Violation(Exception):
    """A broken invariant."""

    message: str
    seed: int = -1

    def __str__(self) -> str:
        return f"seed {self.seed}: {self.message}"


@dataclass
class Outcome:
    """A seed's end."""

    seed: int
    deaths: int
    flips: int
    violations: list[str] = field(default_factory=list)
