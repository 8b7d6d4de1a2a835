"""The demonstration as a self-contained page: decisions, the ledger, then probes and candidates side by side."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path
from typing import Any

import jinja2
from PIL import Image, UnidentifiedImageError

from abeyance.local.demo import THRESHOLD, Demonstration, SampleOutcome, SamplePhoto

#: Longest side of a thumbnail.
THUMBNAIL_PX = 160


def write_page(demo: Demonstration, path: Path) -> None:
    """Write the page to ``path``."""
    groups = {"portraits": demo.portraits, "scrapshots": demo.scrapshots}
    pairs = {
        name: [_pair(outcome, demo.indexed) for outcome in outcomes] for name, outcomes in groups.items()
    }
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("abeyance.local", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    certificate = os.path.relpath(demo.certificate.page, path.parent)
    page = environment.get_template("demo.html.j2").render(demo=demo, pairs=pairs, certificate=certificate)
    path.write_text(page, encoding="utf-8")


def verdict(outcome: SampleOutcome) -> tuple[bool, str]:
    """Return True if a search ended as it should, and its outcome in words."""
    person, matches = outcome.photo.person, [m for m in outcome.candidates if m["similarity"] >= THRESHOLD]
    names = [str(match["external_image_id"])[:5] for match in matches]
    if not person:
        return (False, "matched somebody else") if names else (True, "no match, rightly")
    if not names:
        return False, outcome.result.get("reason") or "missed: nobody at the threshold"
    if names[0] != person[:5]:
        return False, "somebody else is nearer"
    return True, "matched"


def _pair(outcome: SampleOutcome, indexed: dict[str, SamplePhoto]) -> dict[str, Any]:
    good, words = verdict(outcome)
    best = outcome.candidates[0] if outcome.candidates else None
    candidate = indexed.get(best["external_image_id"]) if best else None
    return {
        "probe_name": outcome.photo.name,
        "probe": _thumbnail(outcome.photo.body),
        "candidate_name": candidate.name if candidate else "",
        "candidate": _thumbnail(candidate.body) if candidate else "",
        "similarity": best["similarity"] if best else 0.0,
        "good": good,
        "verdict": words,
    }


def _thumbnail(body: bytes) -> str:
    try:
        image = Image.open(io.BytesIO(body))
        image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
        small = io.BytesIO()
        image.convert("RGB").save(small, "JPEG", quality=80)
    except (UnidentifiedImageError, OSError):
        return ""
    return "data:image/jpeg;base64," + base64.b64encode(small.getvalue()).decode()
