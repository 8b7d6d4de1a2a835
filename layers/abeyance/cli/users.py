"""``abeyance users``: look after the users of collections: merge, split, "not this person", and what to look at."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from abeyance.cli import _context as context
from abeyance.cli.erasures import Collection, Tenant, collection_ref
from abeyance.cli.output import Commands, Exit, Json, cells, console, fail, report, table
from abeyance.moratorium.vocabulary import UNSPECIFIED

if TYPE_CHECKING:
    from abeyance.curation.decisions import Curation
    from abeyance.gallery.model import Face
    from abeyance.gallery.verdicts import CollectionSubject

app = typer.Typer(
    name="users",
    cls=Commands,
    no_args_is_help=True,
    help="Merge and split users, say who is not whom, and list what people should look at.",
)

User = Annotated[str, typer.Argument(help="The user's id.")]
Purpose = Annotated[str, typer.Option(help="Purpose for which this is decided.")]
Subject = Annotated[str, typer.Argument(help="user:ID or face:ID.")]


@app.command()
def show(tenant: Tenant, collection: Collection, user: User, as_json: Json = False) -> None:
    """Show a user's faces side by side: quality, boxes and photos, and who they are not."""
    found = _curation().show(collection_ref(tenant, collection), user)

    def show_user() -> None:
        rows = [
            (
                face.id,
                face.external_image_id,
                face.created,
                f"{face.source.bucket}/{face.source.key}" if face.source else "",
                ", ".join(f"{side:.2f}" for side in face.box),
                ", ".join(f"{name} {value:.0f}" for name, value in face.quality.items()),
            )
            for face in found.faces
        ]
        columns = ("id", "external image id", "since", "photo", "box", "quality")
        console.print(table(f"Faces of {user}", columns, rows, key=True))
        for other in found.others:
            console.print(f"not {other.kind.lower()} {other.id}", highlight=False, markup=False)

    report(msgspec.to_builtins(found), as_json=as_json, show=show_user)


@app.command()
def merge(
    tenant: Tenant,
    collection: Collection,
    keep: Annotated[str, typer.Argument(help="The user that stays.")],
    gone: Annotated[str, typer.Argument(help="The user whose faces it gets, and that is deleted.")],
    purpose: Purpose = UNSPECIFIED,
    as_json: Json = False,
) -> None:
    """Make one user of two. Repeat it if it is interrupted."""
    moved = _curation().merge(context.principal(), collection_ref(tenant, collection), keep, gone, purpose)
    _done({"moved": moved}, f"{keep} has {moved} faces more; {gone} is gone.", as_json)


@app.command()
def split(
    tenant: Tenant,
    collection: Collection,
    user: User,
    new: Annotated[str, typer.Argument(help="The user that is made.")],
    face: Annotated[list[str], typer.Option(help="A face that the new user gets; repeat it.")],
    purpose: Purpose = UNSPECIFIED,
    as_json: Json = False,
) -> None:
    """Give some of a user's faces to a new one. Repeat it if it is interrupted."""
    moved = _curation().split(
        context.principal(), collection_ref(tenant, collection), user, new, face, purpose
    )
    _done({"moved": moved}, f"{new} has {moved} faces.", as_json)


@app.command("reject")
def reject_pair(
    tenant: Tenant, collection: Collection, one: Subject, other: Subject, as_json: Json = False
) -> None:
    """Say that two faces or users are not the same person: no answer brings them together again."""
    subjects = _subject(one), _subject(other)
    _curation().reject(context.principal(), collection_ref(tenant, collection), *subjects)
    _done({"rejected": [one, other]}, f"{one} is not {other}.", as_json)


@app.command("withdraw")
def withdraw_verdict(
    tenant: Tenant, collection: Collection, one: Subject, other: Subject, as_json: Json = False
) -> None:
    """Take back that two faces or users are not the same person."""
    subjects = _subject(one), _subject(other)
    _curation().withdraw(context.principal(), collection_ref(tenant, collection), *subjects)
    _done({"withdrawn": [one, other]}, f"{one} may be {other}.", as_json)


@app.command()
def check(
    tenant: Tenant,
    collection: Collection,
    threshold: Annotated[
        float, typer.Option(help="Lowest similarity of two users that look alike, 0 to 100.", min=0, max=100)
    ] = 99.0,
    ages: Annotated[
        bool, typer.Option("--ages", help="Also read ages from the photos, to find children.")
    ] = False,
    purpose: Purpose = UNSPECIFIED,
    as_json: Json = False,
) -> None:
    """List look-alikes, duplicates and weak enrolments. It changes nothing: people decide."""
    ref = collection_ref(tenant, collection)
    read = _ages() if ages else None
    found = _curation().check(context.principal(), ref, purpose, threshold=threshold, ages=read)

    def show_found() -> None:
        names = ("kind", "one", "other", "similarity", "reason")
        rows = [["" if cell is None else cell for cell in row] for row in cells(found, names)]
        console.print(table("To look at", names, rows))

    report(msgspec.to_builtins(found), as_json=as_json, show=show_found)


def _done(answer: dict[str, object], line: str, as_json: bool) -> None:
    report(answer, as_json=as_json, show=lambda: console.print(line, highlight=False, markup=False))


def _subject(text: str) -> CollectionSubject:
    from abeyance.gallery.model import TemplateKind
    from abeyance.gallery.verdicts import CollectionSubject

    kind, _, name = text.partition(":")
    if kind not in ("user", "face") or not name:
        fail("name a user as user:ID, or a face as face:ID", Exit.USAGE)
    return CollectionSubject(TemplateKind(kind.upper()), name)


def _curation() -> Curation:
    from abeyance.deployment.curation import build_curation

    return build_curation(context.settings())


def _ages() -> Callable[[Face], tuple[int, int] | None]:
    from abeyance.deployment.curation import build_age_reader

    return build_age_reader(context.settings())
