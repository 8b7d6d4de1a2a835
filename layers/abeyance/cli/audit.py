"""``abeyance audit``: who does it get wrong, and the test of 2018 and 2019."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
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
    from abeyance.evaluation.audit import Audit
    from abeyance.evaluation.datasets import PhotoSet
    from abeyance.evaluation.legislators import Legislators
    from abeyance.evaluation.report import Picture
    from abeyance.moratorium.document import FlagSet

app = typer.Typer(
    name="audit",
    no_args_is_help=True,
    help="Who does it get wrong: error rates by group, and the test that the ACLU made of Rekognition.",
)


@app.command()
def demographics(
    strangers: Annotated[
        Path, typer.Option(help="A CSV of photos with attributes such as race, gender and age.")
    ],
    mated: Annotated[
        Path | None,
        typer.Option(help="People with several photos each and the same attributes, for misses by group."),
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(help="Attributes that make the groups, joined by commas. May be repeated."),
    ] = None,
    similarity: Annotated[
        list[float] | None, typer.Option(help="Threshold to audit at. May be repeated; else 80 and 99.")
    ] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option(
            help="PUBLISHED=NAME for a group that two tables call by different names. May be repeated."
        ),
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(help="CSV with image and what a model said of each attribute, such as gender and age."),
    ] = None,
    same_person: Annotated[
        float,
        typer.Option(help="Photos with this cosine or more show one person; 0 leaves nothing out.", min=0),
    ] = 0.65,
    least_errors: Annotated[
        int, typer.Option(help="A group with fewer errors gets no verdict; 30 is the stricter custom.", min=2)
    ] = 10,
    max_ratio: Annotated[
        float,
        typer.Option(
            help="End with 1 if the worst judged group's FMR is more than so many times the best's."
        ),
    ] = 0.0,
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
    """Error rates by group: false matches, misses, faces not found; and whether the data can tell them apart.

    Example: [bold]abeyance audit demographics --strangers faces.csv --mated members.csv --html audit.html[/]
    """
    from abeyance.evaluation import pages_audit
    from abeyance.evaluation.audit import audit
    from abeyance.evaluation.datasets import read_photos

    with refusing():
        bench = Bench(model, detector, models, confidence=confidence, cache=cache, workers=workers)
        photos = _renamed(read_photos(strangers, images=images), rename or [])
        people = _renamed(read_photos(mated), rename or []) if mated else None
        said = _predictions(predictions, photos) if predictions else None
        templates, others = bench.of(photos), bench.of(people) if people else None
        with console.status("Comparing strangers …"):
            found = audit(
                photos,
                templates,
                bench.cosines(similarity or [80.0, 99.0]),
                model=bench.model,
                mated=people,
                mated_templates=others,
                groupings=[tuple(text.split(",")) for text in by or []],
                same_person=same_person or None,
                same_shot=same_shot,
                least_errors=least_errors,
                predictions=said,
            )
    answer(
        "audit",
        found,
        as_json=as_json,
        html=html,
        page=lambda: pages_audit.audit(found),
        show=lambda: _show_audit(found),
    )
    ratios = [d.max_over_min or 0.0 for at in found.thresholds for d in at.false_matches]
    if max_ratio and max(ratios, default=0.0) > max_ratio:
        fail(f"a group's false-match rate is more than {max_ratio:g} times another's", Exit.NO)


def _show_audit(found: Audit) -> None:
    from abeyance.evaluation.report import interval

    for at in found.thresholds:
        for one in (*at.false_matches, *at.false_non_matches):
            rows = sorted(one.groups, key=lambda row: -row.rate.value)[:20]
            console.print(
                table(
                    f"{one.measure.upper()} by {' x '.join(one.attributes)} at similarity {at.similarity:g}",
                    ("group", "rate (95 %)", "errors", "trials", "to best", "needs more people"),
                    [
                        (
                            r.group,
                            interval(r.rate),
                            r.rate.count,
                            f"{r.rate.trials:,}",
                            "-" if r.ratio_to_best is None else f"{r.ratio_to_best:.2f}",
                            "" if r.judged else f"{r.more_people_needed:,}",
                        )
                        for r in rows
                    ],
                )
            )
            say(one.says)
    for one in found.failure_to_detect:
        say(f"Failure to detect by {' x '.join(one.attributes)}: {one.says}")


@app.command()
def legislators(
    probes: Annotated[
        Path, typer.Option(help="Public officials: a CSV with a person and a photo in each row.")
    ],
    gallery: Annotated[Path, typer.Option(help="Strangers, none of them an official: a CSV or a folder.")],
    column: Annotated[
        str,
        typer.Option(
            help="Which column of photos to search with, where there are several. Otherwise the first."
        ),
    ] = "",
    flags: Annotated[
        Path | None,
        typer.Option(
            help="Flags document; otherwise the flags in force, otherwise those of a new deployment."
        ),
    ] = None,
    similarity: Annotated[
        list[float] | None, typer.Option(help="A threshold to report beside 80 and 99. May be repeated.")
    ] = None,
    pictures: Annotated[
        bool,
        typer.Option("--pictures", help="Put the faces of every false match in the report, side by side."),
    ] = False,
    images: Images = "",
    model: Model = "sface-2021dec",
    detector: DetectorName = "yunet-2023mar",
    models: Models = "",
    confidence: Confidence = 0.7,
    workers: Workers = 0,
    cache: Cache = True,
    html: Html = None,
    as_json: Json = False,
) -> None:
    """Search public officials among strangers: how many are taken for somebody else, at 80, at 99, and who?

    The published tests (28 of 535 members of Congress in 2018, 26 of 120 legislators of California in 2019)
    stand beside the result.
    """
    from abeyance.evaluation import pages_audit
    from abeyance.evaluation.datasets import read_photos
    from abeyance.evaluation.officials import search_legislators

    with refusing():
        bench = Bench(model, detector, models, confidence=confidence, cache=cache, workers=workers)
        officials = read_photos(probes, images=images)
        if officials.photos[0].column:
            officials = officials.of_column(column or officials.photos[0].column)
        strangers = read_photos(gallery)
        found = search_legislators(
            officials,
            bench.of(officials),
            strangers,
            bench.of(strangers),
            model=bench.model,
            knots=bench.entry.calibration.knots if bench.entry.calibration else (),
            flags=_flags(flags),
            now=datetime.now(UTC),
            also=similarity or [],
        )
    answer(
        "legislators",
        found,
        as_json=as_json,
        html=html,
        page=lambda: pages_audit.legislators(
            found, _pictures(found, officials, strangers, bench) if pictures else ()
        ),
        show=lambda: _show_legislators(found),
    )


def _show_legislators(found: Legislators) -> None:
    from abeyance.evaluation.report import interval, percent

    rows = [
        (
            f"here, {at.name}",
            f"{at.falsely_matched} of {found.probes}",
            interval(at.rate),
            f"{found.gallery:,}",
            f"{at.shown}",
        )
        for at in found.thresholds
    ]
    rows += [
        (
            f"{p.year}, {p.by}, {p.similarity:g}",
            f"{p.falsely_matched} of {p.probes}",
            percent(p.falsely_matched / p.probes),
            f"{p.gallery:,}",
            "-",
        )
        for p in found.published
    ]
    console.print(
        table(
            "Officials falsely matched",
            ("test", "falsely matched", "rate", "gallery", "faces to look at"),
            rows,
        )
    )
    for at in found.thresholds:
        for attribute, shares in at.groups.items():
            if at.falsely_matched:
                parts = ", ".join(f"{s.group} {s.falsely_matched}/{s.probes}" for s in shares)
                say(f"At {at.name}, by {attribute}: {parts}.")
    curve = {similarity: count for similarity, _, count in found.curve}
    shown = ", ".join(f"{curve[s]} at {s:g}" for s in (50.0, 60.0, 70.0, 80.0, 90.0))
    say(f"By similarity: {shown}. Nobody above {found.clear_from:.1f}.")
    say(f"A police search now: {found.moratorium.reason}")


def _pictures(
    found: Legislators, officials: PhotoSet, strangers: PhotoSet, bench: Bench, most: int = 200
) -> list[Picture]:
    from abeyance.evaluation.report import Picture, picture

    return [
        Picture(
            picture(bench.extractor.chip(officials.photos[match.probe].path)),
            picture(bench.extractor.chip(strangers.photos[match.candidate].path)),
            f"similarity {match.similarity:.1f}, cosine {match.cosine:.3f}",
        )
        for match in found.false_matches[:most]
    ]


def _flags(document: Path | None) -> FlagSet:
    from abeyance.deployment.build import build_flag_source
    from abeyance.deployment.settings import DeploymentSettings
    from abeyance.moratorium.document import parse
    from abeyance.moratorium.errors import FlagsError
    from abeyance.moratorium.presets import new_deployment

    settings = DeploymentSettings.from_environment()
    if document:
        settings = settings.replace(flags=f"file:{document}")
    elif settings.flags.startswith("file:") and not Path(settings.flags.removeprefix("file:")).exists():
        return parse(new_deployment(), version="a new deployment")
    try:
        return build_flag_source(settings.decisions).current().flags
    except FlagsError as error:
        fail(str(error))


def _renamed(photos: PhotoSet, pairs: list[str]) -> PhotoSet:
    """Groups by other names, so that two sources can be compared."""
    from abeyance.evaluation.datasets import Photo
    from abeyance.evaluation.datasets import PhotoSet as Renamed

    names = {}
    for text in pairs:
        old, _, new = text.partition("=")
        if not new:
            fail(f"--rename takes PUBLISHED=NAME, not {text}", Exit.USAGE)
        names[old.casefold()] = new
    if not names:
        return photos
    return Renamed(
        photos.name,
        tuple(
            Photo(
                p.path, p.person, {k: names.get(v.casefold(), v) for k, v in p.attributes.items()}, p.column
            )
            for p in photos.photos
        ),
        photos.persons_given,
    )


def _predictions(path: Path, photos: PhotoSet) -> dict[str, Sequence[str]]:
    """What a model said of each attribute that the photos have too, in their order."""
    from abeyance.evaluation.datasets import read_photos

    said = {photo.path.resolve(): photo.attributes for photo in read_photos(path).photos}
    shared = [name for name in photos.attributes if all(name in answers for answers in said.values())]
    if not shared:
        fail("the predictions share no attribute with the photos", Exit.USAGE)
    return {
        name: [said.get(photo.path.resolve(), {}).get(name, "") for photo in photos.photos] for name in shared
    }
