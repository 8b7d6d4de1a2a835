"""The limits that photos count against, and how many photos a second fill each.

Quotas of AWS are in ``limits.json``, each with its source; limits of our own are the topology's.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

import msgspec

from abeyance.cost.demand import EVENT_PUT, TRANSACTED, Demand
from abeyance.cost.stations import DAY_S, ENTRIES, ROUTES, WAY, Plan, Station, latencies, stations
from abeyance.pipeline import topology


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """A published limit and its source."""

    value: float
    unit: str
    title: str
    url: str
    #: What photos fill up, and what to do about it; empty where photos do not count against the quota.
    limit: str = ""
    lever: str = ""


class Quotas(msgspec.Struct, frozen=True):
    """``limits.json``."""

    read: str
    quotas: dict[str, Quota]


class Limit(msgspec.Struct, frozen=True):
    """A capacity that photos use up."""

    name: str
    #: Photos a second that fill it.
    full_at: float
    #: Advice against it.
    lever: str
    #: Key of the quota; empty where the limit is ours.
    quota: str = ""

    @property
    def full_a_day(self) -> float:
        """Evenly spread photos a day that fill it."""
        return self.full_at * DAY_S

    def used(self, photos_a_second: float) -> float:
        """Return the share of it in use; above 1 it binds."""
        return photos_a_second / self.full_at


@cache
def quotas() -> Quotas:
    """Read ``limits.json``."""
    body = resources.files("abeyance.cost").joinpath("limits.json").read_bytes()
    return msgspec.json.decode(body, type=Quotas)


def limits(plan: Plan, demand: Demand) -> tuple[Limit, ...]:
    """Return all limits, the first to bind first."""
    known, made = latencies(), stations(plan, demand)
    found = []
    for station in made.values():
        if station.whole:
            lever = "more memory, and so more processor, for the ledger; more entries a message"
            found.append(Limit("ledger: its head moves for one at a time", station.rate / ENTRIES, lever))
        else:
            lever = f"max_concurrency of {station.name} in topology.py"
            found.append(Limit(f"{station.name}: max_concurrency {station.servers}", station.rate, lever))
    found += _published(plan, demand, made)
    # Indexing moves one item of the collection in a transaction.
    name = "gallery: changes of one collection go one after the other"
    lever = "more, smaller collections; searches are not bound by it"
    found.append(Limit(name, 1 / change_s(plan) / plan.largest, lever))
    if plan.embedder != "local":
        faces = plan.max_gpus * 1000 / known.milliseconds["gpu_face"]
        found.append(Limit(f"GPUs ({plan.embedder})", faces / plan.faces, "max_gpus"))
    return tuple(sorted(found, key=lambda limit: limit.full_at))


def change_s(plan: Plan) -> float:
    """Return the seconds of a photo's change of its collection, in which no other photo changes it."""
    calls = {"dynamodb.GetItem": 1, "dynamodb.TransactWriteItems": 1, TRANSACTED: 1 + 2 * plan.faces}
    return latencies().of(calls)


def _published(plan: Plan, demand: Demand, made: dict[str, Station]) -> list[Limit]:
    needs = demand.stages
    # Little's law: photos a second times seconds of a server for each are servers in use.
    concurrency = sum(
        (station.invocation / station.batch + station.message) * (ENTRIES if station.whole else 1)
        for station in made.values()
    )
    per_photo = {
        "lambda_concurrency": concurrency,
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
    found = []
    for key, use in per_photo.items():
        quota = quotas().quotas[key]
        found.append(Limit(quota.limit, quota.value / use, quota.lever, key))
    return found
