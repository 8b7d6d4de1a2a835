"""The bill of AWS for photos and for an idle month, beside Rekognition's published price.

The quantities follow from a measured demand (:mod:`abeyance.cost.demand`) and the durations of the stages in the model
(:mod:`abeyance.cost.stations`); the prices are a table with its date. Nothing is asked of AWS.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import msgspec

from abeyance.cost.demand import EVENT_PUT, Demand
from abeyance.cost.stations import DAY_S, ENTRIES, Plan, Station, latencies, stations
from abeyance.deployment.settings import UNITS
from abeyance.ledger.tiles import WIDTH
from abeyance.pipeline import topology

Prices = Mapping[str, Any]
HOURS_A_MONTH = 730.0
DAYS_A_MONTH = HOURS_A_MONTH / 24
#: Logged of a Lambda invocation: its start, its end, its report.
_INVOCATION_LOG_BYTES = 450
#: Logged of a batch of the ledger: a line for each kind of entry.
_BATCH_LOG_BYTES = 8 * 350
#: Messages that SQS hands over, and takes back, in one request.
_RECEIVED = 10
#: Pollers of a queue whose function runs twice at most.
_POLLERS = 2
#: Before it signs, checkpoint reads each bundle of entries and its tile once, and index its openings.
_READS_AN_ENTRY = 3 / WIDTH
#: Alarms besides those of each stage's queue and each function.
_OTHER_ALARMS = 9
_GB = 1e9


class Line(msgspec.Struct, frozen=True):
    """One line of a bill."""

    service: str
    item: str
    quantity: float
    unit: str
    amount: float


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A bill and its sources."""

    photos: float
    embedder: str
    currency: str
    prices_as_of: str
    demand_measured: str
    per_photos: tuple[Line, ...]
    idle_month: tuple[Line, ...]
    #: Storage of the photos' records, for each month that they are kept.
    kept_month: tuple[Line, ...]
    photos_total: float
    idle_total: float
    kept_total: float
    #: For the same photos, by group of Rekognition's operations; and to keep their faces for a month.
    rekognition: dict[str, float]
    rekognition_kept: float
    #: For an hour of stored video in 1080p; and by Rekognition, for each operation.
    video_hour: tuple[Line, ...]
    video_total: float
    rekognition_video: float


def stored_prices() -> Prices:
    """Read ``prices.json``."""
    return load_prices(resources.files("abeyance.cost").joinpath("prices.json").read_bytes())


def load_prices(body: bytes) -> Prices:
    """Parse a price table; raises ``msgspec.MsgspecError``."""
    return msgspec.json.decode(body, type=dict[str, Any])


def estimate(
    photos: float,
    plan: Plan,
    prices: Prices,
    demand: Demand,
    *,
    fill: Mapping[str, float] | None = None,
    gpu_hours: float | None = None,
) -> Estimate:
    """Return the bill of ``photos`` uploads that are indexed by the plan, and of an idle month.

    Parameters
    ----------
    fill
        Messages of an invocation by stage, as simulated; 1 where not given, which is dearest.
    gpu_hours
        Of the embedding endpoint; by default one instance for as long as the photos arrive.

    Raises
    ------
    KeyError
        With the name that the price table or the measurement lacks.
    """
    if gpu_hours is None:
        gpu_hours = photos / plan.photos_a_day * 24
    used = _photo_lines(photos, plan, prices, demand, fill or {}, gpu_hours)
    idle = _idle_lines(plan.embedder, prices)
    kept = _kept_lines(photos, prices, demand)
    video = _video_lines(prices)
    tiers = prices["rekognition"]
    return Estimate(
        photos=photos,
        embedder=plan.embedder,
        currency=prices["currency"],
        prices_as_of=prices["as_of"],
        demand_measured=demand.measured,
        per_photos=tuple(used),
        idle_month=tuple(idle),
        kept_month=tuple(kept),
        photos_total=_sum(used),
        idle_total=_sum(idle),
        kept_total=_sum(kept),
        rekognition={
            group: round(tiered(photos, tiers["tiers"], tiers[group]), 2) for group in ("group_1", "group_2")
        },
        rekognition_kept=round(photos * plan.faces * tiers["face_month"], 2),
        video_hour=tuple(video),
        video_total=_sum(video),
        rekognition_video=round(60 * tiers["video_minute"], 2),
    )


