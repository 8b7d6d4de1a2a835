"""``abeyance collections``: move collections out of a deployment and into one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from abeyance.cli._context import settings
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
    from abeyance.moving.exchange import Moved
    from abeyance.moving.keys import MasterKey

app = typer.Typer(
    name="collections", cls=Commands, no_args_is_help=True, help="Export and import collections."
)

PassphraseFile = Annotated[
    Path | None,
    existing_file("--passphrase-file", help="Encrypt with the passphrase in this file, 16 bytes or more."),
]
KmsKeyId = Annotated[str, typer.Option("--kms-key", help="Or with this key in AWS KMS: id, ARN or alias.")]
Purpose = Annotated[str, typer.Option(help="Purpose of the calls; a tenant is registered for purposes.")]


@app.command("export")
def export_file(
    collection: Annotated[str, typer.Argument(help="The collection's name.")],
    file: Annotated[Path, typer.Argument(help="Write this Parquet file.", dir_okay=False)],
    templates: Annotated[
        bool,
        typer.Option(
            "--templates", help="Export templates too; the tenant is registered for template_export."
        ),
    ] = False,
    passphrase_file: PassphraseFile = None,
    kms_key: KmsKeyId = "",
    purpose: Purpose = "",
    as_json: Json = False,
) -> None:
    """Write a collection's faces, names, users, boxes and quality to an encrypted Parquet file."""
    from abeyance.moving.exchange import export_collection

    key, api = _key(passphrase_file, kms_key), client(purpose)
    total = api.describe_collection(CollectionId=collection)["FaceCount"]
    with bar("Exporting", total) as advance:
        moved = export_collection(api, collection, file, key, templates=templates, advance=advance)
    _show(moved, f"Exported to {file}", as_json)


@app.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(help="A file of abeyance collections export.", exists=True)],
    collection: Annotated[
        str, typer.Option(help="Import into this collection; by default the name that it had.")
    ] = "",
    passphrase_file: PassphraseFile = None,
    kms_key: KmsKeyId = "",
    purpose: Purpose = "",
    as_json: Json = False,
) -> None:
    """Add an export's faces and users to a collection of the same model. Repeat it if it is interrupted."""
    from abeyance.moving.archive import Archive
    from abeyance.moving.exchange import import_collection

    key, api = _key(passphrase_file, kms_key), client(purpose)
    with Archive(file, key) as archive:
        total = archive.rows
    with bar("Importing", total) as advance:
        moved = import_collection(api, file, key, collection, advance=advance)
    _show(moved, f"Imported from {file}", as_json)


@app.command("re-embed")
def re_embed(
    collection: Annotated[str, typer.Argument(help="The collection to read.")],
    target: Annotated[
        str, typer.Argument(help="The collection to write; made with the deployed model if it is missing.")
    ],
    probes: Annotated[
        int, typer.Option(help="Compare the matches of so many faces in both; 0 for no report.", min=0)
    ] = 500,
    threshold: Annotated[
        list[float] | None,
        typer.Option(
            help="Compare at this similarity, 0 to 100; repeat it. By default the deployment's.", max=100
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        existing_file(
            "--labels", help="Report by group: a CSV file with group, and FaceId, UserId or ExternalImageId."
        ),
    ] = None,
    purpose: Purpose = "",
    as_json: Json = False,
) -> None:
    """Make a collection again with another model beside it, and show which matches change. Both answer meanwhile.

    Repeat it if it is interrupted.
    """
    from abeyance.moving.reembed import changed_matches, level, read_labels

    api = client(purpose)
    thresholds = threshold or [settings().search_threshold]
    groups = {"group_of": read_labels(labels)} if labels else {}
    with progress() as shown:
        task = shown.add_task("Re-embedding", total=None)
        found = level(
            api,
            collection,
            target,
            advance=lambda listing: shown.update(task, description=listing, advance=1),
        )
    changed = []
    if probes:
        with bar("Comparing", min(probes, found.target_faces)) as advance:
            changed = changed_matches(
                api,
                collection,
                target,
                probes=probes,
                thresholds=thresholds,
                advance=advance,
                **groups,
            )

    def show() -> None:
        console.print(
            f"{target} has {found.target_faces} of {found.faces} faces of {collection}.", highlight=False
        )
        console.print(table("Templates", ("made", "faces"), found.outcomes.items(), key=True))
        names = (
            *("group", "threshold", "probes", "changed"),
            *("lost", "lost_same_user", "gained", "gained_other_user"),
        )
        console.print(table("Matches that change", names, cells(changed, names), key=True))
        console.print(f"Switch with: abeyance collections switch {collection} {target}", highlight=False)

    answer = {"level": msgspec.to_builtins(found), "changed_matches": msgspec.to_builtins(changed)}
    report(answer, as_json=as_json, show=show)


@app.command()
def switch(
    collection: Annotated[str, typer.Argument(help="The collection that programs name.")],
    target: Annotated[str, typer.Argument(help="The collection beside it.")],
    accept_missing: Annotated[
        bool, typer.Option("--accept-missing", help="Switch although the other lacks faces.")
    ] = False,
    purpose: Purpose = "",
    as_json: Json = False,
) -> None:
    """Make the second collection level with the first, and let them have each other's name. Again switches back."""
    from abeyance.moving.reembed import level
    from abeyance.moving.reembed import switch as switch_names

    api = client(purpose)
    done = switch_names(api, level(api, collection, target), accept_missing=accept_missing)

    def show() -> None:
        console.print(f"{collection} is the collection of {done['model']} now.", highlight=False)
        console.print(
            f"The one of {done['former_model']} is {target}; the same command switches back.", highlight=False
        )

    report(done, as_json=as_json, show=show)


def client(purpose: str) -> Any:
    """Return a client of the deployment's API; ends the command if its URL is not set."""
    from abeyance.deployment.moving import build_rekognition_client

    try:
        return build_rekognition_client(purpose)
    except LookupError as error:
        fail(str(error.args[0]), Exit.USAGE)


def _key(passphrase_file: Path | None, kms_key: str) -> MasterKey:
    try:
        import pyarrow.parquet  # noqa: F401 - it is an extra
    except ImportError:
        fail('install the extra for Parquet: pip install "abeyance[parquet]"')
    from abeyance.moving.keys import KmsKey, PassphraseKey

    if (passphrase_file is None) == (not kms_key):
        fail("give either --passphrase-file or --kms-key: an export is always encrypted", Exit.USAGE)
    if passphrase_file is not None:
        return PassphraseKey.read(passphrase_file)
    from abeyance.aws.clients import client as aws_client

    return KmsKey(aws_client("kms"), kms_key)


def _show(moved: Moved, what: str, as_json: bool) -> None:
    def show() -> None:
        console.print(f"{what}: {moved.faces} faces, {moved.users} users.", highlight=False, markup=False)
        if not moved.templates:
            console.print("Without templates, it cannot be imported.", highlight=False)
        if moved.refused:
            console.print(f"{moved.refused} faces stay with the user that they have there.", highlight=False)

    report(moved, as_json=as_json, show=show)
