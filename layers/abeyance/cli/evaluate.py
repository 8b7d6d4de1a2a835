"""``abeyance evaluate``: how good are these models, on these photos?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
from abeyance.cli.output import Exit, Json, console, fail, progress, table

app = typer.Typer(
    name="evaluate",
    no_args_is_help=True,
    help="Measure the models on your own photos: verification, identification, detection, throughput.",
)

_SIMILARITIES = (80.0, 90.0, 95.0, 99.0)


@app.command()
def verification(
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
        Path | None,
        typer.Option(
            help="With --photos: people who are known to be others. False matches are counted with them."
        ),
    ] = None,
    images: Images = "",
    folds: Annotated[int, typer.Option(help="Folds for the accuracy over pairs.", min=2)] = 10,
    least_accuracy: Annotated[
        float, typer.Option(help="End with 1 if the accuracy is lower, 0 to 1.", min=0, max=1)
    ] = 0.0,
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
    """Are these two photos of one person? Accuracy, DET, and FNMR at fixed FMRs, with intervals over people.

    Examples: [bold]--pairs lfw/pairs.csv[/], or [bold]--photos members.csv --strangers faces.csv[/].
    """
    from abeyance.evaluation import pages
    from abeyance.evaluation.datasets import read_pairs, read_photos
    from abeyance.evaluation.report import interval, percent, small
    from abeyance.evaluation.study import verify_pairs, verify_photos

    if (pairs is None) == (photos is None):
        fail("give either --pairs or --photos", Exit.USAGE)
    with refusing():
        bench = Bench(model, detector, models, confidence=confidence, cache=cache, workers=workers)
        if pairs is not None:
            known = read_pairs(pairs, images=images)
            found = verify_pairs(
                known,
                lambda paths: bench.templates(paths, pairs.name),
                name=pairs.name,
                model=bench.model,
                similarities=bench.cosines(_SIMILARITIES),
                folds=folds,
            )
        else:
            assert photos is not None
            people = read_photos(photos, images=images)
            others = read_photos(strangers) if strangers else None
            found = verify_photos(
                people,
                bench.of(people),
                model=bench.model,
                similarities=bench.cosines(_SIMILARITIES),
                strangers=others,
                stranger_templates=bench.of(others) if others else None,
                same_shot=same_shot,
            )

    def show() -> None:
        if found.accuracy:
            a = found.accuracy
            say(
                f"Accuracy {percent(a.mean)} ± {percent(a.standard_deviation)} over {a.pairs} pairs, {len(a.folds)} "
                f"folds (95 %: {percent(a.low)} to {percent(a.high)})"
            )
        rows = [
            (
                small(p.fmr),
                f"{p.threshold:.4f}",
                interval(p.fnmr),
                f"{p.fnmr.count}/{p.fnmr.trials}",
                f"{p.false_matches}{' (few)' if p.uncertain else ''}",
            )
            for p in found.operating
        ]
        console.print(table("FNMR at FMR", ("FMR", "cosine", "FNMR (95 %)", "missed", "false matches"), rows))
        scale = [
            (f"{f.similarity:g}", f"{f.cosine:.4f}", interval(f.fmr), interval(f.fnmr)) for f in found.fixed
        ]
        console.print(
            table("At the model's scale", ("similarity", "cosine", "FMR (95 %)", "FNMR (95 %)"), scale)
        )
        for u in found.unmeasurable:
            say(
                f"FMR {small(u.fmr)} cannot be measured: {u.pairs:,} pairs of strangers, {u.pairs_needed:,} needed."
            )
        say(
            f"{found.mated_pairs:,} mated pairs ({found.same_shot_pairs_left_out} left out as one shot), "
            f"{found.non_mated_pairs:,} of strangers; no face in {found.failures_to_detect} of {found.photos} photos."
        )

    answer(
        "verification", found, as_json=as_json, html=html, page=lambda: pages.verification(found), show=show
    )
    if found.accuracy and found.accuracy.mean < least_accuracy:
        fail(f"the accuracy is below {least_accuracy:g}", Exit.NO)


@app.command()
def identification(
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
    """Whose photo is this? Rank-1, and FNIR at fixed FPIRs."""
    from abeyance.evaluation import pages
    from abeyance.evaluation.datasets import read_photos
    from abeyance.evaluation.report import interval, small
    from abeyance.evaluation.study import identify_photos

    with refusing():
        bench = Bench(model, detector, models, confidence=confidence, cache=cache, workers=workers)
        people = read_photos(photos, images=images)
        more, others = (read_photos(source) if source else None for source in (distractors, unknown))
        found = identify_photos(
            people,
            bench.of(people),
            model=bench.model,
            similarities=bench.cosines(_SIMILARITIES),
            distractors=(more, bench.of(more)) if more else None,
            unknown=(others, bench.of(others)) if others else None,
            same_shot=same_shot,
        )
    result = found.result

    def show() -> None:
        console.print(
            table(
                "Without a threshold",
                ("rank", "found (95 %)"),
                [(r.rank, interval(r.rate)) for r in result.ranks],
            )
        )
        rows = [(small(o.fpir), f"{o.threshold:.4f}", interval(o.fnir)) for o in result.open_set]
        console.print(table("FNIR at FPIR", ("FPIR", "cosine", "FNIR (95 %)"), rows))
        scale = [
            (f"{s:g}", f"{a.threshold:.4f}", interval(a.fnir), interval(a.fpir))
            for s, a in zip(found.similarities, result.fixed, strict=True)
        ]
        console.print(
            table("At the model's scale", ("similarity", "cosine", "FNIR (95 %)", "FPIR (95 %)"), scale)
        )
        for rate in result.unmeasurable:
            say(f"FPIR {small(rate)} cannot be measured with {result.unknown_probes} unknown probes.")
        say(
            f"{result.mated_probes:,} probes with a mate, {result.unknown_probes:,} without, "
            f"{result.gallery_people:,} people enrolled."
        )

    answer(
        "identification",
        found,
        as_json=as_json,
        html=html,
        page=lambda: pages.identification(found),
        show=show,
    )


@app.command()
def detection(
    boxes: Annotated[
        Path, typer.Option(help="CSV with image, x, y, width, height of every marked face, in pixels.")
    ],
    images: Images = "",
    min_size: Annotated[float, typer.Option(help="Least height of a face in pixels.", min=1)] = 40.0,
    overlap: Annotated[float, typer.Option(help="Least intersection over union.", min=0.05, max=1)] = 0.5,
    model: Model = "sface-2021dec",
    detector: DetectorName = "yunet-2023mar",
    models: Models = "",
    confidence: Confidence = 0.7,
    html: Html = None,
    as_json: Json = False,
) -> None:
    """Which faces are found? Recall by size, and false positives."""
    from abeyance.evaluation import pages
    from abeyance.evaluation.datasets import read_boxes
    from abeyance.evaluation.report import interval
    from abeyance.evaluation.study import detect_images

    with refusing(), progress() as bar:
        bench = Bench(model, detector, models, confidence=confidence, cache=False)
        labelled = read_boxes(boxes, images=images)
        task = bar.add_task("Looking for faces", total=len(labelled))
        found = detect_images(
            labelled,
            bench.extractor,
            name=boxes.name,
            model=bench.model,
            min_size=min_size,
            overlap=overlap,
            tick=lambda: bar.advance(task),
        )
    result = found.result

    def show() -> None:
        rows = [
            (
                f"{s.at_least:g}+" if s.below is None else f"{s.at_least:g}-{s.below:g}",
                interval(s.recall),
                f"{s.recall.count}/{s.recall.trials}",
            )
            for s in result.sizes
        ]
        console.print(table("Recall by height", ("px", "recall (95 %)", "found"), rows))
        say(
            f"{min_size:g} px and more: recall {interval(result.recall)}, precision {interval(result.precision)}, "
            f"{result.false_positives} false positives in {result.images} images; "
            f"{found.milliseconds_per_image:.0f} ms an image."
        )

    answer("detection", found, as_json=as_json, html=html, page=lambda: pages.detection(found), show=show)


@app.command()
def throughput(
    photos: Annotated[Path, typer.Option(help="A folder or a CSV of photos.")],
    images: Images = "",
    count: Annotated[int, typer.Option(help="Photos to time, at most.", min=1)] = 100,
    model: Model = "sface-2021dec",
    detector: DetectorName = "yunet-2023mar",
    models: Models = "",
    confidence: Confidence = 0.7,
    workers: Workers = 0,
    as_json: Json = False,
) -> None:
    """How long does a photo take, and where does the time go? Nothing is read from the cache."""
    import os

    from abeyance.evaluation.datasets import read_photos
    from abeyance.evaluation.study import measure_throughput

    with refusing(), progress() as bar:
        bench = Bench(model, detector, models, confidence=confidence, cache=False, workers=workers)
        paths = read_photos(photos, images=images).paths[:count]
        task = bar.add_task("Timing", total=len(paths))
        found = measure_throughput(
            paths,
            bench.extractor,
            model=bench.model,
            workers=workers or os.cpu_count() or 1,
            tick=lambda: bar.advance(task),
        )

    def show() -> None:
        rows = [(name, f"{getattr(found, name):.2f}") for name in ("decode", "detect", "align", "embed")]
        console.print(table("Median of one photo on one thread", ("step", "ms"), rows))
        say(f"{found.photos_per_second:.1f} photos a second on {found.workers} threads.")

    answer("throughput", found, as_json=as_json, show=show)
