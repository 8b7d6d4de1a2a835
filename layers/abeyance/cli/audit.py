"""``abeyance audit``: error rates by group, and the ACLU's test of 2018 and 2019."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from abeyance.cli import _context as context
from abeyance.cli._evaluation import (
    Images,
    LoadedModels,
    ModelOptions,
    OutputOptions,
    Repeats,
    RunOptions,
    SamePerson,
    SameShot,
    assignments,
    emit,
    exit_on_error,
    with_options,
)
from abeyance.cli.output import Exit, Json, console, existing_file, fail, report

if TYPE_CHECKING:
    from abeyance.evaluation.audit import Audit
    from abeyance.evaluation.datasets import PhotoSet
    from abeyance.evaluation.legislators import LegislatorsTest
    from abeyance.evaluation.report import FacePair
    from abeyance.moratorium.document import FlagSet

app = typer.Typer(
    name="audit",
    no_args_is_help=True,
    help="Measure error rates by group, and repeat the ACLU's test of Rekognition.",
)
#: Pairs of faces in a report.
_MAX_PICTURES = 200


@app.command()
@with_options
def demographics(
    models: ModelOptions,
    run: RunOptions,
    output: OutputOptions,
    strangers: Annotated[
        Path, typer.Option(help="A CSV of photos with attributes such as race, gender and age.")
    ],
    mated: Annotated[
        Path | None,
        typer.Option(help="People with several photos each and the same attributes, for FNMR by group."),
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(help="Attributes that make the groups, joined by commas. May be repeated."),
    ] = None,
    similarity: Annotated[
        list[float] | None,
        typer.Option(
            help="Threshold to audit at, 0 to 100. May be repeated; else 80 and 99.", min=0, max=100
        ),
    ] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option(
            help="PUBLISHED=NAME for a group that two tables call by different names. May be repeated."
        ),
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(help="CSV with image and a model's predictions of attributes, such as gender and age."),
    ] = None,
    repeats: Repeats = None,
    same_person: SamePerson = 0.0,
    least_errors: Annotated[
        int,
        typer.Option(help="Give no verdict on a group with fewer errors; 30 is the stricter custom.", min=2),
    ] = 10,
    max_ratio: Annotated[
        float,
        typer.Option(
            help="Exit with status 1 if the worst judged group's FMR exceeds N times the best group's.",
            metavar="N",
        ),
    ] = 0.0,
    sign: Annotated[
        Path | None,
        existing_file(
            "--sign", help="Sign a statement of the result with this key, from: abeyance audit keygen"
        ),
    ] = None,
    statement: Annotated[
        Path | None, typer.Option("--statement", help="With --sign: write the signed statement to this file.")
    ] = None,
    images: Images = "",
    same_shot: SameShot = 0.95,
) -> None:
    """Measure error rates by group: false matches, false non-matches, faces not found, each with a verdict.

    Example: [bold]abeyance audit demographics --strangers faces.csv --mated members.csv --html audit.html[/]
    """
    from abeyance.evaluation.audit import audit
    from abeyance.evaluation.cleaning import judged_people, read_repeats
    from abeyance.evaluation.datasets import read_photos

    if (sign is None) != (statement is None):
        fail("--sign and --statement belong together", Exit.USAGE)
    names = dict(assignments(rename, "--rename", "PUBLISHED=NAME"))
    with exit_on_error():
        loaded = models.load(run)
        photos = read_photos(strangers, images=images).renamed(names)
        people = read_photos(mated, images=images).renamed(names) if mated else None
        predicted = _predictions(predictions, photos, images) if predictions else None
        templates = loaded.with_templates(photos)
        others = loaded.with_templates(people) if people else None
        judged = judged_people(photos.paths, read_repeats(repeats)) if repeats else None
        with console.status("Comparing strangers …"):
            found = audit(
                *templates,
                loaded.thresholds(similarity or [80.0, 99.0]),
                model=loaded.identity,
                mated=others,
                groupings=[tuple(text.split(",")) for text in by or []],
                judged=judged,
                same_person=same_person or None,
                same_shot=same_shot,
                min_errors=least_errors,
                predictions=predicted,
            )
    emit("audit", found, output)
    if sign is not None and statement is not None:
        lines = _sign(found, sign, statement)
        if not output.as_json:
            console.print("\n".join((*lines, f"Signed: {statement}")), markup=False, highlight=False)
    ratios = [one.max_over_min or 0.0 for at in found.thresholds for one in at.false_matches]
    if max_ratio and max(ratios, default=0.0) > max_ratio:
        fail(f"a group's false-match rate is more than {max_ratio:g} times another's", Exit.NO)


@app.command()
@with_options
def legislators(
    models: ModelOptions,
    run: RunOptions,
    output: OutputOptions,
    probes: Annotated[
        Path, typer.Option(help="Public officials: a CSV with a person and a photo in each row.")
    ],
    gallery: Annotated[Path, typer.Option(help="Strangers, none of them an official: a CSV or a folder.")],
    column: Annotated[
        str, typer.Option(help="Column of photos to search with, if there are several. Otherwise the first.")
    ] = "",
    flags: Annotated[
        Path | None,
        typer.Option(
            help="Flags document; otherwise the flags in force, otherwise those of a new deployment."
        ),
    ] = None,
    similarity: Annotated[
        list[float] | None,
        typer.Option(help="Threshold to report beside 80 and 99, 0 to 100. May be repeated.", min=0, max=100),
    ] = None,
    pictures: Annotated[
        bool,
        typer.Option("--pictures", help="Put the faces of every false match in the report, side by side."),
    ] = False,
    repeats: Repeats = None,
    images: Images = "",
) -> None:
    """Search public officials among strangers, and count the false matches at 80 and at 99.

    The published tests (28 of 535 members of Congress in 2018, 26 of 120 legislators of California in 2019) are shown
    beside the result.
    """
    from abeyance.evaluation.cleaning import read_repeats, strangers_only
    from abeyance.evaluation.datasets import read_photos
    from abeyance.evaluation.legislators import MAX_SHOWN, search_legislators

    with exit_on_error():
        loaded = models.load(run)
        officials = read_photos(probes, images=images)
        if officials.photos[0].column:
            officials = officials.of_column(column or officials.photos[0].column)
        photos = read_photos(gallery, images=images)
        strangers = strangers_only(photos, [officials], read_repeats(repeats)) if repeats else photos
        calibration = loaded.entry.calibration
        found = search_legislators(
            *loaded.with_templates(officials),
            *loaded.with_templates(strangers),
            model=loaded.identity,
            knots=calibration.knots if calibration else (),
            flags=_flags(flags),
            now=datetime.now(UTC),
            similarities=similarity or [],
            left_out=len(photos) - len(strangers),
        )
    faces = _face_pairs(found, officials, strangers, loaded) if pictures and output.html else []
    emit("legislators", found, output, face_pairs=faces, max_shown=MAX_SHOWN)


@app.command()
def keygen(
    name: Annotated[str, typer.Option(help="Name of the key, such as example.org/audits.")],
    out: Annotated[Path, typer.Option(help="File for the private key; must not exist.")] = Path("audit.key"),
    as_json: Json = False,
) -> None:
    """Make a key that signs audits, and print the public key for a flag's audit_signers."""
    from abeyance.cli._ledger import make_key
    from abeyance.ledger.signatures import SIGN

    make_key(name, out, SIGN, as_json)


