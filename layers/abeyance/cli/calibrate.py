"""``abeyance calibrate``: the similarity scale, measured on strangers."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Annotated

import typer

from abeyance.cli._evaluation import (
    Images,
    ModelOptions,
    OutputOptions,
    RunOptions,
    SamePerson,
    SameShot,
    assignments,
    emit,
    exit_on_error,
    with_options,
)
from abeyance.cli.output import Exit, console, fail

#: Levels of --same-person for which the report shows the scale.
_LEVELS = (None, 0.75, 0.7, 0.65, 0.6)


@with_options
def calibrate(
    models: ModelOptions,
    run: RunOptions,
    output: OutputOptions,
    strangers: Annotated[
        Path,
        typer.Option(help="A CSV of photos with attributes, one photo of each person as far as is known."),
    ],
    mated: Annotated[
        list[Path] | None,
        typer.Option(help="People with several photos each, to measure FNMR. May be repeated."),
    ] = None,
    by: Annotated[
        str, typer.Option(help="Attributes that make the groups, joined by commas.")
    ] = "race,gender",
    anchor: Annotated[
        list[str] | None,
        typer.Option(help="SIMILARITY=FMR, such as 80=0.001. May be repeated; replaces the usual anchors."),
    ] = None,
    same_person: SamePerson = 0.65,
    only: Annotated[
        list[str] | None,
        typer.Option(help="ATTRIBUTE=VALUE to measure on, such as age=20-29. May be repeated."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Write the calibration block of the model manifest to this file."),
    ] = None,
    images: Images = "",
    same_shot: SameShot = 0.95,
) -> None:
    """Measure the similarity scale: false-match rates of strangers, set by the worst group.

    Example: [bold]abeyance calibrate --strangers faces.csv --mated members.csv --out calibration.json[/]
    """
    import msgspec
    import numpy as np

    from abeyance.evaluation.calibration import ANCHORS, block
    from abeyance.evaluation.calibration import calibrate as measure
    from abeyance.evaluation.datasets import read_photos
    from abeyance.evaluation.templates import MatedPairs

    anchors = _anchors(anchor) if anchor else ANCHORS
    allowed: dict[str, set[str]] = defaultdict(set)
    for name, value in assignments(only, "--only", "ATTRIBUTE=VALUE"):
        allowed[name].add(value)
    with exit_on_error():
        loaded = models.load(run)
        photos, templates = loaded.with_templates(read_photos(strangers, images=images).where(allowed))
        rows = np.flatnonzero(templates.found)
        labels = photos.labels(by.split(","))
        sources = [loaded.with_templates(read_photos(source)) for source in mated or []]
        level = same_person or None
        with console.status("Comparing strangers …"):
            found = measure(
                templates.vectors[rows],
                [labels[row] for row in rows],
                model=loaded.identity,
                anchors=anchors,
                same_person=level,
                alternatives=[other for other in _LEVELS if other != level],
                mated=[(people.name, MatedPairs.of(people, theirs, same_shot)) for people, theirs in sources],
            )
        if out is not None:
            out.write_bytes(msgspec.json.format(msgspec.json.encode(block(found, photos.name, by)), indent=2))
    emit("calibration", found, output, files={"Calibration block of the manifest": out})


def _anchors(values: list[str]) -> dict[float, float]:
    anchors = {}
    for text, value in assignments(values, "--anchor", "SIMILARITY=FMR, such as 80=0.001"):
        try:
            similarity, rate = float(text), float(value)
        except ValueError:
            fail(f"--anchor takes SIMILARITY=FMR, such as 80=0.001, not {text}={value}", Exit.USAGE)
        if not (0 < similarity < 100 and 0 < rate < 1):
            fail("an anchor has a similarity between 0 and 100 and a rate between 0 and 1", Exit.USAGE)
        anchors[similarity] = rate
    return anchors
