"""Pictures as answers."""

from __future__ import annotations

from flask import Response, abort

from abeyance.console.pictures import Chip, png


def send_chip(chip: Chip | None) -> Response:
    """Return a picture as an answer; status 404 if it is gone."""
    if chip is None:
        abort(404)
    return Response(png(chip), mimetype="image/png")
