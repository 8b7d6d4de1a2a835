"""The limits that photos count against, and how many photos a second fill each.

Quotas of AWS are in ``limits.json``, each with its source; limits of our own are the topology's.
"""

from __future__ import annotations

from importlib import resources

import msgspec

from abeyance.cost.demand import EVENT_PUT, Demand
from abeyance.cost.stations import (
    DAY_S,
    ENTRIES,
    ROUTES,
    WAY,
    Latencies,
    Plan,
    Station,
    latencies,
    stations,
)
from abeyance.pipeline import topology


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """A published limit and its source."""

    value: float
    unit: str
    adjustable: bool
    title: str
    url: str
    note: str
    #: What photos fill up, and what to do about it; empty where photos do not count against the quota.
    limit: str = ""
    lever: str = ""


class Quotas(msgspec.Struct, frozen=True):
    """``limits.json``."""

    read: str
    region: str
    quotas: dict[str, Quota]


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """A capacity that photos use up."""

    name: str
    capacity: float
    unit: str
    #: Use of the capacity by one photo a second.
    per_photo: float
    #: Advice against it.
    lever: str
    #: Key of the quota; empty where the limit is ours.
    quota: str = ""

    @property
    def full_at(self) -> float:
        """Photos a second that fill it."""
        return self.capacity / self.per_photo

    @property
    def full_a_day(self) -> float:
        """Evenly spread photos a day that fill it."""
        return self.full_at * DAY_S

    def used(self, photos_a_second: float) -> float:
        """Return the share of it in use; above 1 it binds."""
        return photos_a_second / self.full_at


def quotas() -> Quotas:
    """Read ``limits.json``."""
    body = resources.files("abeyance.cost").joinpath("limits.json").read_bytes()
    return msgspec.json.decode(body, type=Quotas)


def limits(plan: Plan, demand: Demand, known: Latencies | None = None) -> tuple[Limit, ...]:
    """Return all limits, the first to bind first."""
    known = known or latencies()
    made = stations(plan, demand, known)
    found = [_servers(station) for station in made.values()]
    found += _published(plan, demand, made, quotas().quotas)
    found.append(_collection(plan, known))
    if plan.embedder != "local":
        found.append(
            Limit(
                name=f"GPUs ({plan.embedder})",
                capacity=plan.max_gpus * 1000 / known.milliseconds["gpu_face"],
                unit="faces a second",
                per_photo=plan.faces,
                lever="max_gpus",
            )
        )
    return tuple(sorted(found, key=lambda limit: limit.full_at))


def _servers(station: Station) -> Limit:
    if station.fifo:
        return Limit(
            name="ledger: one writer at a time",
            capacity=station.rate,
            unit="entries a second",
            per_photo=ENTRIES,
            lever="several chains",
        )
    return Limit(
        name=f"{station.name}: max_concurrency {station.servers}",
        capacity=station.rate,
        unit="messages a second",
        per_photo=1,
        lever=f"max_concurrency of {station.name} in topology.py",
    )


def _collection(plan: Plan, known: Latencies) -> Limit:
    """Return the limit of one collection: indexing moves one of its items in a transaction, so one photo at a time."""
    items = 1 + 2 * plan.faces
    took = known.of(
        {"dynamodb.GetItem": 1, "dynamodb.TransactWriteItems": 1, "dynamodb.transacted item": items}
    )
    return Limit(
        name="gallery: changes of one collection go one after the other",
        capacity=1 / took,
        unit="photos a second indexed",
        per_photo=plan.largest,
        lever="more, smaller collections; searches are not bound by it",
    )


def _published(plan: Plan, demand: Demand, made: dict[str, Station], known: dict[str, Quota]) -> list[Limit]:
    needs = demand.stages
    # Little's law: photos a second times seconds of a server for each are servers in use.
    concurrency = sum(
        (station.invocation / station.batch + station.message) * (ENTRIES if station.fifo else 1)
        for station in made.values()
    )
    per_photo = {
        "lambda_concurrency": concurrency,
        "sqs_fifo": ENTRIES,
        "dynamodb_partition_writes": demand.entry_units * ENTRIES,
        "dynamodb_partition_reads": len(WAY) * plan.largest,
        "dynamodb_table_writes": sum(needs[name].write_units for name in WAY),
        "eventbridge_put": sum(needs[name].message_calls.get(EVENT_PUT, 0) for name in WAY),
        "eventbridge_invocations": 1 + sum(map(len, ROUTES.values())),
        "s3_put": plan.largest,
        "s3_get": 2 * plan.largest,
        # Bucket keys and DynamoDB's kept table keys leave some requests for every thousand photos.
        "kms": 0.01,
        "appconfig": concurrency / 15,
        "sqs_in_flight": made[topology.DETECT.name].message,
    }
    # A chain has a queue and a partition of its own.
    per_chain = {"sqs_fifo", "dynamodb_partition_writes"}
    return [
        Limit(
            name=known[key].limit,
            capacity=known[key].value * (plan.chains if key in per_chain else 1),
            unit=known[key].unit,
            per_photo=use,
            lever=known[key].lever,
            quota=key,
        )
        for key, use in per_photo.items()
    ]
