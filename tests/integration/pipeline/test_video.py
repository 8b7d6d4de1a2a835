"""A video in S3 becomes people with times and matches: real photos in made-up videos, real models, real handlers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.videos import Clip, Shown, make

from abeyance.local.system import LocalSystem

from .conftest import settled_events

Upload = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def clip(portraits: dict[str, Path]) -> bytes:
    """36 s: one man, then a second beside him; a cut; the first again."""
    shown = [
        Shown("obama", portraits["obama2.jpg"], 1, 9, 200, (0.3, 0.5), (0.5, 0.5)),
        Shown("biden", portraits["biden.jpg"], 5, 14, 180, (0.8, 0.5), (0.8, 0.5)),
        Shown("obama", portraits["obama3.jpg"], 24, 35, 200),
    ]
    return make(Clip(36, shown, cuts_s=[20], rate=10), gop=50)


def test_a_video_is_searched_and_lists_people_with_their_times_and_matches(
    system: LocalSystem, upload: Upload, portraits: dict[str, Path], clip: bytes
) -> None:
    upload("acme/index/video/obama.jpg", portraits["obama.jpg"].read_bytes())
    found = upload("acme/search/video/clip.mp4", clip)
    assert found["event"] == "Faces Matched"
    assert found["video"]["video"]["duration_ms"] == pytest.approx(36_000, abs=200)
    assert found["video"]["examined_ms"] == found["video"]["video"]["duration_ms"]
    first, second = found["faces"]
    assert [match["external_image_id"] for match in first["matches"]] == ["obama.jpg"]
    assert second["matches"] == []
    seen = [(span["first_ms"], span["last_ms"]) for span in first["face"]["times"]["appearances"]]
    assert len(seen) == 2
    for (start, end), (begin, finish) in zip(seen, [(1_000, 9_000), (24_000, 35_000)], strict=True):
        assert begin <= start <= begin + 600
        assert finish - 600 <= end <= finish
    kinds = Counter(type(event).__name__ for event in settled_events(system) if "clip" in event.upload.key)
    assert kinds == {
        "UploadPermitted": 1,
        "VideoOpened": 1,
        "SegmentExamined": 2,
        "FacesDetected": 1,
        "FacesMatched": 1,
    }
