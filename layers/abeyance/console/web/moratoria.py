"""The pages of moratoria: the list, the timeline, and the explanation of one request."""

from __future__ import annotations

from datetime import timedelta

from flask import Blueprint, Response, make_response, render_template, request

from abeyance.aws.timestamps import later, parse_moment
from abeyance.console.errors import RequestRefused, Unavailable
from abeyance.console.policy import summarize
from abeyance.console.roles import Right
from abeyance.console.web.context import requires, services
from abeyance.moratorium import timeline
from abeyance.moratorium.boundaries import boundaries
from abeyance.moratorium.vocabulary import Action

pages = Blueprint("moratoria", __name__)
#: Starts and ends are shown up to this time ahead.
SHOWN_AHEAD = timedelta(days=366)
#: Fields of the form for an explanation.
_FIELDS = ("tenant", "action", "place", "purpose", "at")


@pages.get("/moratoria")
@requires(Right.READ_POLICY)
def overview() -> str:
    """Show every moratorium, the next starts and ends, and the form for an explanation."""
    policy = services().policy
    try:
        flags = policy.flags()
    except Unavailable:
        return render_template("moratoria.html", flags=None, **_form())
    now = policy.now()
    return render_template(
        "moratoria.html",
        flags=[summarize(flag, now) for flag in flags.flags],
        disabled=flags.disabled,
        version=flags.version,
        spans=timeline.spans(flags),
        upcoming=[one for one in boundaries(flags, now, later(now, SHOWN_AHEAD)) if not one.lead_seconds],
        **_form(),
    )


@pages.get("/moratoria/timeline.svg")
@requires(Right.READ_POLICY)
def picture() -> Response:
    """Send the timeline as a picture."""
    policy = services().policy
    found, now = timeline.spans(policy.flags()), policy.now()
    response = make_response(timeline.svg(found, *timeline.window(found, now), now))
    response.headers["Content-Type"] = "image/svg+xml"
    return response


@pages.get("/moratoria/explain")
@requires(Right.READ_POLICY)
def explain() -> str:
    """Decide one request and show the reasons."""
    given = {name: request.args.get(name, "").strip() for name in _FIELDS}
    try:
        at = parse_moment(given["at"]) if given["at"] else services().policy.now()
    except ValueError:
        raise RequestRefused("Write a date like this: 2020-06-10.") from None
    decision, sentences = services().policy.explain(
        given["tenant"], given["action"], given["purpose"] or "unspecified", given["place"], at
    )
    return render_template("explain.html", decision=decision, sentences=sentences, **_form(given))


@pages.get("/moratoria/prove")
@requires(Right.READ_POLICY)
def prove() -> str:
    """Prove a claim, or show its smallest counterexample."""
    claim = request.args.get("claim", "").strip()
    proof, sentences = services().policy.prove(claim)
    return render_template(
        "proof.html",
        proof=proof,
        sentences=sentences,
        **_form({"claim": claim}),
    )


def _form(given: dict[str, str] | None = None) -> dict[str, object]:
    return {
        "tenants": services().policy.tenants(),
        "actions": [str(action) for action in Action],
        "given": {**dict.fromkeys((*_FIELDS, "claim"), ""), **(given or {})},
    }