def tiered(images: float, tiers: Sequence[float], prices: Sequence[float]) -> float:
    """Return the price of a month's images, each tier at its own price and the rest at the last."""
    total, left = 0.0, images
    for size, price in zip((*tiers, math.inf), prices, strict=False):
        total += min(left, size) * price
        left -= min(left, size)
    return total


def by_service(lines: Sequence[Line]) -> dict[str, float]:
    """Return the amount of each service, dearest first."""
    found: dict[str, float] = defaultdict(float)
    for line in lines:
        found[line.service] += line.amount
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _photo_lines(
    photos: float,
    plan: Plan,
    prices: Prices,
    demand: Demand,
    fill: Mapping[str, float],
    gpu_hours: float,
) -> list[Line]:
    lines = []
    batches = writes = reads = logged = 0.0
    polled = 0.0
    calls: dict[str, float] = defaultdict(float)
    for name, station in stations(plan, demand).items():
        messages = photos * (ENTRIES if station.whole else 1)
        size = min(fill.get(name) or _gathered(plan, station), station.batch)
        invocations = messages / size
        gigabytes = invocations * station.seconds(size) * station.memory / 1024
        lines.append(_line("Lambda", name, gigabytes, "GB-s", prices["lambda_gb_second_arm64"]))
        batches += invocations
        # Sent one by one; received and deleted by the batch.
        polled += messages + 2 * (messages / _RECEIVED if station.whole else invocations)
        needs = demand.stages[name]
        writes += messages * needs.write_units
        reads += messages * needs.read_units
        logged += invocations * (_INVOCATION_LOG_BYTES + (_BATCH_LOG_BYTES if station.whole else 0))
        for call, count in needs.message_calls.items():
            calls[call] += messages * count
        for call, count in needs.invocation_calls.items() if station.whole else ():
            calls[call] += invocations * count
    # Faces beyond those of the measured photos: an item and a change each, in a transaction.
    writes += photos * max(0.0, plan.faces - demand.faces) * 4
    archived = photos * demand.event_bytes / _GB
    gets = calls["s3.GetObject"] + calls["s3.HeadObject"] + photos * ENTRIES * _READS_AN_ENTRY
    lines += [
        _line("Lambda", "requests", batches, "requests", prices["lambda_request"]),
        _line("EventBridge", "events", calls[EVENT_PUT], "events", prices["eventbridge_custom_event"]),
        _line("EventBridge", "archive", archived, "GB", prices["eventbridge_archive_gb"]),
        _line("SQS", "requests", polled, "requests", prices["sqs_standard_request"]),
        # The upload is on the same bill.
        _line("S3", "PUT", photos + calls["s3.PutObject"], "requests", prices["s3_put"]),
        _line("S3", "GET", gets, "requests", prices["s3_get"]),
        _line("DynamoDB", "writes", writes, "units", prices["dynamodb_write_unit"]),
        _line("DynamoDB", "reads", reads, "units", prices["dynamodb_read_unit"]),
        # Bucket keys make S3's share of KMS negligible; DynamoDB keeps a table's key for minutes.
        _line("CloudWatch", "logs", logged / _GB, "GB", prices["logs_gb"]),
    ]
    if plan.embedder != "local":
        hourly = next(price for name, price in prices["gpu_hour"].items() if name.startswith(plan.embedder))
        lines.append(_line("GPU", plan.embedder, gpu_hours, "hours", hourly))
    return lines


