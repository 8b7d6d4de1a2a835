"""``abeyance attributes``: accuracy of face analysis by group, and the fit of its confidences."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from abeyance.cli._evaluation import (
    DetectorOptions,
    Images,
    RunOptions,
    exit_on_error,
    render_terminal,
    ticking,
    with_options,
)
from abeyance.cli.output import Exit, Json, fail, report

if TYPE_CHECKING:
    from abeyance.evaluation.attribute_accuracy import AccuracyCard
    from abeyance.evaluation.attribute_outputs import AttributeOutputs
    from abeyance.evaluation.datasets import PhotoSet
    from abeyance.vision.models.manifest import ModelEntry, ModelRole

app = typer.Typer(
    name="attributes",
    no_args_is_help=True,
    help="Measure face analysis: error rates by group, and the reliability of confidences.",
)

Data = Annotated[
    list[Path],
    typer.Option(
        help="CSV of photos with any of the columns gender, age, race, expression, smile, mouth_open, eyes_open, "
        "weight. May be repeated."
    ),
]


@app.command()
@with_options
def evaluate(
    detector: DetectorOptions,
    run: RunOptions,
    data: Data,
    card: Annotated[
        Path | None,
        typer.Option(help="Write the accuracy card to this Markdown file, with JSON and diagrams beside it."),
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            help="Write the predictions for the first table's photos, for: abeyance audit --predictions."
        ),
    ] = None,
    images: Images = "",
    as_json: Json = False,
) -> None:
    """Measure accuracy per attribute and group with intervals, and the reliability of confidences.

    Example: [bold]abeyance attributes evaluate --data faces.csv --card docs/attributes-card.md[/]
    """
    from abeyance.evaluation import attribute_accuracy
    from abeyance.evaluation.report import build_report

    with exit_on_error():
        sets = _read(data, images)
        if not any(label in photos.attributes for photos in sets for label in attribute_accuracy.LABELS):
            fail("no table has a column gender, age, expression, smile, mouth_open or eyes_open", Exit.USAGE)
        outputs, entries = _run_models(sets, detector, run)
        found = attribute_accuracy.measure_attributes(outputs, entries)
        if card:
            _write(card, found)
        if predictions:
            with predictions.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(["image", "gender", "age"])
                writer.writerows(attribute_accuracy.predictions(outputs[0], entries))
    report(
        found,
        as_json=as_json,
        show=lambda: render_terminal(build_report("attributes", found=found, diagram="")),
    )


@app.command()
@with_options
def calibrate(detector: DetectorOptions, run: RunOptions, data: Data, images: Images = "") -> None:
    """Fit the numbers of the model manifest's ``confidence`` and print them as JSON.

    Add provenance and floor yourself. Gender, age and expression are fitted to half of the photos (chosen by their
    bytes) and measured on the other half by ``evaluate``. Mouth and eyes are fitted to every labelled photo.
    """
    from abeyance.evaluation import attribute_fit as fit
    from abeyance.vision.models.manifest import ModelRole

    with exit_on_error():
        outputs, entries = _run_models(_read(data, images), detector, run)
        result: dict[str, object] = {}
        if gender := [one for one in outputs if one.find_labels("gender") is not None]:
            result["gender"] = {"knots": fit.gender(gender)}
        if age := [one for one in outputs if one.find_labels("age") is not None]:
            result["age"] = {"ranges": fit.age(age)}
        if expression := [one for one in outputs if one.find_labels("expression") is not None]:
            temperature, biases = fit.expression(expression, entries[ModelRole.EXPRESSION].classes)
            result["expression"] = {"temperature": temperature, "biases": biases}
        for one in outputs:
            for column, role in (("mouth_open", "mesh"), ("eyes_open", "iris")):
                if one.find_labels(column) is not None:
                    result[role] = {"knots": fit.opened(one, column)}
    report(result, as_json=True, show=lambda: None)


def _read(data: Sequence[Path], images: str) -> list[PhotoSet]:
    from abeyance.evaluation.datasets import read_photos

    return [read_photos(path, images=images) for path in data]


def _run_models(
    sets: Sequence[PhotoSet], options: DetectorOptions, run: RunOptions
) -> tuple[list[AttributeOutputs], dict[ModelRole, ModelEntry]]:
    import os

    from abeyance.evaluation.attribute_outputs import model_identity, run_attribute_models
    from abeyance.vision.analysis import ATTRIBUTE_ROLES
    from abeyance.vision.attributes.estimator import load_attributes
    from abeyance.vision.models.manifest import Manifest
    from abeyance.vision.models.store import load_detector

    manifest = Manifest.load()
    attributes = load_attributes(options.models, manifest=manifest)
    detector = load_detector(options.detector, options.models, manifest=manifest)
    identity = model_identity(attributes, manifest[options.detector].identity)
    entries = attributes.open(sorted(ATTRIBUTE_ROLES))
    outputs = []
    for photos in sets:
        with ticking(f"Attributes of {photos.name}", len(photos)) as tick:
            outputs.append(
                run_attribute_models(
                    photos,
                    detector,
                    attributes,
                    identity,
                    cache=run.folder,
                    workers=run.workers or os.cpu_count() or 1,
                    tick=tick,
                )
            )
    return outputs, entries


def _write(path: Path, found: AccuracyCard) -> None:
    import msgspec

    from abeyance.evaluation.plots import reliability, right_by_group, standalone
    from abeyance.evaluation.render import render_markdown
    from abeyance.evaluation.report import build_report

    picture = path.with_suffix(".svg")
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.write_text(standalone(reliability(found)), encoding="utf-8")
    groups = path.with_name(f"{path.stem}-groups.svg")
    groups.write_text(standalone(right_by_group(found)), encoding="utf-8")
    path.with_suffix(".json").write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    page = build_report("attributes", found=found, diagram=picture.name)
    path.write_text(render_markdown(page), encoding="utf-8")
