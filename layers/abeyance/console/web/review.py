"""The pages of review: the queue, one comparison, a judgement, a closed review."""

from __future__ import annotations

from datetime import UTC, datetime

from flask import Blueprint, Response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as Redirect

from abeyance.console import error_rates
from abeyance.console.errors import RequestRefused
from abeyance.console.roles import Right
from abeyance.console.web.context import requires, services, signed_in
from abeyance.console.web.sending import send_chip
from abeyance.pipeline.review_cases import MAX_NOTE_CHARACTERS, Ground, Verdict

pages = Blueprint("review", __name__)


@pages.get("/review")
@requires(Right.JUDGE, Right.OVERSEE_REVIEW)
def queue() -> str:
    """Show the length of the queue; to those who oversee, each review, without pictures and names."""
    oversees, reviews = signed_in().may(Right.OVERSEE_REVIEW), services().reviews
    open_reviews = reviews.open_reviews()
    return render_template(
        "queue.html",
        judges=signed_in().may(Right.JUDGE),
        oversees=oversees,
        waiting=sum(not case.closed for _, cases in open_reviews for case in cases),
        open_reviews=open_reviews if oversees else [],
        closed_reviews=reviews.closed_reviews() if oversees else [],
    )


@pages.post("/review/next")
@requires(Right.JUDGE)
def take() -> Redirect:
    """Claim the next comparison."""
    for _ in range(3):
        try:
            found = services().reviews.next_comparison(signed_in())
        except RequestRefused:  # Another reviewer claimed it first; there may be another one.
            continue
        if found is None:
            break
        address = url_for("review.compare", identity=found.review.identity, number=found.case.number)
        return redirect(address, code=303)
    return redirect(url_for("review.queue", none=1), code=303)


@pages.get("/review/<identity>/<int:number>")
@requires(Right.JUDGE)
def compare(identity: str, number: int) -> str:
    """Show the two faces. Names, places and purposes are not on this page."""
    found = services().reviews.comparison(signed_in(), identity, number)
    return render_template(
        "compare.html",
        identity=identity,
        case=found.case,
        until=datetime.fromtimestamp(found.until, UTC),
        meaning=error_rates.describe(found.case.similarity, services().error_rates().points),
        grounds=list(Ground),
        max_note=MAX_NOTE_CHARACTERS,
    )


@pages.get("/review/<identity>/<int:number>/<any(probe, candidate):which>.png")
@requires(Right.JUDGE)
def picture(identity: str, number: int, which: str) -> Response:
    """Send one of the two chips to the reviewer who holds the comparison, and to nobody else."""
    found = services().reviews.comparison(signed_in(), identity, number)
    upload = found.review.waiting.upload
    if which == "probe":
        chip = services().pictures.probe(upload, found.case.chip)
    else:
        faces = services().reviews.candidates(upload, [found.case.face_id])
        chip = services().pictures.candidate(faces[0]) if faces else None
    return send_chip(chip)


@pages.post("/review/<identity>/<int:number>/judge")
@requires(Right.JUDGE)
def judge(identity: str, number: int) -> Redirect:
    """Take the judgement and claim the next comparison."""
    try:
        verdict, ground = Verdict(request.form.get("verdict", "")), Ground(request.form.get("ground", ""))
    except ValueError:
        raise RequestRefused("Choose same, different or cannot tell, and choose a reason.") from None
    services().reviews.judge(
        signed_in(), identity, number, verdict, ground, request.form.get("note", "").strip()
    )
    return take()


@pages.post("/review/<identity>/<int:number>/back")
@requires(Right.JUDGE)
def release(identity: str, number: int) -> Redirect:
    """Return the comparison to the queue without a judgement."""
    services().reviews.release(signed_in(), identity, number)
    return redirect(url_for("review.queue"), code=303)


@pages.get("/review/<identity>")
@requires(Right.OVERSEE_REVIEW)
def outcome(identity: str) -> str:
    """Show a closed review and its judgements; the reviewers are pseudonyms."""
    review, cases = services().reviews.closed_review(identity)
    return render_template("outcome.html", review=review, cases=cases)
