"""Moratoria: what is in force, the timeline, and why a request would be permitted or not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from flask import Blueprint, Response, make_response, render_template, request

from abeyance.console.errors import Refused, Unavailable
from abeyance.console.people import Right
from abeyance.console.policy import in_words
from abeyance.console.web.app import needs, parts
from abeyance.moratorium import timeline
from abeyance.moratorium.boundaries import boundaries
from abeyance.moratorium.vocabulary import Action

pages = Blueprint("moratoria", __name__)
#: Days ahead of which starts and ends are shown.
AHEAD = timedelta(days=366)


@pages.get("/moratoria")
@needs(Right.READ_POLICY)
def overview() -> str:
    """Every moratorium, what comes next, and the form that explains."""
    policy = parts().policy
    try:
        flags = policy.flags()
    except Unavailable:
        return render_template("moratoria.html", flags=None, **_form())
    now = policy.now()
    return render_template(
        "moratoria.html",
        flags=[in_words(flag, now) for flag in flags.flags],
        disabled=flags.disabled,
        version=flags.version,
        spans=timeline.spans(flags),
        upcoming=[one for one in boundaries(flags, now, now + AHEAD) if not one.lead_seconds],
        **_form(),
    )


@pages.get("/moratoria/timeline.svg")
@needs(Right.READ_POLICY)
def picture() -> Response:
    """The timeline."""
    policy = parts().policy
    found, now = timeline.spans(policy.flags()), policy.now()
    response = make_response(timeline.svg(found, *timeline.window(found, now), now))
    response.headers["Content-Type"] = "image/svg+xml"
    return response


@pages.get("/moratoria/explain")
@needs(Right.READ_POLICY)
def explain() -> str:
    """One request, decided and put into words."""
    given = {
        name: request.args.get(name, "").strip() for name in ("tenant", "action", "place", "purpose", "at")
    }
    try:
        at = datetime.fromisoformat(given["at"]) if given["at"] else parts().policy.now()
    except ValueError:
        raise Refused("A date is written 2020-06-10.") from None
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
    decision, sentences = parts().policy.explain(
        given["tenant"], given["action"], given["purpose"] or "unspecified", given["place"], at
    )
    return render_template("explain.html", decision=decision, sentences=sentences, **_form(given))


def _form(given: dict[str, str] | None = None) -> dict[str, object]:
    return {
        "tenants": parts().policy.tenants(),
        "actions": [str(action) for action in Action],
        "given": given or dict.fromkeys(("tenant", "action", "place", "purpose", "at"), ""),
    }
