"""The pages of proposals: draft, see the effect, propose, approve as another person."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from flask import Blueprint, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from abeyance.console.policy import Draft
from abeyance.console.roles import Right
from abeyance.console.web.context import requires, services, signed_in
from abeyance.moratorium.client import ChangeClient
from abeyance.moratorium.presets import presets
from abeyance.moratorium.subjects import FlagsChange, GuardrailsChange

pages = Blueprint("proposals", __name__)


@pages.get("/proposals")
@requires(Right.READ_POLICY)
def overview() -> str:
    """Show every proposal, and the ways to start a draft."""
    policy = services().policy
    document = policy.document()
    return render_template(
        "proposals.html",
        proposals=list(reversed(policy.changes.all())),
        switches=[(key, value["enabled"]) for key, value in sorted(document["values"].items())],
        presets=presets(),
        may_change=signed_in().may(Right.CHANGE_POLICY),
    )


@pages.get("/proposals/new")
@requires(Right.CHANGE_POLICY)
def new() -> str:
    """Show a draft: the deployed document, with one change if the address asks for one."""
    policy = services().policy
    if key := request.args.get("switch", ""):
        document = policy.switched(key, request.args.get("on") == "1")
    elif preset := request.args.get("preset", ""):
        document = policy.with_preset(preset)
    else:
        document = policy.document()
    return _draft(policy.assess(document), _json(document))


@pages.post("/proposals/preview")
@requires(Right.CHANGE_POLICY)
def preview() -> str:
    """Show the effect of an edited draft."""
    text = request.form.get("document", "")
    return _draft(services().policy.draft(text), text)


@pages.post("/proposals")
@requires(Right.CHANGE_POLICY)
def submit() -> Response:
    """Propose the document, or deploy it now if it only tightens."""
    made = services().policy.submit(
        request.form.get("document", ""),
        signed_in().token,
        request.form.get("note", "").strip()[:500],
        at_once=request.form.get("do") == "at_once",
    )
    if made.state == "applied":
        return redirect(url_for("moratoria.overview", done=1), code=303)
    return redirect(url_for("proposals.show", proposal_id=made.id), code=303)


@pages.get("/proposals/<proposal_id>")
@requires(Right.READ_POLICY)
def show(proposal_id: str) -> str:
    """Show one proposal: its effect, the guardrails that it was checked against, and who agreed."""
    policy = services().policy
    proposal = policy.changes.get(proposal_id)
    return render_template(
        "proposal.html",
        proposal=proposal,
        state=proposal.state_at(policy.now().timestamp()),
        draft=policy.assess(proposal.change.document)
        if proposal.state == "proposed" and isinstance(proposal.change, FlagsChange)
        else None,
        guardrails=policy.assess_guardrails(proposal.change.document)
        if proposal.state == "proposed" and isinstance(proposal.change, GuardrailsChange)
        else None,
        text=_json(msgspec.to_builtins(proposal.change)),
        may_change=signed_in().may(Right.CHANGE_POLICY),
        own=signed_in().principal in [one.principal for one in proposal.agreements],
    )


@pages.post("/proposals/<proposal_id>/approve")
@requires(Right.CHANGE_POLICY)
def approve(proposal_id: str) -> Response:
    """Approve exactly the change that was on the page."""
    _changes().approve(proposal_id, request.form.get("digest", ""))
    return redirect(url_for("proposals.show", proposal_id=proposal_id), code=303)


@pages.post("/proposals/<proposal_id>/retry")
@requires(Right.CHANGE_POLICY)
def retry(proposal_id: str) -> Response:
    """Deploy an approved proposal again whose deployment failed."""
    _changes().retry(proposal_id)
    return redirect(url_for("proposals.show", proposal_id=proposal_id), code=303)


@pages.post("/proposals/<proposal_id>/withdraw")
@requires(Right.CHANGE_POLICY)
def withdraw(proposal_id: str) -> Response:
    """Close a proposal."""
    _changes().withdraw(proposal_id)
    return redirect(url_for("proposals.show", proposal_id=proposal_id), code=303)


def _changes() -> ChangeClient:
    """Return the change service for the person who is signed in."""
    return services().policy.changes.on_behalf_of(signed_in().token)


def _draft(draft: Draft, text: str) -> str:
    return render_template("draft.html", draft=draft, text=text)


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False)
