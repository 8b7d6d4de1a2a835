"""Reviewing: the queue, one comparison, a judgement."""

from __future__ import annotations

from datetime import UTC, datetime

from flask import Blueprint, Response, abort, make_response, redirect, render_template, request
from flask import url_for as to
from werkzeug.wrappers import Response as Plain

from abeyance.console import meaning
from abeyance.console.cases import MAX_NOTE, Ground, Verdict
from abeyance.console.errors import NotFound, Refused
from abeyance.console.people import Right
from abeyance.console.pictures import png
from abeyance.console.web.app import needs, parts, person

pages = Blueprint("review", __name__)


@pages.get("/review")
@needs(Right.JUDGE, Right.OVERSEE_REVIEW)
def queue() -> str:
    """How much waits; for those who oversee, each review, without pictures and names."""
    oversees, desk = person().may(Right.OVERSEE_REVIEW), parts().desk
    standing = desk.standing()
    return render_template(
        "queue.html",
        judges=person().may(Right.JUDGE),
        oversees=oversees,
        waiting=sum(not case.settled for _, found in standing for case in found),
        standing=standing if oversees else [],
        closed=desk.closed() if oversees else [],
    )


@pages.post("/review/next")
@needs(Right.JUDGE)
def take() -> Plain:
    """Claim the next comparison."""
    for _ in range(3):
        try:
            given = parts().desk.next(person())
        except Refused:  # somebody was quicker; there may be another
            continue
        if given is None:
            break
        return redirect(to("review.compare", identity=given.identity, number=given.case.number), code=303)
    return redirect(to("review.queue", none=1), code=303)


@pages.get("/review/<identity>/<int:number>")
@needs(Right.JUDGE)
def compare(identity: str, number: int) -> str:
    """The two faces. What they are called, where they are from and what for is not on this page."""
    _, case = parts().desk.held(person(), identity, number)
    alias = parts().desk.alias(person())
    until = max(claim.until for claim in case.claims if claim.reviewer == alias)
    return render_template(
        "compare.html",
        identity=identity,
        case=case,
        until=datetime.fromtimestamp(until, UTC),
        meaning=meaning.words(case.similarity, parts().scale().anchors),
        verdicts=list(Verdict),
        grounds=list(Ground),
        max_note=MAX_NOTE,
    )


@pages.get("/review/<identity>/<int:number>/<any(probe, candidate):which>.png")
@needs(Right.JUDGE)
def picture(identity: str, number: int, which: str) -> Response:
    """One of the two chips, for whoever holds the comparison and nobody else."""
    review, case = parts().desk.held(person(), identity, number)
    upload = review.waiting.upload
    if which == "probe":
        chip = parts().pictures.probe(upload, case.chip)
    else:
        faces = parts().desk.faces(upload, [case.face_id])
        chip = parts().pictures.candidate(faces[0]) if faces else None
    if chip is None:
        abort(404)
    response = make_response(png(chip))
    response.headers["Content-Type"] = "image/png"
    return response


@pages.post("/review/<identity>/<int:number>/judge")
@needs(Right.JUDGE)
def judge(identity: str, number: int) -> Plain:
    """A judgement, and on to the next comparison."""
    try:
        verdict, ground = Verdict(request.form.get("verdict", "")), Ground(request.form.get("ground", ""))
    except ValueError:
        raise Refused("Say same, different or cannot tell, and choose a reason.") from None
    parts().desk.judge(person(), identity, number, verdict, ground, request.form.get("note", "").strip())
    return take()


@pages.post("/review/<identity>/<int:number>/back")
@needs(Right.JUDGE)
def put_back(identity: str, number: int) -> Plain:
    """Give it back unjudged."""
    parts().desk.put_back(person(), identity, number)
    return redirect(to("review.queue"), code=303)


@pages.get("/review/<identity>")
@needs(Right.OVERSEE_REVIEW)
def outcome(identity: str) -> str:
    """A closed review, judgement by judgement: who (as a pseudonym), what, why."""
    for review, found in parts().desk.closed(500):
        if review.identity == identity:
            return render_template("outcome.html", review=review, cases=found)
    raise NotFound("There is no closed review of this name.")
