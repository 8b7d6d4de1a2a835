"""The pages of the ledger: search, one entry with its proof, verification, export."""

from __future__ import annotations

import json

import msgspec
from flask import Blueprint, Response, make_response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as Redirect

from abeyance.console.errors import NotFound, Unavailable
from abeyance.console.roles import Right
from abeyance.console.web.context import requires, services
from abeyance.ledger.errors import LedgerError
from abeyance.ledger.proofs import Proof, check_proof
from abeyance.ledger.query import Query, decision
from abeyance.moratorium.vocabulary import Action

pages = Blueprint("ledger", __name__)
_FIELDS = ("day", "tenant", "type", "outcome", "flag", "action")


@pages.get("/ledger")
@requires(Right.READ_LEDGER)
def search() -> str:
    """Show entries, newest first, and the state of the chain."""
    given = {name: request.args.get(name, "").strip() for name in _FIELDS}
    query = Query(**{name: value or None for name, value in given.items() if name != "action"})
    try:
        found = services().ledger.search(query, given["action"], request.args.get("before", 0, int))
        verification = services().ledger.verification()
    except LedgerError as error:
        raise Unavailable(str(error)) from None
    return render_template(
        "ledger.html",
        given=given,
        found=found,
        decisions={entry.seq: decision(entry) for entry in found.entries},
        verification=verification,
        actions=[str(action) for action in Action],
        older={**{name: value for name, value in given.items() if value}, "before": found.before},
    )


@pages.post("/ledger/verify")
@requires(Right.READ_LEDGER)
def verify() -> Redirect:
    """Verify every entry now."""
    services().ledger.verify()
    return redirect(url_for("ledger.search"), code=303)


@pages.get("/ledger/<int:seq>")
@requires(Right.READ_LEDGER)
def entry(seq: int) -> str:
    """Show one entry, and check a proof that it is on the ledger."""
    found = services().ledger.entry(seq)
    fault, report = "", None
    try:
        report = check_proof(msgspec.json.encode(_proof(seq)))
    except (LedgerError, NotFound) as error:
        fault = str(error)
    return render_template(
        "entry.html",
        entry=found,
        body=json.dumps(found.body, indent=2, ensure_ascii=False, sort_keys=True),
        report=report,
        fault=fault,
    )


@pages.get("/ledger/<int:seq>/proof.json")
@requires(Right.READ_LEDGER)
def proof(seq: int) -> Response:
    """Send the proof as a file that anybody can check with ``abeyance ledger verify --proof``."""
    try:
        body = msgspec.json.encode(_proof(seq))
    except LedgerError as error:
        raise Unavailable(str(error)) from None
    return _file(make_response(body), f"abeyance-entry-{seq}.proof.json", "application/json")


@pages.get("/ledger/export")
@requires(Right.READ_LEDGER)
def export() -> Response:
    """Send the whole ledger as one file."""
    return _file(Response(services().ledger.export()), "abeyance-ledger.jsonl", "application/x-ndjson")


def _proof(seq: int) -> Proof:
    return services().ledger.proof(services().ledger.entry(seq))


def _file(response: Response, name: str, kind: str) -> Response:
    response.headers["Content-Type"] = kind
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response
