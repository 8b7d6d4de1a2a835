"""The pipeline as stations, made from the topology, a measured demand, AWS's latencies and a plan.

A station is a queue, its servers, and their time for a batch. All times are in seconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Literal

import msgspec

from abeyance.cost.demand import Demand, StageDemand
from abeyance.deployment.settings import LedgerGroup
from abeyance.pipeline import topology

DAY_S = 86_400
#: Memory of a function that has one whole processor.
WHOLE_PROCESSOR_MIB = 1769

#: Lambda's limit for the event of an invocation.
INVOCATION_BYTES = 6e6
#: Objects that the ledger writes at the same time.
PARALLEL = LedgerGroup.ledger_parallel
#: Reads of a sequencer after another one's batch: the beginning of that, and the edge of the tree.
TURN = {"s3.GetObject": 6.0}
#: Spread of invocations: mean and standard deviation of the logarithm, for a mean of 1 and a coefficient of variation
#: of a half, as calls over a network have.
SKEW = (-0.1116, 0.4724)

Embedder = Literal["local", "ecs", "sagemaker"]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The question: the number of photos, their arrival over the day, and the deployment."""

    photos_a_day: float = 10_000_000
    #: The busiest hour of an ordinary day, as a multiple of the mean.
    peak: float = 1.8
    #: Once a day, at the busiest hour, this many times as many photos arrive for so many minutes.
    burst: float = 3.0
    burst_minutes: float = 15.0
    faces: float = 1.2
    embedder: Embedder = "local"
    #: Share of the photos that goes to the largest collection, of the largest tenant.
    largest: float = 0.1
    #: Fields of the topology's stages that differ from the deployed ones: ``{"ledger": {"memory": 1769}}``.
    stages: dict[str, dict[str, int]] = {}
    max_gpus: int = 2
    seed: int = 1

    def stage(self, stage: topology.Stage) -> topology.Stage:
        """Return the stage as the plan has it."""
        return msgspec.structs.replace(stage, **self.stages.get(stage.name, {}))


class Latencies(msgspec.Struct, frozen=True, kw_only=True):
    """Latencies of AWS, which cannot be measured here: assumptions, each with its source."""

    note: str
    milliseconds: dict[str, float]
    seconds: dict[str, float]

    def of(self, calls: Mapping[str, float]) -> float:
        """Return the seconds of these calls, one after the other."""
        return sum(count * self.milliseconds[name] for name, count in calls.items()) / 1000


@cache
def latencies() -> Latencies:
    """Read ``latencies.json``."""
    body = resources.files("abeyance.cost").joinpath("latencies.json").read_bytes()
    return msgspec.json.decode(body, type=Latencies)


class Station(msgspec.Struct, frozen=True, kw_only=True):
    """One stage: a batch of n messages takes ``invocation + n * message`` seconds."""

    name: str
    batch: int
    servers: int
    #: Servers before Lambda's pollers react to a queue, and servers that they add a second.
    first_servers: int
    servers_a_second: float
    invocation: float
    message: float
    #: Of a poller between two invocations: receive, invoke, delete.
    between: float
    memory: int
    visibility: float
    max_receives: int
    #: A batch succeeds or fails as a whole; others message by message.
    whole: bool
    #: Seconds for which a batch is gathered, at most.
    window: float = 0.0
    #: A quota in messages a second that bounds the station whatever its servers do.
    ceiling: float = math.inf
    #: Seconds of starting a server anew.
    cold: float = 0.0

    def seconds(self, messages: float) -> float:
        """Return the seconds of an invocation with so many messages."""
        return self.invocation + messages * self.message

    @property
    def rate(self) -> float:
        """Messages a second with every server busy on full batches."""
        return min(self.ceiling, self.servers * self.batch / (self.seconds(self.batch) + self.between))


#: Listeners to the events of each stage about an indexed photo.
ROUTES = {
    topology.GATE.name: (topology.DETECT.name, topology.LEDGER.name),
    topology.DETECT.name: (topology.RECOGNIZE.name, topology.LEDGER.name),
    topology.RECOGNIZE.name: (topology.LEDGER.name,),
    topology.LEDGER.name: (),
}
#: A photo's way to its result.
WAY = (topology.GATE.name, topology.DETECT.name, topology.RECOGNIZE.name)
#: Entries of a photo on the ledger.
ENTRIES = sum(topology.LEDGER.name in heard for heard in ROUTES.values())


def stations(plan: Plan, demand: Demand, known: Latencies | None = None) -> dict[str, Station]:
    """Return every station that an indexed photo passes."""
    known = known or latencies()
    found = {}
    for deployed in topology.STAGES:
        if deployed.name not in ROUTES:
            continue
        stage = plan.stage(deployed)
        needs = demand.stages[stage.name]
        ledger = stage.name == topology.LEDGER.name
        servers = stage.max_concurrency
        batch = (
            int(min(stage.batch_size, INVOCATION_BYTES / demand.message_bytes))
            if ledger
            else stage.batch_size
        )
        found[stage.name] = Station(
            name=stage.name,
            batch=batch,
            servers=servers,
            first_servers=min(servers, int(known.seconds["pollers_at_first"])),
            servers_a_second=known.seconds["pollers_a_second"],
            invocation=_processor(stage, needs.invocation_ms) + known.of(_calls(stage, needs)),
            message=_message(stage, plan, demand, known),
            between=known.seconds["between_invocations"],
            memory=stage.memory,
            visibility=stage.visibility_timeout,
            max_receives=stage.max_receives,
            ceiling=batch / _serial_s(stage, demand, known, batch) if ledger else math.inf,
            whole=ledger,
            window=float(stage.batch_window),
            cold=known.seconds[f"cold_{stage.name}"],
        )
    return found


def _calls(stage: topology.Stage, needs: StageDemand) -> dict[str, float]:
    """Return the calls of an invocation. Two sequencers take turns, and each reads what the other did meanwhile."""
    turns = TURN if stage.name == topology.LEDGER.name else {}
    return {
        name: needs.invocation_calls.get(name, 0) + turns.get(name, 0)
        for name in needs.invocation_calls | turns
    }


def _serial_s(stage: topology.Stage, demand: Demand, known: Latencies, batch: int) -> float:
    """Return the seconds of a batch of the ledger in which the head belongs to it: from its reading to its mark."""
    needs = demand.stages[stage.name]
    calls = known.of(_calls(stage, needs)) + batch * known.of(needs.message_calls) / PARALLEL
    return calls + _processor(stage, batch * demand.serial_ms)


def _message(stage: topology.Stage, plan: Plan, demand: Demand, known: Latencies) -> float:
    needs = demand.stages[stage.name]
    if stage.name == topology.LEDGER.name:
        # Its objects are written several at a time.
        return _processor(stage, needs.message_ms) + known.of(needs.message_calls) / PARALLEL
    processor, extra = needs.message_ms, 0.0
    if stage.name == topology.RECOGNIZE.name:
        # The measured photos had another number of faces than the plan's.
        processor += (plan.faces - demand.faces) * demand.embed_ms
        if plan.embedder != "local":
            processor -= plan.faces * demand.embed_ms
            request = known.milliseconds[f"embedder.{plan.embedder}"] / 1000 / stage.batch_size
            extra = plan.faces * known.milliseconds["gpu_face"] / 1000 + request
    return _processor(stage, processor) + known.of(needs.message_calls) + extra


def _processor(stage: topology.Stage, milliseconds: float) -> float:
    """Return the seconds on the stage's share of a processor; more than one processor helps no single thread."""
    return milliseconds / 1000 * max(1.0, WHOLE_PROCESSOR_MIB / stage.memory)
