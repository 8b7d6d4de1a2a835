"""Every limit that a photo counts against, and how many photos a second fill it.

Quotas of AWS are in ``limits.json``, each with the page it is from; those of our own are the topology's.
"""

from __future__ import annotations

from importlib import resources

import msgspec

from abeyance.cost.demand import TOLD, Demand
from abeyance.cost.stations import (
    DAY,
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


class Quota(msgspec.Struct, frozen=True):
    """A published limit and where it is published."""

    value: float
    unit: str
    adjustable: bool
    title: str
    url: str
    note: str


class Quotas(msgspec.Struct, frozen=True):
    """``limits.json``."""

    read: str
    region: str
    quotas: dict[str, Quota]


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """Something that fills up."""

    name: str
    #: The most there is, and how much of it one photo a second takes.
    most: float
    unit: str
    each: float
    #: What to do about it.
    lever: str
    #: Key of the quota, or empty where the limit is ours.
    quota: str = ""

    @property
    def full_at(self) -> float:
        """Photos a second that fill it."""
        return self.most / self.each

    @property
    def full_a_day(self) -> float:
        """Photos a day, were they spread evenly."""
        return self.full_at * DAY

    def used(self, photos_a_second: float) -> float:
        """Share of it in use; above 1 it binds."""
        return photos_a_second / self.full_at


def quotas() -> Quotas:
    """The published limits."""
    body = resources.files("abeyance.cost").joinpath("limits.json").read_bytes()
    return msgspec.json.decode(body, type=Quotas)


def limits(plan: Plan, demand: Demand, known: Latencies | None = None) -> tuple[Limit, ...]:
    """All limits, the one that binds first at the head."""
    known = known or latencies()
    made = stations(plan, demand, known)
    found = [_servers(station) for station in made.values()]
    found += _published(plan, demand, made, quotas().quotas)
    found.append(_collection(plan, known))
    if plan.embedder != "local":
        found.append(
            Limit(
                name=f"GPUs ({plan.embedder})",
                most=plan.max_gpus * 1000 / known.milliseconds["gpu_face"],
                unit="faces a second",
                each=plan.faces,
                lever="max_gpus",
            )
        )
    return tuple(sorted(found, key=lambda limit: limit.full_at))


def _servers(station: Station) -> Limit:
    if station.fifo:
        return Limit(
            name="ledger: one writer at a time",
            most=station.rate,
            unit="entries a second",
            each=ENTRIES,
            lever="several chains",
        )
    return Limit(
        name=f"{station.name}: max_concurrency {station.servers}",
        most=station.rate,
        unit="messages a second",
        each=1,
        lever=f"max_concurrency of {station.name} in topology.py",
    )


def _collection(plan: Plan, known: Latencies) -> Limit:
    """Indexing moves one item of the collection in a transaction, so these go one after the other."""
    items = 1 + 2 * plan.faces
    took = known.of(
        {"dynamodb.GetItem": 1, "dynamodb.TransactWriteItems": 1, "dynamodb.transacted item": items}
    )
    return Limit(
        name="gallery: changes of one collection go one after the other",
        most=1 / took,
        unit="photos a second indexed",
        each=plan.largest,
        lever="more, smaller collections; searches are not bound by it",
    )


def _published(plan: Plan, demand: Demand, made: dict[str, Station], known: dict[str, Quota]) -> list[Limit]:
    entry, needs = demand.entry_units, demand.stages
    # Little's law: photos a second times seconds of a server for each are servers in use.
    concurrency = sum(
        (station.invocation / station.batch + station.message) * (ENTRIES if station.fifo else 1)
        for station in made.values()
    )
    heard = sum(len(listeners) for listeners in ROUTES.values())
    rows = (
        # name, quota, what one photo a second takes, how many there are of it, lever
        ("Lambda: concurrency of the account", "lambda_concurrency", concurrency, 1, "ask for more"),
        (
            "SQS: sends to the ledger's FIFO queue",
            "sqs_fifo",
            ENTRIES,
            plan.chains,
            "high throughput with several message groups, which takes several chains",
        ),
        (
            "DynamoDB: the partition that holds all ledger entries",
            "dynamodb_partition_writes",
            entry * ENTRIES,
            plan.chains,
            "fewer or smaller entries; several chains, each a partition of its own",
        ),
        (
            "DynamoDB: the largest tenant's registration",
            "dynamodb_partition_reads",
            len(WAY) * plan.largest,
            1,
            "keep a registration for some seconds, which delays a suspension by as many",
        ),
        (
            "DynamoDB: table of uploads",
            "dynamodb_table_writes",
            sum(needs[name].write_units for name in WAY),
            1,
            "ask for more",
        ),
        (
            "EventBridge: PutEvents",
            "eventbridge_put",
            sum(needs[name].message_calls.get(TOLD, 0) for name in WAY),
            1,
            "ask for more",
        ),
        ("EventBridge: deliveries", "eventbridge_invocations", 1 + heard, 1, "ask for more"),
        ("S3: uploads under the largest tenant's prefix", "s3_put", plan.largest, 1, "spread the keys"),
        ("S3: reads under the largest tenant's prefix", "s3_get", 2 * plan.largest, 1, "spread the keys"),
        # Bucket keys and DynamoDB's kept table keys leave some requests for every thousand photos.
        ("KMS", "kms", 0.01, 1, "ask for more"),
        ("AppConfig: flags asked for", "appconfig", concurrency / 15, 1, "ask for more"),
        (
            "SQS: messages in work at detect",
            "sqs_in_flight",
            made[topology.DETECT.name].message,
            1,
            "none needed",
        ),
    )
    return [
        Limit(
            name=name,
            most=known[key].value * many,
            unit=known[key].unit,
            each=each,
            lever=lever,
            quota=key,
        )
        for name, key, each, many, lever in rows
    ]
