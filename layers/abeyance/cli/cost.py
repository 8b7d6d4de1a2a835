"""``abeyance cost``: what a million photos cost, and a month in which nothing happens.

The model is a list of what one photo makes each service do, which follows from the pipeline's code; the durations are
measured; the prices are a table with its date. Nothing is asked of AWS.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from abeyance.cli.output import Exit, Json, console, fail, report, table

_HOURS = 730.0
_DATA = Path(__file__).parent
#: Messages of one SQS request that Lambda's poller makes, where a queue is busy.
_BATCH = 10
#: Items of the pipeline are small: one write unit is 1 KiB, one read unit 4 KiB.
_EVENT_KIB = 4


class Durations(msgspec.Struct, frozen=True):
    """Milliseconds that one photo takes in each function, and where they were measured."""

    measured: str
    milliseconds: dict[str, float]


class Line(msgspec.Struct, frozen=True):
    """One line of a bill."""

    item: str
    quantity: float
    unit: str
    amount: float


class Estimate(msgspec.Struct, frozen=True):
    """A bill, and what it rests on."""

    photos: int
    embedder: str
    currency: str
    prices_as_of: str
    durations_measured: str
    per_photos: tuple[Line, ...]
    idle_month: tuple[Line, ...]
    photos_total: float
    idle_total: float


def estimate(
    photos: int, embedder: str, faces: float, prices: dict[str, Any], durations: Durations
) -> Estimate:
    """The bill of ``photos`` uploads that are indexed, each with ``faces`` faces, and of an idle month.

    Raises ``KeyError`` naming what the price table or the durations lack.
    """
    used = _photo_lines(photos, embedder, faces, prices, durations.milliseconds)
    idle = _idle_lines(embedder, prices)
    return Estimate(
        photos=photos,
        embedder=embedder,
        currency=prices["currency"],
        prices_as_of=prices["as_of"],
        durations_measured=durations.measured,
        per_photos=tuple(used),
        idle_month=tuple(idle),
        photos_total=round(sum(line.amount for line in used), 2),
        idle_total=round(sum(line.amount for line in idle), 2),
    )


def _photo_lines(
    photos: int, embedder: str, faces: float, prices: dict[str, Any], milliseconds: dict[str, float]
) -> list[Line]:
    from abeyance.pipeline import topology

    lines = []
    emitted = (
        3  # Upload Permitted, Faces Detected, Faces Indexed: each is ledgered and read by the next stage
    )
    stages = [stage for stage in topology.STAGES if stage is not topology.REVIEW]  # which is for searches
    for stage in stages:
        times = emitted if stage is topology.LEDGER else 1
        seconds = photos * times * milliseconds[stage.name] / 1000
        size = seconds * stage.memory / 1024
        lines.append(_line(f"Lambda {stage.name}", size, "GB-s", prices["lambda_gb_second_arm64"]))
    # Receive, invoke and delete are made for a batch where there is one.
    batches = sum(1 / min(stage.batch_size, _BATCH) for stage in stages)
    lines += [
        _line("Lambda requests", photos * batches, "requests", prices["lambda_request"]),
        _line("EventBridge", photos * emitted, "events", prices["eventbridge_custom_event"]),
        _line("SQS", photos * (emitted + 2 * batches), "requests", prices["sqs_standard_request"]),
        _line("SQS FIFO", photos * emitted * (1 + 2 / _BATCH), "requests", prices["sqs_fifo_request"]),
        # The photo, its chips, its result; its head, itself, its chips.
        _line("S3 PUT", photos * 3, "requests", prices["s3_put"]),
        _line("S3 GET", photos * 3, "requests", prices["s3_get"]),
        # Claim and three settlements of some KiB; for each face its item, a change and the counter in a transaction,
        # which counts twice; for each entry of the ledger its line, its id and the head, likewise.
        _line(
            "DynamoDB writes",
            photos * (4 * _EVENT_KIB + faces * 3 * 2 + emitted * (2 + 1 + 1) * 2),
            "units",
            prices["dynamodb_write_unit"],
        ),
        _line("DynamoDB reads", photos * (2 + 4 + emitted * 3), "units", prices["dynamodb_read_unit"]),
        # Bucket keys make S3's share negligible; DynamoDB keeps a table's key for minutes.
        _line("CloudWatch Logs", photos * 2e-6, "GB", prices["logs_gb"]),
    ]
    if embedder != "local":
        hourly = next(price for name, price in prices["gpu_hour"].items() if name.startswith(embedder))
        hours = photos * faces * milliseconds["gpu_face"] / 3_600_000
        lines.append(_line(f"GPU, busy ({embedder})", hours, "hours", hourly))
    return lines


def _idle_lines(embedder: str, prices: dict[str, Any]) -> list[Line]:
    from abeyance.pipeline import topology

    polls = (
        _HOURS * 3600 / 20 * 5 * len(topology.STAGES)
    )  # Lambda's five pollers of a queue, each waiting 20 s
    runs = sum(_HOURS * 60 / schedule.every_minutes for schedule in topology.SCHEDULES)
    alarms = 2 * len(topology.STAGES) + len(topology.STAGES) + 5
    lines = [
        _line("KMS keys", 4, "keys", prices["kms_key_month"]),
        _line("SQS, pollers waiting", polls, "requests", prices["sqs_standard_request"]),
        _line("Alarms", alarms, "alarms", prices["alarm_month"]),
        _line("Dashboard", 1, "dashboard", prices["dashboard_month"]),
        _line("Metrics of our own", 8, "metrics", prices["metric_month"]),
        _line("Secret", 1, "secret", prices["secret_month"]),
        _line("Scheduled tasks", runs, "invocations", prices["lambda_request"]),
    ]
    if embedder == "ecs":
        idle = prices["ecs_idle_month"]
        lines.append(
            _line(
                "Interface endpoints",
                _HOURS * idle["interface_endpoints"],
                "hours",
                idle["interface_endpoint_hour"],
            )
        )
        lines.append(_line("Load balancer", _HOURS, "hours", idle["balancer_hour"]))
    return lines


def _line(item: str, quantity: float, unit: str, price: float) -> Line:
    return Line(item, round(quantity, 2), unit, round(quantity * price, 2))


def cost(
    photos: Annotated[int, typer.Option(help="How many photos are indexed.", min=1)] = 1_000_000,
    faces: Annotated[float, typer.Option(help="Faces in a photo, on average.", min=0.0)] = 1.2,
    embedder: Annotated[str, typer.Option(help="local, sagemaker or ecs.")] = "local",
    prices: Annotated[Path | None, typer.Option(help="A price table of your own; see prices.json.")] = None,
    durations: Annotated[
        Path | None, typer.Option(help="Durations of your own, such as make e2e leaves in .cache/e2e.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what photos cost in AWS, and what a month costs in which nothing happens."""
    if embedder not in ("local", "sagemaker", "ecs"):
        fail("--embedder must be local, sagemaker or ecs", Exit.USAGE)
    try:
        table_of_prices = msgspec.json.decode(
            (prices or _DATA / "prices.json").read_bytes(), type=dict[str, Any]
        )
        measured = msgspec.json.decode((durations or _DATA / "durations.json").read_bytes(), type=Durations)
        found = estimate(photos, embedder, faces, table_of_prices, measured)
    except OSError as error:
        fail(f"cannot read {error.filename}: {error.strerror}")
    except (msgspec.MsgspecError, KeyError) as error:
        fail(f"the price table or the durations lack something: {error}")
    report(found, as_json=as_json, show=lambda: _show(found))


def _show(found: Estimate) -> None:
    for title, lines, total in (
        (f"{found.photos:,} photos, embedder {found.embedder}", found.per_photos, found.photos_total),
        ("A month in which nothing happens", found.idle_month, found.idle_total),
    ):
        rows = [(line.item, f"{line.quantity:,.0f}", line.unit, f"{line.amount:,.2f}") for line in lines]
        console.print(
            table(
                title,
                ("for", "quantity", "unit", found.currency),
                [*rows, ("together", "", "", f"{total:,.2f}")],
            )
        )
    console.print(
        f"Prices as of {found.prices_as_of}. Durations: {found.durations_measured}.", highlight=False
    )
    console.print("Not in it: storage of the photos themselves, data out of AWS, free tiers, taxes.")
