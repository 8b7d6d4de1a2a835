"""The pages of galleries: collections, erasure of a person, and accuracy."""

from __future__ import annotations

import msgspec
from flask import Blueprint, Response, make_response, render_template, request
from werkzeug.routing import UnicodeConverter

from abeyance.console.errors import NotFound, RequestRefused
from abeyance.console.roles import Right
from abeyance.console.web.context import requires, services, signed_in
from abeyance.erasure.erase import NAMED_BY, receipt_id
from abeyance.gallery.errors import InvalidInput
from abeyance.gallery.model import CollectionRef, path_part

pages = Blueprint("galleries", __name__)


class CollectionConverter(UnicodeConverter):
    """A collection's name as a part of an address."""

    def to_python(self, value: str) -> str:
        return value.removeprefix("~")

    def to_url(self, value: str) -> str:
        return super().to_url(path_part(value))


@pages.get("/galleries")
@requires(Right.READ_GALLERIES)
def overview() -> str:
    """Show every tenant's collections."""
    found = [
        (tenant, list(services().galleries.collections(tenant.id))) for tenant in services().policy.tenants()
    ]
    return render_template("galleries.html", found=found)


@pages.get("/galleries/<tenant>/<collection:name>")
@requires(Right.READ_GALLERIES)
def collection(tenant: str, name: str) -> str:
    """Show one collection and, to those who may erase, the form for it."""
    found = services().galleries.describe(collection_ref(tenant, name))
    return render_template(
        "collection.html",
        collection=found,
        may_erase=signed_in().may(Right.ERASE),
        may_curate=signed_in().may(Right.CURATE),
        names=NAMED_BY,
    )


@pages.post("/galleries/<tenant>/<collection:name>/find")
@requires(Right.ERASE)
def find(tenant: str, name: str) -> str:
    """Show what would be erased. It is a form and not a link, so that the name is in no address and no log."""
    ref, (named_by, person_name) = collection_ref(tenant, name), _named()
    subject = services().galleries.find(ref, named_by, person_name)
    return render_template("erase.html", ref=ref, named_by=named_by, person_name=person_name, subject=subject)


@pages.post("/galleries/<tenant>/<collection:name>/view.json")
@requires(Right.ERASE)
def view(tenant: str, name: str) -> Response:
    """Send all that is held about a person."""
    held = services().galleries.find(collection_ref(tenant, name), *_named())
    response = make_response(msgspec.json.format(msgspec.json.encode(held), indent=2))
    response.headers["Content-Type"] = "application/json"
    response.headers["Content-Disposition"] = 'attachment; filename="held.json"'
    return response


@pages.post("/galleries/<tenant>/<collection:name>/erase")
@requires(Right.ERASE)
def erase(tenant: str, name: str) -> str:
    """Erase the person and show the receipt."""
    require_sure()
    ref = collection_ref(tenant, name)
    erasure = services().galleries.erase(signed_in(), ref, *_named())
    return render_template("erased.html", ref=ref, receipt=erasure.receipt, receipt_id=receipt_id(erasure))


@pages.get("/accuracy")
@requires(Right.READ_GALLERIES)
def accuracy() -> str:
    """Show the error rates of the model, and the link to the report."""
    return render_template(
        "accuracy.html", rates=services().error_rates(), report=services().accuracy_report is not None
    )


@pages.get("/accuracy/report")
@requires(Right.READ_GALLERIES)
def report() -> Response:
    """Send the report that ``abeyance audit`` wrote, with no right to run or fetch anything."""
    path = services().accuracy_report
    if path is None or not path.is_file():
        raise NotFound("There is no report. Make one with: abeyance audit")
    response = make_response(path.read_bytes())
    response.headers["Content-Type"] = "text/html; charset=utf-8"
    response.headers["Content-Security-Policy"] = (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox; frame-ancestors 'none'"
    )
    return response


def _named() -> tuple[str, str]:
    return request.form.get("by", ""), request.form.get("name", "").strip()


def require_sure() -> None:
    """Raise :class:`RequestRefused` unless the form's box is ticked, which confirms what cannot be taken back."""
    if request.form.get("sure") != "yes":
        raise RequestRefused("Tick the box to confirm.")


def collection_ref(tenant: str, name: str) -> CollectionRef:
    """Return the collection of an address; raises :class:`NotFound` if there could be none."""
    try:
        return CollectionRef(tenant, name)
    except InvalidInput:
        raise NotFound("There is no such collection.") from None