@app.command()
def register(
    statement: Annotated[Path, typer.Argument(help="A signed statement.", exists=True, dir_okay=False)],
    note: Annotated[str, typer.Option("--note", help="State the reason; it is kept on the ledger.")] = "",
    as_json: Json = False,
) -> None:
    """Bring an audit into force; propose it to another person if it lifts a halt."""
    from abeyance.cli.moratoria import show_submitted
    from abeyance.moratorium.subjects import AuditChange

    change = AuditChange(statement.read_text(encoding="utf-8"))
    show_submitted(context.changes().submit(change, note=note), as_json)


@app.command()
def status(as_json: Json = False) -> None:
    """Show the latest registered audit of each model."""
    found = context.changes().state()["audits"]
    report(found, as_json=as_json, show=lambda: console.print_json(data=found))


def _sign(found: Audit, key_file: Path, out: Path) -> list[str]:
    """Write the signed statement of an audit, and return it in words."""
    import rfc8785
    from msgspec import structs, to_builtins

    from abeyance.evaluation.statement import in_words, statement_of
    from abeyance.ledger.note import NoteError, SignedNote
    from abeyance.ledger.signatures import parse_signer

    try:
        key = parse_signer(key_file.read_text())
    except NoteError as error:
        fail(str(error), Exit.USAGE)
    stated = statement_of(found, datetime.now(UTC))
    note = SignedNote(rfc8785.dumps(to_builtins(stated)).decode() + "\n")
    out.write_text(str(structs.replace(note, signatures=(key.sign(note),))), encoding="utf-8")
    return in_words(stated)


def _face_pairs(
    found: LegislatorsTest, officials: PhotoSet, strangers: PhotoSet, loaded: LoadedModels
) -> list[FacePair]:
    from abeyance.evaluation.render import data_url
    from abeyance.evaluation.report import FacePair

    return [
        FacePair(
            data_url(loaded.extractor.chip(officials.photos[match.probe].path)),
            data_url(loaded.extractor.chip(strangers.photos[match.candidate].path)),
            f"{match.probe_image} and {match.candidate_image}: similarity {match.similarity:.1f}",
        )
        for match in found.false_matches[:_MAX_PICTURES]
    ]


def _flags(document: Path | None) -> FlagSet:
    from abeyance.moratorium.document import parse
    from abeyance.moratorium.presets import new_deployment

    kind, _, path = context.settings().flags.partition(":")
    if document is None and kind == "file" and not Path(path).exists():
        return parse(new_deployment(), version="a new deployment")
    return context.flags(document)


def _predictions(path: Path, photos: PhotoSet, images: str) -> dict[str, Sequence[str]]:
    """Return the predictions of each attribute that the photos have too, in their order; "" where there is none."""
    from abeyance.evaluation.datasets import read_photos

    predicted = {photo.path.resolve(): photo.attributes for photo in read_photos(path, images=images).photos}
    shared = [name for name in photos.attributes if all(name in values for values in predicted.values())]
    if not shared:
        fail("the predictions share no attribute with the photos", Exit.USAGE)
    paths = [photo.path.resolve() for photo in photos.photos]
    return {name: [predicted.get(path, {}).get(name, "") for path in paths] for name in shared}
