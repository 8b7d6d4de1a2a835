"""The common part of the scripts that make templates of photos."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from _serve import serve, timed

#: One face: left, top, width, height in pixels of the photo, and its template.
Found = tuple[list[float], list[float]]


def serve_photos(templates: Callable[[bytes], list[Found]]) -> None:
    """Answer ``{"photos": [paths], "times": n}`` with the seconds that the photos took, so many times over.

    Seconds by the clock and of the processor; with ``"show": true`` the answer has their faces as well.
    ``{"version": package}`` asks for that only.
    """

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        if "version" in request:
            return {"version": version(request["version"])}
        bodies = [Path(path).read_bytes() for path in request["photos"]]
        found, seconds = timed(lambda: [templates(body) for body in bodies], request.get("times", 1))
        return {**seconds, "faces": found if request.get("show") else [len(faces) for faces in found]}

    serve(answer)
