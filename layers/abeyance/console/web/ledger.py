"""The ledger: search, one entry with its proof, verification, export."""

from __future__ import annotations

import json

import msgspec
from flask import Blueprint, Response, make_response, redirect, render_template, request
from flask import url_for as to
from werkzeug.wrappers import Response as Plain

from abeyance.console.books import LedgerError
from abeyance.console.errors import NotFound, Unavailable
from abeyance.console.people import Right
from abeyance.console.web.app import needs, parts
from abeyance.ledger.proofs import Proof, check_proof
from abeyance.ledger.query import Query, decision
from abeyance.moratorium.vocabulary import Action

pages = Blueprint("ledger", __name__)
_ASKED = ("day", "tenant", "type", "outcome", "flag", "action")


@pages.get("/ledger")
@needs(Right.READ_LEDGER)
def search() -> str:
    """Entries, newest first, and the state of the chain."""
    given = {name: request.args.get(name, "").strip() for name in _ASKED}
    query = Query(**{name: value or None for name, value in given.items() if name != "action"})
    try:
        found = parts().books.search(query, given["action"], request.args.get("before", 0, int))
        verification = parts().books.verification()
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
@needs(Right.READ_LEDGER)
def verify() -> Plain:
    """Verify every entry now."""
    parts().books.verify()
    return redirect(to("ledger.search"), code=303)


@pages.get("/ledger/<int:seq>")
@needs(Right.READ_LEDGER)
def entry(seq: int) -> str:
    """One entry, and a proof that it is on the ledger, checked here once more."""
    found = parts().books.entry(seq)
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
@needs(Right.READ_LEDGER)
def proof(seq: int) -> Response:
    """The proof as a file that anybody can check: ``abeyance ledger verify --proof``."""
    try:
        body = msgspec.json.encode(_proof(seq))
    except LedgerError as error:
        raise Unavailable(str(error)) from None
    return _file(make_response(body), f"abeyance-entry-{seq}.proof.json", "application/json")


@pages.get("/ledger/export")
@needs(Right.READ_LEDGER)
def export() -> Response:
    """The whole ledger as one file."""
    return _file(Response(parts().books.export()), "abeyance-ledger.jsonl", "application/x-ndjson")


def _proof(seq: int) -> Proof:
    return parts().books.proof(parts().books.entry(seq))


def _file(response: Response, name: str, kind: str) -> Response:
    response.headers["Content-Type"] = kind
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response
