"""The context of a request: the services, the signed-in person, and the rights that a page requires."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar, cast

import msgspec
from flask import abort, current_app, g, redirect, session, url_for

from abeyance.console.error_rates import MeasuredErrorRates
from abeyance.console.galleries import GalleryService
from abeyance.console.identity import IdentityProvider
from abeyance.console.ledger import LedgerService
from abeyance.console.pictures import Pictures
from abeyance.console.policy import PolicyService
from abeyance.console.reviews import ReviewService
from abeyance.console.roles import Person, Right, Role
from abeyance.curation.decisions import Curation

P = ParamSpec("P")
R = TypeVar("R")


class ConsoleServices(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the pages work with.

    Attributes
    ----------
    session_key
        Signs the session cookies.
    error_rates
        Returns those of the model in use.
    accuracy_report
        The HTML file that ``abeyance audit`` wrote, if there is one.
    """

    identity: IdentityProvider
    session_key: bytes
    reviews: ReviewService
    pictures: Pictures
    policy: PolicyService
    ledger: LedgerService
    galleries: GalleryService
    curation: Curation
    error_rates: Callable[[], MeasuredErrorRates]
    accuracy_report: Path | None = None


def services() -> ConsoleServices:
    """Return the services of the application that serves this request."""
    return cast(ConsoleServices, current_app.extensions["console"])


def signed_in() -> Person:
    """Return the person who asks; redirect to the sign-in page if nobody is signed in."""
    if g.person is None:
        abort(redirect(url_for("signin.page"), code=303))
    return cast(Person, g.person)


def requires(*rights: Right) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a page that requires one of these rights; everybody else gets status 403."""

    def decorate(view: Callable[P, R]) -> Callable[P, R]:
        @wraps(view)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            if not any(map(signed_in().may, rights)):
                abort(403)
            return view(*args, **kwargs)

        guarded.rights = rights  # type: ignore[attr-defined]
        return guarded

    return decorate


def start_session(person: Person) -> None:
    """Replace the session by a new one of this person."""
    session.clear()
    session.permanent = True
    session["person"] = [person.principal, person.name, [str(role) for role in person.roles], person.token]
    session["csrf"] = secrets.token_urlsafe(32)


def session_person() -> Person | None:
    """Return the person in the session cookie; None without a valid one."""
    try:
        principal, name, roles, token = session["person"]
        return Person(principal=principal, name=name, roles=tuple(Role(role) for role in roles), token=token)
    except (KeyError, ValueError, TypeError):
        return None
