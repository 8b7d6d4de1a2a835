"""Galleries: what there is, erasing a person, and how accurate the model is."""

from __future__ import annotations

from flask import Blueprint, Response, make_response, render_template, request

from abeyance.console.erase import BY
from abeyance.console.errors import NotFound, Refused
from abeyance.console.people import Right
from abeyance.console.web.app import needs, parts, person
from abeyance.gallery.errors import InvalidInput
from abeyance.gallery.model import CollectionRef

pages = Blueprint("galleries", __name__)


@pages.get("/galleries")
@needs(Right.READ_GALLERIES)
def overview() -> str:
    """Every tenant's collections."""
    found = [(tenant, list(parts().galleries.collections(tenant.id))) for tenant in parts().policy.tenants()]
    return render_template("galleries.html", found=found)


@pages.get("/galleries/<tenant>/<name>")
@needs(Right.READ_GALLERIES)
def collection(tenant: str, name: str) -> str:
    """One collection, and for those who may, the form to erase somebody."""
    found = parts().galleries.describe(_ref(tenant, name))
    return render_template("collection.html", one=found, erases=person().may(Right.ERASE), ways=BY)


@pages.post("/galleries/<tenant>/<name>/find")
@needs(Right.ERASE)
def find(tenant: str, name: str) -> str:
    """What would be erased. A form and not a link, so that the name stands in no address and no log."""
    ref, by, whom = _ref(tenant, name), request.form.get("by", ""), request.form.get("name", "").strip()
    subject = parts().galleries.find(ref, by, whom)
    return render_template("erase.html", ref=ref, by=by, whom=whom, subject=subject)


@pages.post("/galleries/<tenant>/<name>/erase")
@needs(Right.ERASE)
def erase(tenant: str, name: str) -> str:
    """Erase."""
    if request.form.get("sure") != "yes":
        raise Refused("Tick that you mean it.")
    ref = _ref(tenant, name)
    receipt = parts().galleries.erase(
        person(), ref, request.form.get("by", ""), request.form.get("name", "").strip()
    )
    return render_template("erased.html", ref=ref, receipt=receipt)


@pages.get("/accuracy")
@needs(Right.READ_GALLERIES)
def accuracy() -> str:
    """What a similarity means, and the report."""
    return render_template("accuracy.html", scale=parts().scale(), report=parts().report is not None)


@pages.get("/accuracy/report")
@needs(Right.READ_GALLERIES)
def report() -> Response:
    """The accuracy and bias report as ``abeyance audit`` wrote it, with no right to run or fetch anything."""
    path = parts().report
    if path is None or not path.is_file():
        raise NotFound("There is no report here. Make one with: abeyance audit")
    response = make_response(path.read_bytes())
    response.headers["Content-Type"] = "text/html; charset=utf-8"
    response.headers["Content-Security-Policy"] = (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox; frame-ancestors 'none'"
    )
    return response


def _ref(tenant: str, name: str) -> CollectionRef:
    try:
        return CollectionRef(tenant, name)
    except InvalidInput:
        raise NotFound("There is no such collection.") from None
