"""The page of the brake: halt at once, alone; propose to take a halt off, for another person to approve."""

from __future__ import annotations

from flask import Blueprint, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from abeyance.console.roles import Right
from abeyance.console.web.context import requires, services, signed_in
from abeyance.moratorium.vocabulary import ACTIONS, SECTORS

pages = Blueprint("brake", __name__)


@pages.get("/brake")
@requires(Right.CHANGE_POLICY)
def overview() -> str:
    """Show the halts on the brake, and the form for one more."""
    policy = services().policy
    return render_template(
        "brake.html",
        halts=policy.brake(),
        sectors=sorted(SECTORS),
        actions=sorted(ACTIONS),
        places=sorted({tenant.jurisdiction for tenant in policy.tenants()}),
    )


@pages.post("/brake")
@requires(Right.CHANGE_POLICY)
def put_on() -> Response:
    """Halt at once."""
    place = request.form.get("place", "").strip()
    services().policy.halt(
        request.form.get("key", "").strip(),
        request.form.get("reason", "").strip()[:500],
        signed_in().token,
        sectors=request.form.getlist("sector"),
        actions=request.form.getlist("action"),
        jurisdictions=[place] if place else [],
    )
    return redirect(url_for("moratoria.overview", done=1), code=303)


@pages.post("/brake/<key>/release")
@requires(Right.CHANGE_POLICY)
def release(key: str) -> Response:
    """Propose to take a halt off the brake."""
    made = services().policy.release(key, request.form.get("note", "").strip()[:500], signed_in().token)
    return redirect(url_for("proposals.show", proposal_id=made.id), code=303)
