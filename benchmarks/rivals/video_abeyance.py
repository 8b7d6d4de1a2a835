"""Abeyance's way from a stored video to tracks, by its own Python."""

from __future__ import annotations

from _serve import SETTINGS, serve, timed  # isort: skip
from pathlib import Path
from typing import Any

from abeyance.deployment.parts import build_analyzer, build_embedder, build_similarity_scale
from abeyance.deployment.settings import DeploymentSettings
from abeyance.pipeline.frames import FAR, NEAR
from abeyance.vision.video.decode import open_video
from abeyance.vision.video.examine import examine
from abeyance.vision.video.sampling import sample
from abeyance.vision.video.tracks import LinkThresholds

_settings = DeploymentSettings()
_analyzer, _embedder = build_analyzer(_settings), build_embedder(_settings)()
_scale = build_similarity_scale(_settings)()
_thresholds = LinkThresholds(near=_scale.cosine(NEAR), far=_scale.cosine(FAR))
_body = Path(SETTINGS["video"]).read_bytes()


def _segments(work: Any) -> list[Any]:
    with open_video(lambda first, last: _body[first : last + 1], len(_body)) as video:
        spans = video.segments()
        return [
            one
            for number, (start, end) in enumerate(spans)
            for one in work(video.frames(start, end, is_last=number == len(spans) - 1))
        ]


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Answer with the seconds that the video took, or with the times of the samples in it."""
    if request.get("times_of_samples"):
        return {"times": _segments(lambda frames: [one.frame.time_ms for one in sample(frames)])}
    tracks, seconds = timed(
        lambda: _segments(lambda frames: examine(frames, _analyzer, _embedder.embed, _thresholds)),
        request["times"],
    )
    return {**seconds, "faces": sum(len(track.faces) for track in tracks)}


serve(answer)
