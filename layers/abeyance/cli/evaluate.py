"""``abeyance evaluate``: accuracy of the models on one's own photos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from abeyance.cli._evaluation import (
    Images,
    ModelOptions,
    OutputOptions,
    Repeats,
    RunOptions,
    SameShot,
    emit,
    exit_on_error,
    ticking,
    with_options,
)
from abeyance.cli.output import Exit, fail

app = typer.Typer(
    name="evaluate",
    no_args_is_help=True,
    help="Measure the models on your own photos: verification, identification, detection, throughput.",
)

_SIMILARITIES = (80.0, 90.0, 95.0, 99.0)


@app.command()
@with_options
def verification(
    models: ModelOptions,
    run: RunOptions,
    output: OutputOptions,
    pairs: Annotated[
        Path | None,
        typer.Option(
            help="Published pairs: a CSV with image_a, image_b, same (and fold), or LFW's pairs.txt."
        ),
    ] = None,
    photos: Annotated[
        Path | None,
        typer.Option(
            help="A folder with a folder per person, or a CSV with a person and photos in each row."
        ),
    ] = None,
    strangers: Annotated[
        Path | None, typer.Option(help="With --photos: other people, to count false matches with.")
    ] = None,
    images: Images = "",
    folds: Annotated[int, typer.Option(help="Folds for the accuracy over pairs.", min=2)] = 10,
    least_accuracy: Annotated[
        float, typer.Option(help="Exit with status 1 if the accuracy is lower, 0 to 1.", min=0, max=1)
    ] = 0.0,
    same_shot: SameShot = 0.95,
) -> None:
    """Compare pairs of photos: accuracy, DET, and FNMR at fixed FMRs, with intervals over people.

    Examples: [bold]--pairs lfw/pairs.csv[/], or [bold]--photos members.csv --strangers faces.csv[/].
    """
    from abeyance.evaluation.datasets import read_pairs, read_photos
    from abeyance.evaluation.study import verify_pairs, verify_photos

    if (pairs is None) == (photos is None):
        fail("give either --pairs or --photos", Exit.USAGE)
    with exit_on_error():
        loaded = models.load(run)
        similarities = loaded.thresholds(_SIMILARITIES)
        if pairs is not None:
            found = verify_pairs(
                read_pairs(pairs, images=images),
                lambda paths: loaded.templates(paths, pairs.name),
                name=pairs.name,
                model=loaded.identity,
                similarities=similarities,
                folds=folds,
            )
        else:
            assert photos is not None
            found = verify_photos(
                *loaded.with_templates(read_photos(photos, images=images)),
                model=loaded.identity,
                similarities=similarities,
                strangers=loaded.read(strangers, images),
                same_shot=same_shot,
            )
    emit("verification", found, output)
    if found.accuracy and found.accuracy.mean < least_accuracy:
        fail(f"the accuracy is below {least_accuracy:g}", Exit.NO)


@app.command()
@with_options
def identification(
    models: ModelOptions,
    run: RunOptions,
    output: OutputOptions,
    photos: Annotated[
        Path, typer.Option(help="A folder per person, or a CSV. The first photo of each person is enrolled.")
    ],
    distractors: Annotated[
        Path | None, typer.Option(help="Strangers to enrol as well, which makes it harder.")
    ] = None,
    unknown: Annotated[
        Path | None,
        typer.Option(help="Strangers to search for, none enrolled. Otherwise people with one photo."),
    ] = None,
    repeats: Repeats = None,
    images: Images = "",
    same_shot: SameShot = 0.95,
) -> None:
    """Search photos in a gallery: rank 1, and FNIR at fixed FPIRs."""
    from abeyance.evaluation.cleaning import read_repeats, strangers_only
    from abeyance.evaluation.datasets import read_photos
    from abeyance.evaluation.study import identify_photos

    with exit_on_error():
        loaded = models.load(run)
        people = read_photos(photos, images=images)
        others = [read_photos(source, images=images) if source else None for source in (distractors, unknown)]
        if repeats:
            pairs, known = read_repeats(repeats), [people]
            for number, strangers in enumerate(others):
                if strangers is not None:
                    others[number] = one_each = strangers_only(strangers, known, pairs)
                    known.append(one_each)
        found = identify_photos(
            *loaded.with_templates(people),
            model=loaded.identity,
            similarities=loaded.thresholds(_SIMILARITIES),
            distractors=loaded.with_templates(others[0]) if others[0] else None,
            unknown=loaded.with_templates(others[1]) if others[1] else None,
            same_shot=same_shot,
        )
    emit("identification", found, output)


@app.command()
@with_options
def detection(
    models: ModelOptions,
    output: OutputOptions,
    boxes: Annotated[
        Path, typer.Option(help="CSV with image, x, y, width, height of every marked face, in pixels.")
    ],
    images: Images = "",
    min_size: Annotated[float, typer.Option(help="Least height of a face in pixels.", min=1)] = 40.0,
    overlap: Annotated[float, typer.Option(help="Least intersection over union.", min=0.05, max=1)] = 0.5,
) -> None:
    """Detect faces in labelled images: recall by size, and false positives."""
    from abeyance.evaluation.datasets import read_boxes
    from abeyance.evaluation.detection import detect_images

    with exit_on_error():
        loaded = models.load(RunOptions(cache=False))
        labelled = read_boxes(boxes, images=images)
        with ticking("Detecting faces", len(labelled)) as tick:
            found = detect_images(
                labelled,
                loaded.extractor,
                name=boxes.name,
                model=loaded.identity,
                min_size=min_size,
                overlap=overlap,
                tick=tick,
            )
    emit("detection", found, output)


@app.command()
@with_options
def throughput(
    models: ModelOptions,
    output: OutputOptions,
    photos: Annotated[Path, typer.Option(help="A folder or a CSV of photos.")],
    images: Images = "",
    count: Annotated[int, typer.Option(help="Photos to time, at most.", min=1)] = 100,
    workers: Annotated[int, typer.Option(help="Threads; 0 takes one for every core.", min=0, max=64)] = 0,
) -> None:
    """Time each step of a photo, without the cache."""
    from abeyance.evaluation.datasets import read_photos
    from abeyance.evaluation.throughput import measure_throughput

    with exit_on_error():
        loaded = models.load(RunOptions(workers=workers, cache=False))
        paths = read_photos(photos, images=images).paths[:count]
        with ticking("Timing", len(paths)) as tick:
            found = measure_throughput(paths, loaded.extractor, model=loaded.identity, tick=tick)
    emit("throughput", found, output)
