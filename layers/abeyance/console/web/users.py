"""The pages of users: their faces side by side, merge, split, "not this person", and what people should look at.

User ids are in forms and not in addresses, so that no log has them.
"""

from __future__ import annotations

from hmac import compare_digest
from typing import Final

from flask import Blueprint, Response, abort, redirect, render_template, request, session, url_for
from itsdangerous import Signer
from werkzeug.wrappers import Response as Redirect

from abeyance.console.errors import RequestRefused
from abeyance.console.roles import Right
from abeyance.console.web.context import requires, services, signed_in
from abeyance.console.web.galleries import collection_ref, require_sure
from abeyance.console.web.sending import send_chip
from abeyance.gallery.model import CollectionRef, TemplateKind
from abeyance.gallery.verdicts import CollectionSubject

pages = Blueprint("users", __name__)

#: Larger collections are checked by the command: a request has 29 seconds.
MOST_CHECKED: Final = 5_000
#: Lowest similarity of look-alikes, where the form names none.
LOOK_ALIKE: Final = 99.0


@pages.route("/galleries/<tenant>/<collection:name>/users", methods=["GET", "POST"])
@requires(Right.CURATE)
def overview(tenant: str, name: str) -> str:
    """List a collection's users."""
    ref = collection_ref(tenant, name)
    page = services().galleries.users(ref, request.form.get("after", ""))
    return render_template(
        "users.html",
        ref=ref,
        users=page.items,
        after=page.next_token,
        purposes=_purposes(ref),
        least=LOOK_ALIKE,
    )


@pages.post("/galleries/<tenant>/<collection:name>/users/show")
@requires(Right.CURATE)
def show(tenant: str, name: str) -> str:
    """Show a user's faces side by side; their pictures where that is permitted."""
    return _user_page(collection_ref(tenant, name), _field("user"))


@pages.get("/galleries/<tenant>/<collection:name>/faces/<uuid:face>.png")
@requires(Right.CURATE)
def picture(tenant: str, name: str, face: object) -> Response:
    """Send the picture of a face that came by upload, to whoever opened its page, if it may still be seen."""
    ref, purpose = collection_ref(tenant, name), request.args.get("purpose", "")
    if not compare_digest(_opened(ref, str(face), purpose), request.args.get("opened", "").encode()):
        abort(404)
    found = services().galleries.face(ref, str(face))
    if not services().curation.may_see(ref, purpose):
        abort(404)
    return send_chip(services().pictures.candidate(found))


@pages.post("/galleries/<tenant>/<collection:name>/users/merge")
@requires(Right.CURATE)
def merge(tenant: str, name: str) -> str:
    """Make one user of two."""
    ref, keep = collection_ref(tenant, name), _field("user")
    require_sure()
    services().curation.merge(signed_in().principal, ref, keep, _field("gone"), _field("purpose"))
    return _user_page(ref, keep)


@pages.post("/galleries/<tenant>/<collection:name>/users/split")
@requires(Right.CURATE)
def split(tenant: str, name: str) -> str:
    """Give the chosen faces to a new user."""
    ref, user = collection_ref(tenant, name), _field("user")
    faces = request.form.getlist("face")
    services().curation.split(signed_in().principal, ref, user, _field("new"), faces, _field("purpose"))
    return _user_page(ref, user)


@pages.post("/galleries/<tenant>/<collection:name>/users/reject")
@requires(Right.CURATE)
def reject(tenant: str, name: str) -> str | Redirect:
    """Note that faces, or another user, are not this person."""
    ref, one = collection_ref(tenant, name), _subject(_field("one"))
    others = [_subject(text) for text in request.form.getlist("other")]
    if not others:
        raise RequestRefused("Choose a face.")
    for other in others:
        services().curation.reject(signed_in().principal, ref, one, other)
    return _after(ref, one)


@pages.post("/galleries/<tenant>/<collection:name>/users/withdraw")
@requires(Right.CURATE)
def withdraw(tenant: str, name: str) -> str | Redirect:
    """Take a verdict back."""
    ref, one = collection_ref(tenant, name), _subject(_field("one"))
    services().curation.withdraw(signed_in().principal, ref, one, _subject(_field("other")))
    return _after(ref, one)


@pages.post("/galleries/<tenant>/<collection:name>/users/check")
@requires(Right.CURATE)
def check(tenant: str, name: str) -> str:
    """List look-alikes, duplicates and weak enrolments."""
    ref = collection_ref(tenant, name)
    if services().galleries.describe(ref).face_count > MOST_CHECKED:
        raise RequestRefused(
            f"The collection is too large for a page. Run: abeyance users check {ref.tenant} {ref.name}"
        )
    try:
        threshold = min(100.0, max(0.0, float(request.form.get("threshold", LOOK_ALIKE))))
    except ValueError:
        raise RequestRefused("Give a similarity from 0 to 100.") from None
    found = services().curation.check(signed_in().principal, ref, _field("purpose"), threshold=threshold)
    return render_template("findings.html", ref=ref, found=found, purpose=_field("purpose"))


def _user_page(ref: CollectionRef, user_id: str) -> str:
    purposes = _purposes(ref)
    purpose = request.form.get("purpose") or next(iter(purposes), "")
    found = services().curation.show(ref, user_id)
    return render_template(
        "user.html",
        ref=ref,
        found=found,
        purpose=purpose,
        purposes=purposes,
        pictures=services().curation.see(signed_in().principal, ref, user_id, purpose),
        opened=lambda face_id: _opened(ref, face_id, purpose).decode(),
    )


def _opened(ref: CollectionRef, face_id: str, purpose: str) -> bytes:
    """Return the proof that this session opened the page of a face for a purpose, which is on the ledger."""
    opened = "\n".join((session["csrf"], ref.tenant, ref.name, face_id, purpose))
    return Signer(services().session_key, salt="abeyance.picture").get_signature(opened)


def _after(ref: CollectionRef, subject: CollectionSubject) -> str | Redirect:
    if subject.kind is TemplateKind.USER:
        return _user_page(ref, subject.id)
    return redirect(url_for("users.overview", tenant=ref.tenant, name=ref.name), code=303)


def _purposes(ref: CollectionRef) -> tuple[str, ...]:
    return next((one.purposes for one in services().policy.tenants() if one.id == ref.tenant), ())


def _field(name: str) -> str:
    value = request.form.get(name, "").strip()
    if not value:
        raise RequestRefused(f"The form has no {name}.")
    return value


def _subject(text: str) -> CollectionSubject:
    kind, _, name = text.partition(":")
    if kind not in ("user", "face"):
        raise RequestRefused("Choose a face or a user.")
    return CollectionSubject(TemplateKind(kind.upper()), name)
