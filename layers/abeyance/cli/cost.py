"""``abeyance cost``: the bill for photos and for an idle month, and the forecast of a day, by :mod:`abeyance.cost`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from abeyance.cli.output import Exit, Json, console, fail, report, table

if TYPE_CHECKING:
    from abeyance.cost.bill import Estimate, Line
    from abeyance.cost.forecast import Forecast

#: Limits that are shown, the first to bind at the head.
_SHOWN = 5


class Answer(msgspec.Struct, frozen=True):
    """The bill and the forecast of a day."""

    bill: Estimate
    day: Forecast


def cost(
    photos: Annotated[int, typer.Option(help="Number of indexed photos.", min=1)] = 1_000_000,
    a_day: Annotated[int | None, typer.Option(help="Photos a day; all of them, if not given.", min=1)] = None,
    burst: Annotated[
        float, typer.Option(help="Load of the busiest quarter of an hour, as a multiple.", min=1.0)
    ] = 3.0,
    faces: Annotated[float, typer.Option(help="Faces in a photo, on average.", min=0.0)] = 1.2,
    largest: Annotated[
        float, typer.Option(help="Share of the photos in the largest collection.", min=0.001, max=1.0)
    ] = 0.1,
    embedder: Annotated[str, typer.Option(help="local, sagemaker or ecs.")] = "local",
    prices: Annotated[
        Path | None, typer.Option(help="Your own price table, in the format of prices.json.")
    ] = None,
    demand: Annotated[
        Path | None, typer.Option(help="Demand of a photo, as python -m benchmarks.demand writes it.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Estimate the cost of photos and of an idle month in AWS, and forecast what binds first."""
    from abeyance.cost import bill
    from abeyance.cost import demand as demands
    from abeyance.cost.forecast import forecast
    from abeyance.cost.stations import Plan

    if embedder not in ("local", "sagemaker", "ecs"):
        fail("--embedder must be local, sagemaker or ecs", Exit.USAGE)
    try:
        priced = bill.load_prices(prices.read_bytes()) if prices else bill.stored_prices()
        needed = demands.load(demand.read_bytes()) if demand else demands.stored()
        plan = msgspec.convert(
            {
                "photos_a_day": a_day or photos,
                "burst": burst,
                "faces": faces,
                "largest": largest,
                "embedder": embedder,
            },
            Plan,
        )
        found = Answer(bill.estimate(photos, plan, priced, needed), forecast(plan, needed))
    except OSError as error:
        fail(f"cannot read {error.filename}: {error.strerror}")
    except (msgspec.MsgspecError, KeyError) as error:
        fail(f"the price table or the measurement lacks something: {error}")
    report(found, as_json=as_json, show=lambda: _show(found))


def _show(found: Answer) -> None:
    bill, day = found.bill, found.day
    for title, lines, total in (
        (f"{bill.photos:,.0f} photos, embedder {bill.embedder}", bill.per_photos, bill.photos_total),
        ("A month in which nothing happens", bill.idle_month, bill.idle_total),
        ("What they leave, for each month that it is kept", bill.kept_month, bill.kept_total),
    ):
        rows = [*map(_row, lines), ("together", "", "", f"{total:,.2f}")]
        console.print(table(title, ("for", "quantity", "unit", bill.currency), rows))
    console.print(
        f"Rekognition's published price for as many images in a month: {bill.rekognition['group_1']:,.2f} for "
        f"indexing or searching, {bill.rekognition['group_2']:,.2f} for detection.",
        highlight=False,
    )
    console.print(
        f"An hour of stored video in 1080p: {bill.video_total:,.2f}. Rekognition's published price for it: "
        f"{bill.rekognition_video:,.2f} for each operation.",
        highlight=False,
    )
    bounds = [
        (limit.name, f"{limit.full_at:,.0f}", f"{limit.mean:.0%}", f"{limit.peak:.0%}", f"{limit.burst:.0%}")
        for limit in day.limits[:_SHOWN]
    ]
    columns = ("what", "full at photos/s", "used on average", "at the peak", "in a burst")
    console.print(table(f"{day.photos_a_day:,.0f} photos a day: what binds first", columns, bounds))
    console.print(f"{day.sentence} To move it: {day.first.lever}.", highlight=False)
    console.print(
        f"Prices as of {bill.prices_as_of}. Demand: {bill.demand_measured}. Not in it: storage of the photos "
        "themselves, data out of AWS, free tiers, taxes.",
        highlight=False,
    )


def _row(line: Line) -> tuple[str, str, str, str]:
    return f"{line.service}: {line.item}", f"{line.quantity:,.0f}", line.unit, f"{line.amount:,.2f}"
