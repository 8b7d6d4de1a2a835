"""``abeyance calibrate``: what a similarity means, measured on strangers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from abeyance.cli._evaluation import (
    Bench,
    Cache,
    Confidence,
    DetectorName,
    Html,
    Images,
    Model,
    Models,
    SameShot,
    Workers,
    answer,
    refusing,
    say,
)
from abeyance.cli.output import Exit, Json, console, fail, table

if TYPE_CHECKING:
    from abeyance.evaluation.calibration import Result
    from abeyance.evaluation.datasets import PhotoSet

_LEVELS = (None, 0.75, 0.7, 0.65, 0.6)


def calibrate(
    strangers: Annotated[
        Path,
        typer.Option(help="A CSV of photos with attributes, one photo of each person as far as is known."),
    ],
    mated: Annotated[
        list[Path] | None,
        typer.Option(help="People with several photos each, to see what the scale costs. May be repeated."),
    ] = None,
    by: Annotated[
        str, typer.Option(help="Attributes that make the groups, joined by commas.")
    ] = "race,gender",
    anchor: Annotated[
        list[str] | None,
        typer.Option(help="SIMILARITY=FMR, such as 80=0.001. May be repeated; replaces the usual anchors."),
    ] = None,
    same_person: Annotated[
        float,
        typer.Option(help="Photos with this cosine or more show one person; 0 leaves nothing out.", min=0),
    ] = 0.65,
    only: Annotated[
        list[str] | None,
        typer.Option(help="ATTRIBUTE=VALUE to measure on, such as age=20-29. May be repeated."),
    ] = None,
    clusters: Annotated[
        bool, typer.Option("--clusters", help="Also measure calibration by clusters, on people held out.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Write the calibration block of the model manifest to this file."),
    ] = None,
    images: Images = "",
    same_shot: SameShot = 0.95,
    model: Model = "sface-2021dec",
    detector: DetectorName = "yunet-2023mar",
    models: Models = "",
    confidence: Confidence = 0.7,
    workers: Workers = 0,
    cache: Cache = True,
    html: Html = None,
    as_json: Json = False,
) -> None:
    """Measure the similarity scale: false-match rates of strangers, set by the worst group.

    Example: [bold]abeyance calibrate --strangers faces.csv --mated members.csv --out calibration.json[/]
    """
    import msgspec
    import numpy as np

    from abeyance.evaluation import pages
    from abeyance.evaluation.audit import mated_pairs, person_codes
    from abeyance.evaluation.calibration import ANCHORS, block
    from abeyance.evaluation.calibration import calibrate as measure
    from abeyance.evaluation.clusters import held_out
    from abeyance.evaluation.datasets import read_photos

    anchors = dict(map(_anchor, anchor)) if anchor else dict(ANCHORS)
    with refusing():
        bench = Bench(model, detector, models, confidence=confidence, cache=cache, workers=workers)
        photos = _only(read_photos(strangers, images=images), only or [])
        templates = bench.of(photos)
        rows = np.flatnonzero(templates.found)
        labels = [photos.labels(by.split(","))[row] for row in rows]
        costs, first, second = [], [], []
        for source in mated or []:
            people = read_photos(source)
            known = bench.of(people)
            a, b, scores, dropped = mated_pairs(people, known, same_shot)
            costs.append((people.name, scores, person_codes(people)[a], dropped))
            seen = np.isfinite(scores)
            first.append(known.vectors[a[seen]])
            second.append(known.vectors[b[seen]])
        level = same_person or None
        with console.status("Comparing strangers …"):
            found = measure(
                templates.vectors[rows],
                labels,
                model=bench.model,
                anchors=anchors,
                same_person=level,
                alternatives=[other for other in _LEVELS if other != level],
                mated=costs,
            )
            spreads = []
            if clusters and first:
                from abeyance.evaluation.calibration import unique_people

                kept, _ = unique_people(templates.vectors[rows], level)
                names = sorted(set(labels))
                codes = np.array([names.index(labels[row]) for row in kept])
                spreads = held_out(
                    templates.vectors[rows][kept], codes, np.concatenate(first), np.concatenate(second)
                )
                found = msgspec.structs.replace(found, clusters=tuple(spreads))
        if out is not None:
            out.write_bytes(msgspec.json.format(msgspec.json.encode(block(found, photos.name, by)), indent=2))
    if clusters and not first:
        fail("--clusters needs --mated, to compare at equal FNMR", Exit.USAGE)
    answer(
        "calibration",
        found,
        as_json=as_json,
        html=html,
        page=lambda: pages.calibration(found, spreads),
        show=lambda: _show(found, out),
    )


def _show(found: Result, out: Path | None) -> None:
    from abeyance.evaluation.report import interval, percent, small

    rows = [
        (
            f"{a.similarity:g}",
            small(a.fmr),
            f"{a.threshold:.4f}",
            f"{a.threshold_low:.3f}-{a.threshold_high:.3f}",
            a.worst,
            interval(a.overall),
        )
        for a in found.anchors
    ]
    console.print(
        table("The scale", ("similarity", "FMR", "cosine", "95 %", "worst group", "FMR of all pairs"), rows)
    )
    keys = [f"{a.similarity:g}" for a in found.anchors]
    for cost in found.costs:
        missed = ", ".join(f"{interval(cost.fnmr[key])} at {key}" for key in keys)
        say(f"Missed of {cost.pairs:,} mated pairs of {cost.source}: {missed}.")
    levels = [
        (
            "nothing left out" if c.level is None else f"{c.level:g}",
            str(c.photos_left_out),
            *("-" if (t := c.thresholds[key]) is None else f"{t:.3f}" for key in keys),
        )
        for c in (found.cleaning, *found.sensitivity)
    ]
    console.print(table("If one person were told by another level", ("level", "left out", *keys), levels))
    spreads = [
        (
            s.method,
            percent(s.fnmr),
            small(s.overall_fmr),
            small(s.worst_fmr),
            f"{s.max_over_min:.1f}",
            f"{s.worst_over_geometric_mean:.2f}",
            f"{s.gini:.3f}",
        )
        for s in found.clusters
    ]
    if spreads:
        columns = ("method", "FNMR", "FMR", "worst group", "worst/best", "worst/mean", "Gini")
        console.print(table("Calibration by clusters, on people held out", columns, spreads))
    say(f"{found.people:,} strangers, {found.pairs:,} pairs, {found.pairs_within_groups:,} within groups.")
    if out is not None:
        say(f"Calibration block of the manifest: {out}")


def _anchor(text: str) -> tuple[float, float]:
    try:
        similarity, rate = map(float, text.split("="))
    except ValueError:
        fail(f"--anchor takes SIMILARITY=FMR, such as 80=0.001, not {text}", Exit.USAGE)
    if not (0 < similarity < 100 and 0 < rate < 1):
        fail("an anchor has a similarity between 0 and 100 and a rate between 0 and 1", Exit.USAGE)
    return similarity, rate


def _only(photos: PhotoSet, wanted: list[str]) -> PhotoSet:
    """Photos with one of the values asked for, of every attribute that is named."""
    from abeyance.evaluation.datasets import PhotoSet as Kept

    values: dict[str, set[str]] = {}
    for text in wanted:
        name, _, value = text.partition("=")
        if not value:
            fail(f"--only takes ATTRIBUTE=VALUE, not {text}", Exit.USAGE)
        values.setdefault(name, set()).add(value.casefold())
    for name, allowed in values.items():
        labels = photos.labels([name])
        kept = tuple(p for p, label in zip(photos.photos, labels, strict=True) if label.casefold() in allowed)
        photos = Kept(photos.name, kept, photos.persons_given)
    if not len(photos):
        fail("no photo has the values asked for with --only", Exit.USAGE)
    return photos
