"""Signing in and out."""

from __future__ import annotations

from secrets import token_urlsafe

from flask import Blueprint, redirect, render_template, request, session
from flask import url_for as to
from werkzeug.wrappers import Response

from abeyance.console.errors import Refused
from abeyance.console.identity import LOCAL_PEOPLE
from abeyance.console.web import app as frame

pages = Blueprint("signin", __name__)


@pages.get("/signin")
def page() -> str:
    """Choose, or go to the provider."""
    kind = frame.parts().identity.kind
    session.setdefault("csrf", token_urlsafe(32))
    return render_template("signin.html", kind=kind, people=LOCAL_PEOPLE if kind == "picker" else ())


@pages.post("/signin")
def choose() -> Response:
    """The choice of a person, on one machine."""
    identity = frame.parts().identity
    if identity.kind != "picker":
        raise Refused("Sign in with the identity provider.")
    frame.sign_in(identity.finish(request.form, {}))
    return redirect(to("start"), code=303)


@pages.get("/signin/provider")
def provider() -> Response:
    """To the provider. A link and not a form, because the policy allows forms to this server alone."""
    address, keep = frame.parts().identity.begin()
    session["signin"] = dict(keep)
    return redirect(address, code=303)


@pages.get("/signin/callback")
def callback() -> Response:
    """Back from the provider."""
    kept = session.pop("signin", {})
    frame.sign_in(frame.parts().identity.finish(request.args, kept))
    return redirect(to("start"), code=303)


@pages.post("/signout")
def out() -> Response:
    """End the session."""
    session.clear()
    return redirect(to("signin.page"), code=303)
