"""``abeyance calibrate``: the similarity scale, and the map before it, measured on strangers."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from abeyance.cli._evaluation import (
    Images,
    ModelOptions,
    OutputOptions,
    Repeats,
    RunOptions,
    SamePerson,
    SameShot,
    assignments,
    emit,
    exit_on_error,
    stepping,
    with_options,
)
from abeyance.cli.output import Exit, console, fail

if TYPE_CHECKING:
    from abeyance.cli._evaluation import LoadedModels
    from abeyance.evaluation.arrays import IntArray
    from abeyance.evaluation.datasets import PhotoSet
    from abeyance.evaluation.templates import TemplateSet

app = typer.Typer(
    name="calibrate",
    help="Measure the similarity scale on strangers, find repeated people among them, or fit the map of templates.",
)
#: Cosines for which the report shows the scale as well.
_LEVELS = (0.7, 0.65, 0.6, 0.55)

Strangers = Annotated[
    list[Path] | None,
    typer.Option(
        help="A CSV of photos with attributes, one photo of each person as far as is known. May be repeated."
    ),
]
Mated = Annotated[
    list[Path] | None,
    typer.Option(help="People with several photos each, to measure FNMR. May be repeated."),
]
By = Annotated[str, typer.Option(help="Attributes that make the groups, joined by commas.")]
Anchors = Annotated[
    list[str] | None,
    typer.Option(help="SIMILARITY=FMR, such as 80=0.001. May be repeated; replaces the usual anchors."),
]


@app.callback(invoke_without_command=True)
@with_options
def calibrate(
    context: typer.Context,
    models: ModelOptions,
    run: RunOptions,
    output: OutputOptions,
    strangers: Strangers = None,
    mated: Mated = None,
    by: By = "race,gender",
    anchor: Anchors = None,
    repeats: Repeats = None,
    same_person: SamePerson = 0.0,
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
    if context.invoked_subcommand:
        return
    import msgspec

    from abeyance.evaluation.calibration import block
    from abeyance.evaluation.calibration import calibrate as measure
    from abeyance.evaluation.templates import MatedPairs

    anchors = _anchors(anchor)
    allowed: dict[str, set[str]] = defaultdict(set)
    for name, value in assignments(only, "--only", "ATTRIBUTE=VALUE"):
        allowed[name].add(value)
    with exit_on_error():
        loaded = models.load(run)
        photos, templates = _with_faces(loaded, _read(strangers, images).where(allowed))
        people = _judged(photos, repeats)
        sources = [loaded.with_templates(_read([source], images)) for source in mated or []]
        with stepping("Comparing strangers") as tick:
            found = measure(
                templates.vectors,
                photos.labels(by.split(",")),
                model=loaded.identity,
                anchors=anchors,
                judged=(", ".join(repeats or ()), people) if people is not None else None,
                same_person=same_person or None,
                levels=_LEVELS,
                attributes={name: photos.labels([name]) for name in photos.groupings},
                mated=[(source.name, MatedPairs.of(source, theirs, same_shot)) for source, theirs in sources],
                tick=tick,
            )
        if out is not None:
            out.write_bytes(msgspec.json.format(msgspec.json.encode(block(found, photos.name, by)), indent=2))
    emit("calibration", found, output, files={"Calibration block of the manifest": out})


@app.command("map")
@with_options
def fit(
    models: ModelOptions,
    run: RunOptions,
    output: OutputOptions,
    strangers: Strangers = None,
    mated: Mated = None,
    by: By = "race,gender",
    anchor: Anchors = None,
    repeats: Repeats = None,
    terms: Annotated[
        str, typer.Option(help="Terms of use of the photos, for the file: such as 'FairFace, CC BY 4.0'.")
    ] = "",
    out: Annotated[Path | None, typer.Option("--out", help="Write the map to this file.")] = None,
    images: Images = "",
    same_shot: SameShot = 0.95,
) -> None:
    """Fit the map of templates on strangers, and measure it on the half of the people that it was not fitted to.

    A model of the manifest takes the file as its [bold]map[/]. Its templates are then others, so its identity is too.
    """
    import msgspec
    import numpy as np

    from abeyance.evaluation.map_fit import cross_fit
    from abeyance.evaluation.templates import MatedPairs, MatedVectors
    from abeyance.vision.models.template_map import TemplateMap

    anchors = _anchors(anchor)
    with exit_on_error():
        loaded = models.load(run)
        known = TemplateMap.read(loaded.entry.map) if loaded.entry.map else None
        photos, templates = _with_faces(loaded, _read(strangers, images))
        people = _judged(photos, repeats)
        pairs = {}
        for source in mated or []:
            theirs, found = loaded.with_templates(_read([source], images))
            kept = MatedPairs.of(theirs, found, same_shot)
            before = known.undo(found.vectors) if known else found.vectors
            pairs[theirs.name] = MatedVectors(before[kept.first], before[kept.second], kept.people)
        with console.status("Fitting and comparing …"):
            fitted, study = cross_fit(
                known.undo(templates.vectors) if known else templates.vectors,
                photos.labels(by.split(",")),
                np.arange(len(photos)) if people is None else people,
                pairs,
                anchors,
                model=loaded.identity,
            )
        if out is not None:
            words = f"{study.people} people of {photos.name}, groups by {by}. {terms}".strip()
            fitted = msgspec.structs.replace(fitted, provenance=words)
            out.write_bytes(msgspec.json.encode(fitted) + b"\n")
    emit("map", study, output, files={"Map": out})


@app.command()
@with_options
def repeats(
    models: ModelOptions,
    run: RunOptions,
    output: OutputOptions,
    out: Annotated[Path, typer.Option("--out", help="Write the pairs to judge to this CSV.")],
    strangers: Strangers = None,
    level: Annotated[float, typer.Option(help="Least cosine of a pair.", min=0, max=1)] = 0.5,
    images: Images = "",
) -> None:
    """Find the closest pairs of strangers, for people to judge whether they are one person.

    Look at the faces in the report of [bold]--html[/], write 1 or 0 into the column same, and give the CSV to
    [bold]abeyance calibrate --repeats[/]. Two people who judge without seeing each other's answers find their errors.
    """
    from abeyance.evaluation.cleaning import closest_pairs
    from abeyance.evaluation.render import data_url
    from abeyance.evaluation.report import FacePair

    with exit_on_error():
        loaded = models.load(run)
        photos, templates = _with_faces(loaded, _read(strangers, images))
        with console.status("Comparing strangers …"):
            found = closest_pairs(photos, templates.vectors, level)
        with out.open("w", newline="", encoding="utf-8") as file:
            rows = [(pair.image_a, pair.image_b, f"{pair.cosine:.3f}", "") for pair in found.pairs]
            csv.writer(file).writerows([("image_a", "image_b", "cosine", "same"), *rows])
    named = {photo.path.name: photo.path for photo in photos.photos}
    faces = [
        FacePair(
            data_url(loaded.extractor.chip(named[pair.image_a])),
            data_url(loaded.extractor.chip(named[pair.image_b])),
            f"{pair.image_a} and {pair.image_b}: cosine {pair.cosine:.3f}",
        )
        for pair in (found.pairs if output.html else ())
    ]
    emit("repeats", found, output, files={"Pairs to judge": out}, face_pairs=faces)


def _read(sources: list[Path] | None, images: str) -> PhotoSet:
    from abeyance.evaluation.datasets import join_photos, read_photos

    if not sources:
        fail("give the photos with --strangers", Exit.USAGE)
    return join_photos([read_photos(source, images=images) for source in sources])


def _with_faces(loaded: LoadedModels, photos: PhotoSet) -> tuple[PhotoSet, TemplateSet]:
    """Return the photos with a face, and their templates."""
    import numpy as np

    templates = loaded.with_templates(photos)[1]
    rows = np.flatnonzero(templates.found)
    return photos.rows(rows), templates.rows(rows)


def _judged(photos: PhotoSet, repeats: list[str] | None) -> IntArray | None:
    from abeyance.evaluation.cleaning import judged_people, read_repeats

    return judged_people(photos.paths, read_repeats(repeats)) if repeats else None


def _anchors(values: list[str] | None) -> dict[float, float]:
    from abeyance.evaluation.calibration import ANCHORS

    anchors = {}
    for text, value in assignments(values, "--anchor", "SIMILARITY=FMR, such as 80=0.001"):
        try:
            similarity, rate = float(text), float(value)
        except ValueError:
            fail(f"--anchor takes SIMILARITY=FMR, such as 80=0.001, not {text}={value}", Exit.USAGE)
        if not (0 < similarity < 100 and 0 < rate < 1):
            fail("an anchor has a similarity between 0 and 100 and a rate between 0 and 1", Exit.USAGE)
        anchors[similarity] = rate
    return anchors or dict(ANCHORS)
