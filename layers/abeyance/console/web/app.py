"""The WSGI application: sessions, roles, forgery, headers, errors. The pages are in the modules beside it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar, cast
from urllib.parse import urlsplit

from flask import (
    Flask,
    Response,
    abort,
    current_app,
    g,
    make_response,
    redirect,
    render_template,
    request,
    session,
)
from flask import url_for as to
from jinja2 import StrictUndefined
from werkzeug.exceptions import HTTPException

from abeyance.console import meaning
from abeyance.console.errors import ConsoleError, NotFound, Refused, Unavailable
from abeyance.console.people import Person, Right, Role
from abeyance.console.web.parts import Parts

PREFIX: Final = "/console"
#: Hours after which a session ends, used or not.
SESSION_HOURS: Final = 8
#: Largest form: a flags document and a note.
MAX_FORM: Final = 2 << 20
#: Nothing from anywhere else, nothing inline, in nobody's frame.
POLICY: Final = (
    "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
#: ``same-origin`` and not ``no-referrer``: with that, a browser would send ``Origin: null`` with our own forms.
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), browsing-topics=()",
    "X-Robots-Tag": "noindex, nofollow, noimageai",
}
_STATUS: Final[dict[type[ConsoleError], int]] = {Refused: 409, NotFound: 404, Unavailable: 503}

P = ParamSpec("P")
R = TypeVar("R")


def create_app(parts: Parts) -> Flask:
    """The console over its rooms. Everything lies under ``/console``."""
    from abeyance.console.web import galleries, ledger, moratoria, proposals, review, signin

    app = Flask(__name__, static_url_path=f"{PREFIX}/static")
    app.secret_key = parts.key
    app.jinja_env.undefined = StrictUndefined
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.filters["spoken"] = lambda text: str(text).replace("_", " ")
    app.jinja_env.filters["one_in"] = meaning.one_in
    app.config.update(
        SESSION_COOKIE_NAME="abeyance_console",
        SESSION_COOKIE_PATH=PREFIX,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SECURE=parts.identity.secure,
        # Lax, because the way back from an identity provider is a navigation from elsewhere. Forms are POST.
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_REFRESH_EACH_REQUEST=False,
        PERMANENT_SESSION_LIFETIME=timedelta(hours=SESSION_HOURS),
        MAX_CONTENT_LENGTH=MAX_FORM,
        MAX_FORM_MEMORY_SIZE=MAX_FORM,
        SEND_FILE_MAX_AGE_DEFAULT=timedelta(hours=1),
    )
    app.extensions["console"] = parts
    for module in (signin, review, moratoria, proposals, ledger, galleries):
        app.register_blueprint(module.pages, url_prefix=PREFIX)
    app.add_url_rule(PREFIX, "start", _start)
    # Not a redirect to the other: an HTTP API may have taken the slash away.
    app.add_url_rule(f"{PREFIX}/", "start_slash", _start)
    app.before_request(_guard)
    app.after_request(_headers)
    app.context_processor(_frame)
    app.register_error_handler(ConsoleError, _told)
    app.register_error_handler(HTTPException, _http)
    return app


def parts() -> Parts:
    """The rooms of the application that serves this request."""
    return cast(Parts, current_app.extensions["console"])


def person() -> Person:
    """Who asks; ends the request with the sign-in page if nobody is signed in."""
    if g.person is None:
        abort(redirect(to("signin.page"), code=303))
    return cast(Person, g.person)


def needs(*rights: Right) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A page for those who have one of these rights; everybody else is refused, whatever they ask."""

    def wrap(view: Callable[P, R]) -> Callable[P, R]:
        @wraps(view)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            if not any(person().may(right) for right in rights):
                abort(403)
            return view(*args, **kwargs)

        guarded.rights = rights  # type: ignore[attr-defined]
        return guarded

    return wrap


def sign_in(who: Person) -> None:
    """Begin a session, leaving nothing of the one before."""
    session.clear()
    session.permanent = True
    session["person"] = [who.principal, who.name, [str(role) for role in who.roles]]
    session["csrf"] = secrets.token_urlsafe(32)


def _guard() -> None:
    """Before every request: from where, by whom, and if it changes something, from which page."""
    parts().identity.guard(request.remote_addr or "", request.host)
    g.person = _person()
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return
    origin = request.headers.get("Origin", "")
    site = request.headers.get("Sec-Fetch-Site", "same-origin")
    token = session.get("csrf", "")
    if (
        (origin and urlsplit(origin).netloc != request.host)
        or site not in ("same-origin", "none")
        or not token
        or not secrets.compare_digest(token.encode(), request.form.get("csrf", "").encode())
    ):
        abort(
            403,
            "This form does not come from a page of this session. Go back, reload the page and send it again.",
        )


def _person() -> Person | None:
    try:
        principal, name, roles = session["person"]
        return Person(principal=principal, name=name, roles=tuple(Role(role) for role in roles))
    except (KeyError, ValueError, TypeError):
        return None


def _headers(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    if parts().identity.secure:
        response.headers.setdefault("Strict-Transport-Security", "max-age=63072000; includeSubDomains")
    if request.endpoint != "static":
        response.headers["Cache-Control"] = "no-store"
    return response


def _frame() -> dict[str, Any]:
    """What the head of every page needs: who it is, what is theirs, and what is in force."""
    who = g.get("person")
    if who is None:
        return {
            "who": None,
            "rooms": [],
            "in_force": None,
            "flags_fault": "",
            "csrf": session.get("csrf", ""),
        }
    try:
        in_force, fault = parts().policy.in_force(), ""
    except Unavailable as error:
        in_force, fault = None, str(error)
    return {
        "who": who,
        "rooms": [(name, to(page)) for name, page, rights in ROOMS if any(map(who.may, rights))],
        "in_force": in_force,
        "flags_fault": fault,
        "csrf": session.get("csrf", ""),
    }


#: Name, first page, and who goes there.
ROOMS: Final = (
    ("Review", "review.queue", (Right.JUDGE, Right.OVERSEE_REVIEW)),
    ("Moratoria", "moratoria.overview", (Right.READ_POLICY,)),
    ("Proposals", "proposals.overview", (Right.READ_POLICY,)),
    ("Ledger", "ledger.search", (Right.READ_LEDGER,)),
    ("Galleries", "galleries.overview", (Right.READ_GALLERIES,)),
    ("Accuracy", "galleries.accuracy", (Right.READ_GALLERIES,)),
)


def _start() -> Response:
    who = person()
    first = next(page for _, page, rights in ROOMS if any(map(who.may, rights)))
    return cast(Response, redirect(to(first)))


def _told(error: ConsoleError) -> Response:
    status = _STATUS.get(type(error), 400)
    return make_response(render_template("message.html", title="Not done", message=str(error)), status)


def _http(error: HTTPException) -> Response | HTTPException:
    if error.code is None or error.code < 400:
        return error
    title = {403: "Not yours", 404: "Not here", 405: "Not this way", 413: "Too large"}.get(
        error.code, "Not done"
    )
    message = {
        403: "Your role does not include this.",
        404: "There is no such page.",
        500: "Something went wrong here. It is in the log. Nothing was released.",
    }.get(error.code, error.description or "")
    if error.code == 403 and error.description and "form" in error.description:
        message = error.description
    return make_response(render_template("message.html", title=title, message=message), error.code)
