"""The pages of the ledger: search, one entry with its receipt, verification, export in pieces."""

from __future__ import annotations

import json

from flask import Blueprint, Response, make_response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as Redirect

from abeyance.console.errors import Unavailable
from abeyance.console.roles import Right
from abeyance.console.web.context import requires, services
from abeyance.ledger.errors import LedgerCorrupt, LedgerError
from abeyance.ledger.query import Query, decision
from abeyance.ledger.receipts import check_receipt
from abeyance.moratorium.vocabulary import Action

pages = Blueprint("ledger", __name__)
_FIELDS = ("id", "day", "tenant", "type", "outcome", "flag", "action")


@pages.get("/ledger")
@requires(Right.READ_LEDGER)
def search() -> str:
    """Show entries, newest first, and the state of the log."""
    given = {name: request.args.get(name, "").strip() for name in _FIELDS}
    query = Query(**{name: value or None for name, value in given.items()})
    try:
        found = services().ledger.search(query, max(0, request.args.get("before", 0, int)))
        verification = services().ledger.verification()
    except LedgerError as error:
        raise Unavailable(str(error)) from None
    return render_template(
        "ledger.html",
        given=given,
        found=found,
        decisions={entry.index: decision(entry) for entry in found.entries},
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


@pages.get("/ledger/<int:index>")
@requires(Right.READ_LEDGER)
def entry(index: int) -> str:
    """Show one entry, and check a receipt that it is on the log."""
    ledger = services().ledger
    fault, report = "", None
    try:
        found = ledger.entry(index)
        receipt = ledger.receipt(index)
        report = check_receipt(str(receipt), ledger.policy(receipt.checkpoint.origin))
    except LedgerCorrupt as error:
        raise Unavailable(str(error)) from None
    except LedgerError as error:
        fault = str(error)
    return render_template(
        "entry.html",
        entry=found,
        body=json.dumps(found.body, indent=2, ensure_ascii=False, sort_keys=True),
        report=report,
        fault=fault,
    )


@pages.get("/ledger/<int:index>.tlog-proof")
@requires(Right.READ_LEDGER)
def receipt(index: int) -> Response:
    """Send the receipt as a file that anybody can check (C2SP tlog-proof)."""
    ledger = services().ledger
    ledger.entry(index)
    try:
        body = str(ledger.receipt(index)).encode()
    except LedgerError as error:
        raise Unavailable(str(error)) from None
    return _file(make_response(body), f"abeyance-entry-{index}.tlog-proof", "text/plain; charset=utf-8")


@pages.get("/ledger/export/<int:piece>")
@requires(Right.READ_LEDGER)
def export(piece: int) -> Response:
    """Send a piece of the log as a zip file; the pieces unpacked into one folder are the log."""
    try:
        body = services().ledger.export(piece)
    except LedgerError as error:
        raise Unavailable(str(error)) from None
    return _file(Response(body), f"abeyance-ledger-{piece:06d}.zip", "application/zip")


def _file(response: Response, name: str, kind: str) -> Response:
    response.headers["Content-Type"] = kind
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response
