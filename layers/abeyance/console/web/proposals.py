"""Proposals: draft, look at what it would do, propose, approve as somebody else."""

from __future__ import annotations

import json

from flask import Blueprint, redirect, render_template, request
from flask import url_for as to
from werkzeug.wrappers import Response

from abeyance.console.people import Right
from abeyance.console.policy import Draft
from abeyance.console.web.app import needs, parts, person
from abeyance.moratorium.presets import presets
from abeyance.moratorium.proposals import Proposal

pages = Blueprint("proposals", __name__)


@pages.get("/proposals")
@needs(Right.READ_POLICY)
def overview() -> str:
    """Every proposal, and ways to begin one."""
    policy = parts().policy
    document = policy.document()
    return render_template(
        "proposals.html",
        proposals=list(reversed(policy.proposals.all())),
        switches=[(key, value["enabled"]) for key, value in sorted(document["values"].items())],
        presets=presets(),
        changes=person().may(Right.CHANGE_POLICY),
    )


@pages.get("/proposals/new")
@needs(Right.CHANGE_POLICY)
def new() -> str:
    """A draft: the document in force, with one thing changed if that was asked for."""
    policy = parts().policy
    if key := request.args.get("switch", ""):
        return _draft(policy.look_at(policy.switched(key, request.args.get("on") == "1")))
    if preset := request.args.get("preset", ""):
        return _draft(policy.look_at(policy.with_preset(preset)))
    return _draft(policy.look_at(policy.document()))


@pages.post("/proposals/look")
@needs(Right.CHANGE_POLICY)
def look() -> str:
    """A draft as it was edited."""
    text = request.form.get("document", "")
    return _draft(parts().policy.draft(text), text)


@pages.post("/proposals")
@needs(Right.CHANGE_POLICY)
def submit() -> Response:
    """Propose, or tighten at once."""
    made = parts().policy.submit(
        request.form.get("document", ""),
        person().principal,
        request.form.get("note", "").strip()[:500],
        at_once=request.form.get("do") == "at_once",
    )
    if made is None:
        return redirect(to("moratoria.overview", done=1), code=303)
    return redirect(to("proposals.show", proposal_id=made.id), code=303)


@pages.get("/proposals/<proposal_id>")
@needs(Right.READ_POLICY)
def show(proposal_id: str) -> str:
    """One proposal: what it would do, and the two who answer for it."""
    policy = parts().policy
    proposal = policy.proposal(proposal_id)
    return render_template(
        "proposal.html",
        proposal=proposal,
        draft=policy.look_at(proposal.document) if proposal.state == "proposed" else None,
        text=_text(proposal),
        changes=person().may(Right.CHANGE_POLICY),
        own=proposal.proposer == person().principal,
    )


@pages.post("/proposals/<proposal_id>/approve")
@needs(Right.CHANGE_POLICY)
def approve(proposal_id: str) -> Response:
    """As another principal, for exactly the document that was looked at."""
    parts().policy.approve(proposal_id, person().principal, request.form.get("digest", ""))
    return redirect(to("proposals.show", proposal_id=proposal_id), code=303)


@pages.post("/proposals/<proposal_id>/resume")
@needs(Right.CHANGE_POLICY)
def resume(proposal_id: str) -> Response:
    """Deploy again what two have agreed to, and what did not come into force."""
    parts().policy.resume(proposal_id)
    return redirect(to("proposals.show", proposal_id=proposal_id), code=303)


@pages.post("/proposals/<proposal_id>/withdraw")
@needs(Right.CHANGE_POLICY)
def withdraw(proposal_id: str) -> Response:
    """Close it."""
    parts().policy.withdraw(proposal_id, person().principal)
    return redirect(to("proposals.show", proposal_id=proposal_id), code=303)


def _draft(draft: Draft, text: str = "") -> str:
    text = text or json.dumps(draft.document, indent=2, ensure_ascii=False)
    return render_template("draft.html", draft=draft, text=text)


def _text(proposal: Proposal) -> str:
    return json.dumps(proposal.document, indent=2, ensure_ascii=False)
