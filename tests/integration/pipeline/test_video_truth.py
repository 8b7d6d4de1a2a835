"""Made-up videos with known truth: who is found, who is mixed up, and when they are seen."""

from __future__ import annotations

import random
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image
from tests.videos import Clip, Shown, make

from abeyance.deployment.parts import build_analyzer, build_embedder, build_similarity_scale
from abeyance.deployment.settings import DeploymentSettings
from abeyance.local.demo import prepare
from abeyance.local.samples import fetch_samples
from abeyance.pipeline.frames import FAR, NEAR
from abeyance.vision.analysis import AnalyzedFace
from abeyance.vision.image import Photo
from abeyance.vision.video.decode import open_video
from abeyance.vision.video.examine import examine
from abeyance.vision.video.people import TrackSummary, group_by_person
from abeyance.vision.video.sampling import MAX_STEP_MS
from abeyance.vision.video.tracks import LinkThresholds, Track

SECONDS, RATE, SIZE, VIDEOS = 20, 15, (640, 360), 4
#: Widths of faces in pixels.
WIDTHS = (40, 48, 60, 80, 110)

SETTINGS = DeploymentSettings()
ANALYZER = build_analyzer(SETTINGS)


class Portrait(NamedTuple):
    who: str
    path: Path
    #: Width of the face, and height of the photo, in pixels.
    face: float
    height: int
    chip: np.ndarray


@pytest.fixture(scope="module")
def portraits() -> list[Portrait]:
    """One portrait of each of some thirty people."""
    prepare()
    paths: dict[str, Path] = {}
    for name, path in sorted(fetch_samples("csu-scrapshots").items()):
        if name.endswith(".pgm"):
            paths.setdefault(name[:5], path)
    white_house = fetch_samples("white-house-portraits")
    paths |= {"obama": white_house["obama.jpg"], "biden": white_house["biden.jpg"]}
    paths["collins"] = fetch_samples("astronaut")["astronaut.png"]
    found = []
    for who, path in paths.items():
        with Image.open(path) as image:
            pixels = np.array(image.convert("RGB"))
        if faces := ANALYZER.analyze(Photo.of(pixels)).faces:
            found.append(Portrait(who, path, faces[0].box[2], pixels.shape[0], faces[0].chip))
    return found


def scene(portraits: list[Portrait], chance: random.Random) -> tuple[list[Shown], list[float]]:
    """Return two rows of appearances of a second and more, each of another person, and the cuts."""
    cuts, shown = chance.choice(([], [10.0])), list[Shown]()
    for lane in (0.25, 0.75):
        at = chance.uniform(0, 2)
        while at < SECONDS - 1.5:
            one = chance.choice(portraits)
            height = min(350, round(chance.choice(WIDTHS) / one.face * one.height))
            end = min(SECONDS, at + chance.uniform(1, 5))
            if cuts and at < cuts[0] < end:
                end = cuts[0]
            fits = one.face * height / one.height >= WIDTHS[0] and end - at >= 1
            if fits and one.who not in {other.who for other in shown}:
                y, drift = chance.uniform(0.45, 0.55), chance.uniform(-0.05, 0.05)
                shown.append(Shown(one.who, one.path, at, end, height, (lane, y), (lane + drift, y)))
            at = end + chance.uniform(0, 1.5)
    return shown, cuts


def shown_at(shown: list[Shown], time_ms: int, face: AnalyzedFace) -> Shown | None:
    """Return whom a face shows: the portrait in its half of the picture at that time."""
    left, _, width, _ = face.relative_box
    half = left + width / 2 > 0.5
    return next(
        (
            one
            for one in shown
            if one.start_s - 1 / RATE <= time_ms / 1000 <= one.end_s + 1 / RATE
            and (one.begin[0] > 0.5) == half
        ),
        None,
    )


@pytest.mark.slow
def test_people_are_found_and_not_mixed_up(portraits: list[Portrait]) -> None:
    chance, scale = random.Random(3), build_similarity_scale(SETTINGS)()
    embed = build_embedder(SETTINGS)().embed
    gallery = embed(np.stack([one.chip for one in portraits]))
    found = total = right = probes = 0
    for number in range(VIDEOS):
        shown, cuts = scene(portraits, chance)
        body = make(Clip(SECONDS, shown, size=SIZE, rate=RATE, cuts_s=cuts, seed=10 * number), gop=45)
        with open_video(lambda first, last, body=body: body[first : last + 1], len(body)) as video:
            (span,) = video.segments()
            thresholds = LinkThresholds(scale.cosine(NEAR), scale.cosine(FAR))
            tracks = examine(video.frames(*span, is_last=True), ANALYZER, embed, thresholds)
        truth = [
            [shown_at(shown, at, face) for at, face in zip(track.times_ms, track.faces, strict=True)]
            for track in tracks
        ]
        for group in group_by_person([summary(track) for track in tracks], scale.cosine(FAR)):
            names = {one.who for track in group for one in truth[track] if one}
            assert len(names) <= 1, (number, names)
        for track, who in zip(tracks, truth, strict=True):
            names = {one.who for one in who if one}
            if names and len(track.faces) > 1:
                probes += 1
                right += {portraits[int(np.argmax(gallery @ track.template))].who} == names
        for one in shown:
            times = [
                at
                for track, who in zip(tracks, truth, strict=True)
                for at, seen in zip(track.times_ms, who, strict=True)
                if seen is one
            ]
            total += 1
            if times:
                found += 1
                assert min(times) - 1000 * one.start_s <= MAX_STEP_MS
                assert 1000 * one.end_s - max(times) <= MAX_STEP_MS + 1000 / RATE
    assert total > 25
    assert found >= 0.95 * total, (found, total)
    assert right >= 0.95 * probes, (right, probes)


def summary(track: Track) -> TrackSummary:
    first, last = track.faces[0], track.faces[-1]
    return TrackSummary(
        segment=0,
        first_ms=track.times_ms[0],
        last_ms=track.times_ms[-1],
        first_box=first.relative_box,
        last_box=last.relative_box,
        template=track.template,
        samples=len(track.faces),
    )
