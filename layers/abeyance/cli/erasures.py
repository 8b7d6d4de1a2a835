"""``abeyance erasures``: show what is held about a person, erase it, and do erasures again after a restore."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from abeyance.cli import _context as context
from abeyance.cli.output import Commands, Exit, Json, console, fail, report, table

if TYPE_CHECKING:
    from abeyance.erasure.erase import Erasures
    from abeyance.gallery.model import CollectionRef

app = typer.Typer(
    name="erasures", cls=Commands, no_args_is_help=True, help="Show and erase what is held about a person."
)

Tenant = Annotated[str, typer.Argument(help="The tenant's id.")]
Collection = Annotated[str, typer.Argument(help="The collection's name.")]
By = Annotated[
    str, typer.Argument(help="user_id, external_image_id, original_name (of the photo's file) or face_id.")
]
Name = Annotated[
    str, typer.Argument(help="The name; - reads it from standard input, so that no history has it.")
]


@app.command()
def show(tenant: Tenant, collection: Collection, by: By, name: Name, as_json: Json = False) -> None:
    """Show all that is held about a person, and the searches that returned them. Never shows a picture."""
    from abeyance.erasure.erase import NobodyFound

    try:
        held = _erasures().find(collection_ref(tenant, collection), by, _name(name))
    except NobodyFound as error:
        fail(str(error), Exit.NO)

    def show_held() -> None:
        faces = [
            (face.id, face.created, face.external_image_id, face.user_id, face.photo) for face in held.faces
        ]
        console.print(table("Faces", ("id", "since", "external image id", "user", "photo"), faces, key=True))
        searches = [(one.photo, one.time, one.event, one.similarity) for one in held.searches]
        console.print(table("Searches", ("photo", "time", "outcome", "similarity"), searches))
        console.print(
            f"{len(held.users)} users, {len(held.uploads)} uploads to the index, {held.reviews} reviews."
            + (" An erasure is under way." if held.under_way else "")
        )

    report(held, as_json=as_json, show=show_held)


@app.command()
def erase(tenant: Tenant, collection: Collection, by: By, name: Name, as_json: Json = False) -> None:
    """Erase a person, and print the receipt. Repeat it, or run resume, if it is interrupted."""
    from abeyance.erasure.erase import ErasureUnfinished, NobodyFound, receipt_id

    try:
        erasure = _erasures().erase(context.principal(), collection_ref(tenant, collection), by, _name(name))
    except NobodyFound as error:
        fail(str(error), Exit.NO)
    except ErasureUnfinished as error:
        fail(str(error))
    receipt = {"id": receipt_id(erasure), **erasure.receipt}

    def show_receipt() -> None:
        console.print(f"Erased. The receipt is on the ledger as {receipt['id']}.")
        rows = [(one["store"], one["until"] or "no end") for one in erasure.receipt["remains"]]
        console.print(table("What remains", ("store", "at most until"), rows))

    report(receipt, as_json=as_json, show=show_receipt)


@app.command()
def resume(as_json: Json = False) -> None:
    """Continue every interrupted erasure."""
    _report(_erasures().resume(), as_json)


@app.command()
def replay(
    since: Annotated[str, typer.Option(help="The moment that a table was restored to (UTC).")],
    as_json: Json = False,
) -> None:
    """Do all erasures since a moment again, after a store was restored from a backup of that moment."""
    from abeyance.aws.timestamps import rfc3339

    tenants = [tenant.id for tenant in context.tenants().all()]
    _report(_erasures().replay(rfc3339(context.moment(since)), tenants), as_json)


def _report(counts: dict[str, int], as_json: bool) -> None:
    def show_counts() -> None:
        console.print(f"{counts['finished']} erasures finished, {counts['unfinished']} unfinished.")

    report(counts, as_json=as_json, show=show_counts)
    if counts["unfinished"]:
        raise typer.Exit(Exit.NO)


def _erasures() -> Erasures:
    from abeyance.deployment.build import build_erasures

    return build_erasures(context.settings())


def collection_ref(tenant: str, collection: str) -> CollectionRef:
    """Return the collection that a command names; ends the command if there could be none."""
    from abeyance.gallery.errors import InvalidInput
    from abeyance.gallery.model import CollectionRef

    try:
        return CollectionRef(tenant, collection)
    except InvalidInput as error:
        fail(str(error), Exit.USAGE)


def _name(name: str) -> str:
    return sys.stdin.readline().rstrip("\n") if name == "-" else name
