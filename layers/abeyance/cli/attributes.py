"""``abeyance attributes``: how often face analysis is wrong and for whom, and where its confidences come from."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from abeyance.cli._evaluation import Cache, DetectorName, Images, Models, Workers, refusing
from abeyance.cli.output import Exit, Json, console, fail, progress, report, table

if TYPE_CHECKING:
    from abeyance.evaluation.attribute_card import Card
    from abeyance.evaluation.attribute_photos import Looked
    from abeyance.vision.models.manifest import ModelEntry, ModelRole

app = typer.Typer(
    name="attributes",
    no_args_is_help=True,
    help="Face analysis: how often it is wrong, for whom, and whether its confidences can be relied on.",
)

Data = Annotated[
    list[Path],
    typer.Option(
        help="CSV of photos with any of the columns gender, age, race, expression, smile, mouth_open, weight. "
        "May be repeated."
    ),
]


@app.command()
def evaluate(
    data: Data,
    card: Annotated[
        Path | None,
        typer.Option(help="Write the accuracy card to this Markdown file, with JSON and diagram beside it."),
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            help="Write what is said of the first table's photos, for: abeyance audit --predictions."
        ),
    ] = None,
    images: Images = "",
    detector: DetectorName = "yunet-2023mar",
    models: Models = "",
    workers: Workers = 0,
    cache: Cache = True,
    as_json: Json = False,
) -> None:
    """Accuracy per attribute and group with intervals, and the calibration of confidences.

    Example: [bold]abeyance attributes evaluate --data faces.csv --card docs/attributes-card.md[/]
    """
    from abeyance.evaluation import attribute_card, attribute_page

    with refusing():
        sets, entries = _look(data, images, detector, models, workers, cache)
        found = attribute_card.card(sets, entries)
        if not found.measured:
            fail("no table has a column gender, age, expression, smile or mouth_open", Exit.USAGE)
        if card:
            _write(card, found, attribute_page.reliability(found))
        if predictions:
            with predictions.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(["image", "gender", "age"])
                writer.writerows(attribute_card.predictions(sets[0], entries))
    report(found, as_json=as_json, show=lambda: _show(found))


@app.command()
def calibrate(
    data: Data,
    images: Images = "",
    detector: DetectorName = "yunet-2023mar",
    models: Models = "",
    workers: Workers = 0,
    cache: Cache = True,
) -> None:
    """Fit the numbers of the model manifest's ``confidence`` and print them as JSON; provenance and floor are yours.

    Gender and age are fitted to half of the photos (chosen by their bytes) and judged on the other half by
    ``evaluate``. Expression and mouth are fitted to every labelled photo.
    """
    from abeyance.evaluation import attribute_fit as fit
    from abeyance.vision.models.manifest import ModelRole

    with refusing():
        sets, entries = _look(data, images, detector, models, workers, cache)
        result: dict[str, object] = {}
        if gender := [one for one in sets if one.labels("gender") is not None]:
            result["gender"] = {"knots": fit.gender(gender)}
        if age := [one for one in sets if one.labels("age") is not None]:
            result["age"] = {"ranges": fit.age(age)}
        for one in sets:
            if one.labels("expression") is not None:
                temperature, biases = fit.expression_of(one, entries[ModelRole.EXPRESSION].classes)
                result["expression"] = {"temperature": temperature, "biases": biases}
            if one.labels("mouth_open") is not None:
                result["mesh"] = {"knots": fit.mouth(one)}
    report(result, as_json=True, show=lambda: None)


def _look(
    data: list[Path], images: str, detector: str, models: str, workers: int, cache: bool
) -> tuple[list[Looked], dict[ModelRole, ModelEntry]]:
    import os

    from abeyance.evaluation.attribute_photos import identity, look
    from abeyance.evaluation.datasets import read_photos
    from abeyance.vision.analysis import ATTRIBUTE_ROLES
    from abeyance.vision.attributes.estimator import load_attributes
    from abeyance.vision.models.manifest import Manifest
    from abeyance.vision.models.store import cache_directory, load_detector

    manifest = Manifest.load()
    attributes = load_attributes(models, manifest=manifest)
    finder = load_detector(detector, models, manifest=manifest)
    named = identity(attributes, manifest[detector].identity)
    entries = attributes.open(ATTRIBUTE_ROLES)
    sets = []
    for path in data:
        photos = read_photos(path, images=images)
        with progress() as bar:
            task = bar.add_task(f"Attributes of {photos.name}", total=len(photos))
            sets.append(
                look(
                    photos,
                    finder,
                    attributes,
                    named,
                    cache=cache_directory() / "evaluation" if cache else None,
                    workers=workers or os.cpu_count() or 1,
                    tick=lambda bar=bar, task=task: bar.advance(task),  # type: ignore[misc]
                )
            )
    return sets, dict(sorted(entries.items()))


def _write(path: Path, found: Card, diagram: str) -> None:
    import msgspec

    from abeyance.evaluation.attribute_page import markdown
    from abeyance.evaluation.plots import standalone

    picture = path.with_suffix(".svg")
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.write_text(standalone(diagram), encoding="utf-8")
    path.with_suffix(".json").write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    path.write_text(markdown(found, picture.name), encoding="utf-8")


def _show(found: Card) -> None:
    from abeyance.evaluation.report import interval

    rows = [
        (
            one.attribute,
            one.data,
            interval(one.overall),
            interval(one.answered),
            one.withheld,
            f"{100 * one.calibration.error:.1f} %" if one.calibration else "",
        )
        for one in found.measured
    ]
    columns = ("attribute", "photos", "right", "right of those given", "withheld", "calibration error")
    console.print(table("Accuracy of face analysis", columns, rows))