def _video_lines(prices: Prices) -> list[Line]:
    """Return the bill of an hour of 1080p, at 5 Mbit/s, in segments of 30 s."""
    stage, segments = topology.FRAMES, 120
    gigabytes = 3600 * latencies().seconds["video_second"] * stage.memory / 1024
    blocks = 3600 * 5e6 / 8 / 2**20
    return [
        _line("Lambda", "frames", gigabytes, "GB-s", prices["lambda_gb_second_arm64"]),
        # Each segment opens the container, and leaves two files, which are read and deleted when all are joined.
        _line("S3", "GET", blocks + 6 * segments, "requests", prices["s3_get"]),
        _line("S3", "PUT", 2 * segments, "requests", prices["s3_put"]),
        _line("EventBridge", "events", segments, "events", prices["eventbridge_custom_event"]),
        _line("SQS", "requests", 4 * segments, "requests", prices["sqs_standard_request"]),
        _line("DynamoDB", "writes", 2 * segments, "units", prices["dynamodb_write_unit"]),
        # The records of all segments are read when each has ended.
        _line("DynamoDB", "reads", segments**2, "units", prices["dynamodb_read_unit"]),
    ]


def _gathered(plan: Plan, station: Station) -> float:
    """Return the messages that each poller gathers in the window at the plan's mean load; 1 without a window."""
    return max(1.0, plan.photos_a_day / DAY_S * ENTRIES * station.window / _POLLERS)


def _kept_lines(photos: float, prices: Prices, demand: Demand) -> list[Line]:
    """Return the storage. The ledger is kept for good, a gallery until its deletion, the rest for some days."""
    table = prices["dynamodb_gb_month"] + prices["dynamodb_pitr_gb_month"]
    rates = {"table": ("DynamoDB", table), "bucket": ("S3", prices["s3_gb_month"])}
    lines = []
    for place, size in demand.left.items():
        name, kind = place.rsplit("_", 1)
        service, price = rates[kind]
        lines.append(_line(service, name, photos * size / _GB, "GB", price))
    return lines


def _idle_lines(embedder: str, prices: Prices) -> list[Line]:
    # Lambda's five pollers of a queue, each waiting 20 s.
    polls = HOURS_A_MONTH * 3600 / 20 * 5 * len(topology.STAGES)
    runs = sum(HOURS_A_MONTH * 60 / schedule.every_minutes for schedule in topology.SCHEDULES)
    alarms = 2 * len(topology.STAGES) + len(UNITS) + _OTHER_ALARMS
    checkpoints = HOURS_A_MONTH * 60 / topology.CHECKPOINT.every_minutes
    lines = [
        _line("KMS", "keys", 5, "keys", prices["kms_key_month"]),
        # The last one is verified, and the new one signed.
        _line("KMS", "checkpoints", 2 * checkpoints, "requests", prices["kms_asymmetric_request"]),
        _line("S3", "checkpoints", 2 * checkpoints, "requests", prices["s3_put"]),
        _line("SQS", "pollers waiting", polls, "requests", prices["sqs_standard_request"]),
        _line("CloudWatch", "alarms", alarms, "alarms", prices["alarm_month"]),
        _line("CloudWatch", "dashboard", 1, "dashboard", prices["dashboard_month"]),
        _line("CloudWatch", "metrics of our own", 11, "metrics", prices["metric_month"]),
        _line("Secrets Manager", "secret", 1, "secret", prices["secret_month"]),
        _line("Lambda", "scheduled tasks", runs, "invocations", prices["lambda_request"]),
    ]
    if embedder == "ecs":
        idle = prices["ecs_idle_month"]
        hours = HOURS_A_MONTH * idle["interface_endpoints"]
        lines += [
            _line("VPC", "interface endpoints", hours, "hours", idle["interface_endpoint_hour"]),
            _line("Load balancer", "balancer", HOURS_A_MONTH, "hours", idle["balancer_hour"]),
        ]
    return lines


def _line(service: str, item: str, quantity: float, unit: str, price: float) -> Line:
    return Line(service, item, round(quantity, 2), unit, round(quantity * price, 2))


def _sum(lines: Sequence[Line]) -> float:
    return round(sum(line.amount for line in lines), 2)
