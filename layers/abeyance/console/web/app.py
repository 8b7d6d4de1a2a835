"""The WSGI application: sessions, forgery protection, headers and errors. The pages are in the modules beside it."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Any, Final, cast
from urllib.parse import urlsplit

from flask import (
    Flask,
    Response,
    abort,
    g,
    make_response,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from jinja2 import StrictUndefined
from werkzeug.exceptions import HTTPException

from abeyance.console import error_rates
from abeyance.console.errors import ConsoleError, NotFound, RequestRefused, Unavailable
from abeyance.console.roles import Right
from abeyance.console.web import brake, galleries, ledger, moratoria, proposals, review, signin, users
from abeyance.console.web.context import ConsoleServices, services, session_person, signed_in
from abeyance.curation.decisions import CurationRefused
from abeyance.moratorium.errors import MoratoriumError

PREFIX: Final = "/console"
#: A session ends after this time, used or not.
SESSION_HOURS: Final = 8
#: The largest form holds a flags document and a note.
MAX_FORM_BYTES: Final = 2 << 20
#: Nothing from another origin, nothing inline, no frame.
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
#: The referrer policy is ``same-origin``: with ``no-referrer`` a browser sends ``Origin: null`` with our own forms.
HEADERS: Final = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), browsing-topics=()",
    "X-Robots-Tag": "noindex, nofollow, noimageai",
}
#: Title, first page, and the rights of which one is required.
SECTIONS: Final = (
    ("Review", "review.queue", (Right.JUDGE, Right.OVERSEE_REVIEW)),
    ("Moratoria", "moratoria.overview", (Right.READ_POLICY,)),
    ("Proposals", "proposals.overview", (Right.READ_POLICY,)),
    ("Ledger", "ledger.search", (Right.READ_LEDGER,)),
    ("Galleries", "galleries.overview", (Right.READ_GALLERIES,)),
    ("Accuracy", "galleries.accuracy", (Right.READ_GALLERIES,)),
)
_STATUS: Final[dict[type[Exception], int]] = {RequestRefused: 409, NotFound: 404, Unavailable: 503}
_TITLES: Final = {403: "Not allowed", 404: "Not found", 405: "Not allowed", 413: "Too large"}
_MESSAGES: Final = {
    404: "There is no such page.",
    500: "An error occurred. The log has the details. Nothing was released.",
}


def create_app(console: ConsoleServices) -> Flask:
    """Return the console over its services. Every address is below ``/console``."""
    app = Flask(__name__, static_url_path=f"{PREFIX}/static")
    app.secret_key = console.session_key
    app.jinja_env.undefined = StrictUndefined
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.filters["spoken"] = lambda text: str(text).replace("_", " ")
    app.jinja_env.filters["minute"] = lambda time: time[:16].replace("T", " ")
    app.jinja_env.filters["one_in"] = error_rates.one_in
    app.config.update(
        SESSION_COOKIE_NAME="abeyance_console",
        SESSION_COOKIE_PATH=PREFIX,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SECURE=console.identity.secure,
        # Lax, because the way back from an identity provider is a navigation from another site. Forms are POST.
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_REFRESH_EACH_REQUEST=False,
        PERMANENT_SESSION_LIFETIME=timedelta(hours=SESSION_HOURS),
        MAX_CONTENT_LENGTH=MAX_FORM_BYTES,
        MAX_FORM_MEMORY_SIZE=MAX_FORM_BYTES,
        SEND_FILE_MAX_AGE_DEFAULT=timedelta(hours=1),
    )
    app.extensions["console"] = console
    app.url_map.converters["collection"] = galleries.CollectionConverter
    for module in (signin, review, moratoria, brake, proposals, ledger, galleries, users):
        app.register_blueprint(module.pages, url_prefix=PREFIX)
    app.add_url_rule(PREFIX, "start", _start)
    # Not a redirect to the other: an HTTP API may have removed the slash.
    app.add_url_rule(f"{PREFIX}/", "start_slash", _start)
    app.before_request(_check_request)
    app.after_request(_add_headers)
    app.context_processor(_header_context)
    app.register_error_handler(ConsoleError, _console_error)
    app.register_error_handler(MoratoriumError, _console_error)
    app.register_error_handler(CurationRefused, _console_error)
    app.register_error_handler(HTTPException, _http_error)
    return app


def _check_request() -> None:
    """Check the client address, read the session, and refuse a form that is not from a page of this session."""
    services().identity.guard(request.remote_addr or "", request.host)
    g.person = session_person()
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
        g.forged = True
        abort(403)


def _add_headers(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    if services().identity.secure:
        response.headers.setdefault("Strict-Transport-Security", "max-age=63072000; includeSubDomains")
    if request.endpoint != "static":
        response.headers["Cache-Control"] = "no-store"
    return response


def _header_context() -> dict[str, Any]:
    """Return the variables of every page's header: the person, their sections, and the moratoria in force."""
    person, in_force, flags_fault = g.get("person"), None, ""
    if person is not None:
        try:
            in_force = services().policy.in_force()
        except Unavailable as error:
            flags_fault = str(error)
    return {
        "person": person,
        "sections": [
            (title, url_for(page))
            for title, page, rights in SECTIONS
            if person is not None and any(map(person.may, rights))
        ],
        "in_force": in_force,
        "flags_fault": flags_fault,
        "csrf": session.get("csrf", ""),
    }


def _start() -> Response:
    person = signed_in()
    first = next(page for _, page, rights in SECTIONS if any(map(person.may, rights)))
    return cast(Response, redirect(url_for(first)))


def _message(title: str, message: str, status: int) -> Response:
    return make_response(render_template("message.html", title=title, message=message), status)


def _console_error(error: Exception) -> Response:
    return _message("Not done", str(error), _STATUS.get(type(error), 409))


def _http_error(error: HTTPException) -> Response | HTTPException:
    if error.code is None or error.code < 400:
        return error
    message = _MESSAGES.get(error.code, error.description or "")
    if error.code == 403:
        message = (
            "This form is not from a page of this session. Go back, reload the page and send it again."
            if g.get("forged")
            else "Your role does not include this."
        )
    return _message(_TITLES.get(error.code, "Not done"), message, error.code)
