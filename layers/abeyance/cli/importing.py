"""``abeyance import``: move in from another service."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from abeyance.cli.collections import Purpose, client
from abeyance.cli.output import (
    Commands,
    Exit,
    Json,
    bar,
    cells,
    console,
    existing_file,
    fail,
    progress,
    report,
    table,
)

if TYPE_CHECKING:
    from abeyance.moving.comparison import AnswerComparison
    from abeyance.moving.photos import Locate
    from abeyance.moving.rekognition import ImportReport

app = typer.Typer(name="import", cls=Commands, no_args_is_help=True, help="Move in from another service.")
#: Faces of the report that a table shows; ``--json`` has all.
SHOWN = 20


@app.callback()
def _group() -> None:
    """Move in from another service."""


@app.command()
def rekognition(
    collection: Annotated[str, typer.Argument(help="The collection of Amazon Rekognition to read.")],
    photos: Annotated[
        str,
        typer.Option(
            help="Where the photos are: s3://BUCKET/{ExternalImageId}.jpg, or a path; or {ImageId}, {FaceId}, {UserId}."
        ),
    ] = "",
    photos_csv: Annotated[
        Path | None,
        existing_file(
            "--photos-csv", help="Or a CSV file: the column photo, and ExternalImageId, ImageId or FaceId."
        ),
    ] = None,
    slash: Annotated[
        str, typer.Option(help="The character of external image ids that stands for / in keys.")
    ] = "",
    into: Annotated[str, typer.Option(help="Make this collection; by default one of the same name.")] = "",
    from_profile: Annotated[str, typer.Option(help="AWS profile that may read the collection.")] = "",
    from_region: Annotated[str, typer.Option(help="Its region; by default the profile's.")] = "",
    from_endpoint: Annotated[
        str, typer.Option(help="Its URL, if it is not Amazon's: another deployment.")
    ] = "",
    quality_filter: Annotated[
        str, typer.Option(help="Lowest quality to index: AUTO, NONE, LOW, MEDIUM or HIGH.")
    ] = "AUTO",
    journal: Annotated[
        Path | None, typer.Option(help="Keep the state here; by default COLLECTION.import in this folder.")
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Try faces again that were not moved.")] = False,
    compare: Annotated[
        int, typer.Option(help="Search with so many of the photos in both, and show the differences.", min=0)
    ] = 0,
    threshold: Annotated[
        float, typer.Option(help="Lowest similarity of the comparison, 0 to 100.", min=0, max=100)
    ] = 80.0,
    purpose: Purpose = "",
    as_json: Json = False,
) -> None:
    """Index the photos of a collection of Amazon Rekognition here, under the same names and users.

    Repeat it if it is interrupted. It reads with ListFaces and ListUsers and changes nothing there.
    """
    from abeyance.deployment.moving import build_source_clients
    from abeyance.moving.comparison import compare as compare_answers
    from abeyance.moving.journal import Journal
    from abeyance.moving.photos import PhotoReader
    from abeyance.moving.rekognition import RekognitionImport

    locate, name = _locate(photos, photos_csv, slash), into or collection
    api = client(purpose)
    source, s3 = build_source_clients(from_profile, from_region, from_endpoint)
    about = {"source": f"{source.meta.endpoint_url}/{collection}", "into": f"{api.meta.endpoint_url}/{name}"}
    with Journal(journal or Path(f"{collection}.import"), about) as kept:
        if retry:
            kept.retry()
        reader = PhotoReader(locate, s3)
        moving = RekognitionImport(source, collection, api, name, reader, kept, quality_filter=quality_filter)
        with progress() as shown:
            task = shown.add_task("Indexing", total=None)
            moved = moving.run(lambda done, total: shown.update(task, completed=done, total=total))
        compared = None
        if compare:
            with bar("Comparing", compare) as advance:
                compared = compare_answers(
                    source,
                    collection,
                    api,
                    name,
                    reader,
                    kept,
                    probes=compare,
                    threshold=threshold,
                    advance=advance,
                )
    answer: dict[str, Any] = {"import": moved, "comparison": compared}
    report(msgspec.to_builtins(answer), as_json=as_json, show=lambda: _show(moved, compared))


def _locate(rule: str, listed: Path | None, slash: str) -> Locate:
    from abeyance.moving.photos import by_list, by_rule

    if bool(rule) == (listed is not None):
        fail("give either --photos or --photos-csv", Exit.USAGE)
    return by_list(listed) if listed is not None else by_rule(rule, slash)


def _show(moved: ImportReport, compared: AnswerComparison | None) -> None:
    console.print(table(f"Faces of {moved.collection}", ("outcome", "faces"), moved.faces.items(), key=True))
    console.print(f"{moved.users} users.", highlight=False)
    if moved.unmoved:
        names = ("face_id", "external_image_id", "outcome", "reason")
        rows = cells(moved.unmoved[:SHOWN], names)
        console.print(table(f"Not moved, {len(rows)} of {len(moved.unmoved)}", names, rows, key=True))
    if compared is None:
        return
    console.print(
        f"{compared.probes} probes at {compared.threshold:g}: {compared.same_matches} with the same matches, "
        f"{compared.same_first} with the same best match.",
        highlight=False,
    )
    if compared.differences:
        columns = ("probe", "only_there", "only_here", "error")
        rows = cells(compared.differences[:SHOWN], columns)
        console.print(table("Differences", columns, rows, key=True))
