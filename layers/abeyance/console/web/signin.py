"""The pages of sign-in and sign-out."""

from __future__ import annotations

from secrets import token_urlsafe

from flask import Blueprint, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response

from abeyance.console.errors import RequestRefused
from abeyance.console.identity import LOCAL_PEOPLE
from abeyance.console.web.context import services, start_session

pages = Blueprint("signin", __name__)


@pages.get("/signin")
def page() -> str:
    """Show the people to choose from, or the link to the provider."""
    kind = services().identity.kind
    session.setdefault("csrf", token_urlsafe(32))
    return render_template("signin.html", kind=kind, people=LOCAL_PEOPLE if kind == "picker" else ())


@pages.post("/signin")
def choose() -> Response:
    """Sign in as the chosen person, on one machine."""
    identity = services().identity
    if identity.kind != "picker":
        raise RequestRefused("Sign in with the identity provider.")
    start_session(identity.finish(request.form, {}))
    return redirect(url_for("start"), code=303)


@pages.get("/signin/provider")
def provider() -> Response:
    """Redirect to the provider. A link leads here: the content security policy allows forms to this server only."""
    address, remembered = services().identity.begin()
    session["signin"] = dict(remembered)
    return redirect(address, code=303)


@pages.get("/signin/callback")
def callback() -> Response:
    """Finish the sign-in of somebody who comes back from the provider."""
    start_session(services().identity.finish(request.args, session.pop("signin", {})))
    return redirect(url_for("start"), code=303)


@pages.post("/signout")
def out() -> Response:
    """End the session."""
    session.clear()
    return redirect(url_for("signin.page"), code=303)
