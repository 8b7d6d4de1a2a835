"""The pages for people outside, self-contained: of a certificate, with its verifier, and of what is in force."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from html import escape
from importlib import resources
from typing import Any, Final

import jinja2

from abeyance.assurance import words
from abeyance.assurance.certificate import REQUESTS
from abeyance.assurance.files import CertificateFile
from abeyance.aws.timestamps import parse_moment
from abeyance.ledger.checkpoint import parse_note
from abeyance.ledger.signatures import cosigned_at

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 720, 240, 44, 28, 10
#: Outcomes of a bar, from below: name, colour, and words.
BARS: Final = (
    ("denied", "#b3261e", "denied"),
    ("exempted", "#c77700", "permitted: exempt"),
    ("permitted", "#1a56b0", "permitted under restrictions, or by another rule"),
)


def certificate_page(file: CertificateFile, policy: str, stem: str) -> str:
    """Return the page of a certificate.

    Parameters
    ----------
    file
        The signed JSON.
    policy
        Text of the policy that the page offers for the check; a reader takes it from elsewhere.
    stem
        Name of the certificate's files, without their end.
    """
    certificate = file.certificate
    counted = certificate["counted"]
    script = _read("verifier.js") + "\n" + _read("certificate.js")
    outcomes = {name: sum(one.get(name, 0) for one in counted["spans"]) for name, _, _ in BARS}
    data = {"certificate": certificate, "policy": policy}
    return (
        _environment()
        .get_template("certificate.html.j2")
        .render(
            certificate=certificate,
            counted=counted,
            stated=certificate["stated"],
            requests=_rows(counted["by"], requests=True),
            later=_rows(counted["by"], requests=False),
            outcomes=outcomes,
            asked=_outcomes_of_requests(counted["by"]),
            # A document that decided nothing and has not this flag, such as an empty brake, says nothing about it.
            deciding={*counted["digests"], *(one["flags"] for one in certificate["versions"])},
            bars=BARS,
            picture=picture(counted["spans"], certificate["unit"]),
            checkpoint=checkpoint_facts(file.last),
            versions=certificate["versions"],
            words=words,
            policy=policy,
            stem=stem,
            style=_read("page.css"),
            style_hash=_csp_hash(_read("page.css")),
            script=script,
            script_hash=_csp_hash(script),
            # "<" would end the script element; JSON has another spelling for it.
            data=json.dumps(data, ensure_ascii=False, sort_keys=True).replace("<", "\\u003c"),
        )
    )


def status_page(status: Mapping[str, Any]) -> str:
    """Return the public page; ``status`` is what :func:`abeyance.assurance.status.public_status` returns."""
    return (
        _environment()
        .get_template("status.html.j2")
        .render(status=status, words=words, style=_read("page.css"), style_hash=_csp_hash(_read("page.css")))
    )


def checkpoint_facts(text: str) -> dict[str, Any]:
    """Return size, root and witnesses of a checkpoint for a page; of the witnesses, when they signed last.

    No signature is verified here.
    """
    note = parse_note(text)
    times: dict[str, int] = {}
    for signature in note.signatures:
        if signature.name != note.origin and (seconds := cosigned_at(signature)):
            times[signature.name] = max(seconds, times.get(signature.name, 0))
    return {
        "origin": note.origin,
        "size": note.size,
        "root": base64.b64encode(note.root).decode(),
        "witnesses": [
            {"name": name, "at": f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"}
            for name, seconds in sorted(times.items())
        ],
    }


def picture(spans: Sequence[Mapping[str, Any]], unit: str) -> str:
    """Return the decisions over the period as SVG: a bar for each hour or day in which there were some.

    Bars stand at their time, so that a time without a request is a gap.
    """
    if not spans:
        return ""
    times = [_moment(one["span"]) for one in spans]
    step = 3600 if unit == "hour" else 86400
    places = [round((time - times[0]).total_seconds() / step) for time in times]
    highest = max(sum(one.get(name, 0) for name, _, _ in BARS) for one in spans)
    width = (_WIDTH - _LEFT - 8) / (places[-1] + 1)
    scale = (_HEIGHT - _TOP - _BOTTOM) / highest
    base = _HEIGHT - _BOTTOM
    what = f"Decisions under the flag for each {unit}, {spans[0]['span']} to {spans[-1]['span']}; at most {highest}"
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(what)}">',
        f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH}" y1="{base}" y2="{base}"/>',
        f'<text x="{_LEFT - 6}" y="{base}" text-anchor="end">0</text>',
        f'<text x="{_LEFT - 6}" y="{_TOP + 10}" text-anchor="end">{highest}</text>',
        f'<text x="{_LEFT}" y="{_HEIGHT - 8}">{escape(_label(spans[0]["span"]))}</text>',
    ]
    if len(spans) > 1:
        label = escape(_label(spans[-1]["span"]))
        parts.append(f'<text x="{_WIDTH - 8}" y="{_HEIGHT - 8}" text-anchor="end">{label}</text>')
    for place, one in zip(places, spans, strict=True):
        y = float(base)
        numbers = ", ".join(f"{one[name]} {said}" for name, _, said in BARS if one.get(name))
        parts.append(f"<g><title>{escape(_label(one['span']))}: {escape(numbers)}</title>")
        for name, _, _ in BARS:
            if number := one.get(name, 0):
                height = number * scale
                y -= height
                parts.append(
                    f'<rect class="{name}" x="{_LEFT + place * width + width * 0.1:.2f}" y="{y:.2f}" '
                    f'width="{max(width * 0.8, 0.8):.2f}" height="{height:.2f}"/>'
                )
        parts.append("</g>")
    return "\n".join([*parts, "</svg>"])


def _rows(by: Sequence[Mapping[str, Any]], *, requests: bool) -> list[dict[str, Any]]:
    """Return the counts of first decisions, or of the later ones about the same requests, by action and outcome."""
    merged: dict[tuple[str, ...], int] = {}
    for one in by:
        if (one["type"] in REQUESTS) is requests:
            key = (one["action"], one["outcome"], one["part"], one["clause"])
            merged[key] = merged.get(key, 0) + one["count"]
    names = ("action", "outcome", "part", "clause")
    return [{**dict(zip(names, key, strict=True)), "count": count} for key, count in sorted(merged.items())]


def _outcomes_of_requests(by: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return the number of first decisions for each of :data:`BARS`."""
    found = {name: 0 for name, _, _ in BARS}
    for one in by:
        if one["type"] in REQUESTS:
            exempt = "exempted" if one["part"] == "exempts" else "permitted"
            found["denied" if one["outcome"] == "deny" else exempt] += one["count"]
    return found


def _moment(span: str) -> datetime:
    return datetime.fromisoformat(span if len(span) == 10 else f"{span}:00:00").replace(tzinfo=UTC)


def _label(span: str) -> str:
    return span if len(span) == 10 else f"{span.replace('T', ' ')}:00 UTC"


def _when(text: str) -> str:
    """Return a moment for people: ``10 June 2020``, with the time where it is not midnight."""
    if not text:
        return ""
    moment = parse_moment(text)
    date = f"{moment.day} {moment:%B %Y}"
    return date if (moment.hour, moment.minute, moment.second) == (0, 0, 0) else f"{date}, {moment:%H:%M} UTC"


def _plain(name: str) -> str:
    return name.replace("_", " ")


def _number(value: int) -> str:
    return f"{value:,}".replace(",", "\u202f")


def _csp_hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'"


@cache
def _read(name: str) -> str:
    return (resources.files("abeyance.assurance") / "web" / name).read_text("utf-8")


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("abeyance.assurance", "web"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(when=_when, plain=_plain, number=_number)
    return environment
