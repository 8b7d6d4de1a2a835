"""JPEG bytes to templates: Abeyance beside OpenCV, face_recognition (dlib) and deepface, on one core and on all."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from abeyance.vision.models.convert import decompressed
from abeyance.vision.models.manifest import Manifest
from abeyance.vision.models.store import fetch, published_file
from benchmarks.comparison import Comparison, Figure, Part, Spread, Tell
from benchmarks.photo_set import KINDS, Kind, write_photos, write_portraits
from benchmarks.rivals import Rival, available_cores

#: What every tool looks for faces in: a copy with its longest side this long. Ours looks at large photos at this size
#: by default; the others would be slower in the whole of twelve megapixels, and find less.
LONGEST_SIDE = 1280
#: Tools that take more seconds for a photo do one photo a turn, and take part in the first rounds only.
_SLOW = 1.0


@dataclass(frozen=True, slots=True)
class Contestant:
    """A tool with its settings."""

    name: str
    #: For people; ``{}`` becomes the version of ``package``.
    label: str
    script: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    package: str = ""
    aim: float | None = None
    #: 1 sits out the photos of twenty faces in a quick run; 2 always, and the pairs, and all of a quick run.
    slow: int = 0

    def open(self, first: int = 0) -> Rival:
        """Its process, on one core."""
        return Rival(self.script, first=first, python="" if self.package else sys.executable, **self.settings)

    def takes_part(self, kind: Kind, quick: bool) -> bool:
        """Whether it is fast enough for these photos."""
        return self.slow + quick + (kind.faces > 1) < 3

    def named(self, process: Rival) -> str:
        """Its label with its version."""
        version = process.ask(version=self.package)["version"] if self.package else ""
        return self.label.format(version)


#: Processes of one contestant, each on a core of its own.
Team = Sequence[Rival]


def contestants(folder: Path) -> list[Contestant]:
    """Ours as comparable as it gets, ours as it is, and the others, with what they need put into ``folder``."""
    detector, embedder = (Manifest.load()[name] for name in ("yunet-2023mar", "sface-2021dec"))
    fetch([detector, embedder])
    yunet, sface = published_file(detector), folder / "sface.onnx"
    # As published it runs neither in OpenCV 5 nor in ONNX Runtime. With ours OpenCV takes 26 ms a face, and not 18.
    sface.write_bytes(decompressed(published_file(embedder).read_bytes()))
    weights = folder / ".deepface" / "weights"
    weights.mkdir(parents=True)
    shutil.copy(yunet, weights / "face_detection_yunet_2023mar.onnx")
    shutil.copy(sface, weights / "face_recognition_sface_2021dec.onnx")
    return [
        Contestant("abeyance", "Abeyance", "photos_abeyance", {"straighten": False}),
        Contestant("defaults", "Abeyance by default", "photos_abeyance", {"straighten": True}),
        Contestant(
            "opencv",
            "OpenCV {}, FaceDetectorYN and FaceRecognizerSF",
            "photos_opencv",
            {"longest_side": LONGEST_SIDE, "detector": str(yunet), "recogniser": str(sface)},
            "opencv-python-headless",
            aim=2.0,
        ),
        Contestant(
            "dlib-hog",
            "face_recognition (dlib {}, HOG)",
            "photos_dlib",
            {"longest_side": LONGEST_SIDE, "detector": "hog"},
            "dlib-bin",
            slow=1,
        ),
        # What there is to be found here it finds in 640 pixels, in a quarter of the time of its default.
        Contestant(
            "dlib-cnn",
            "face_recognition (dlib {}, CNN)",
            "photos_dlib",
            {"longest_side": 640, "detector": "cnn"},
            "dlib-bin",
            aim=3.0,
            slow=2,
        ),
        Contestant(
            "deepface",
            "deepface {} (YuNet, SFace)",
            "photos_deepface",
            {"home": str(folder)},
            "deepface",
            aim=10.0,
        ),
    ]


def run(quick: bool, tell: Tell) -> Part:
    """Measure; see :mod:`benchmarks.parts`."""
    comparisons: list[Comparison] = []
    figures: list[Figure] = []
    notes: list[str] = []
    cores = len(available_cores()) or 1
    with tempfile.TemporaryDirectory(prefix="abeyance-photos-") as name:
        folder = Path(name)
        tell("models and photos")
        entrants = contestants(folder)
        # The same photos in a quick run, or a ratio would be of other work; only the slowest are left out.
        kinds = KINDS[:-1] if quick else KINDS
        photos = {kind: write_photos(kind, folder, 3) for kind in kinds}
        people = write_portraits(folder, 6 if quick else 30, 3)
        for width in [1] if quick or cores == 1 else [1, cores]:
            place = "one core" if width == 1 else f"all {cores} cores"
            with ExitStack() as stack:
                teams = {
                    one.name: [stack.enter_context(one.open(number)) for number in range(width)]
                    for one in entrants
                }
                labels = {one.name: one.named(teams[one.name][0]) for one in entrants}
                if width == 1:
                    tell("pairs")
                    notes += [
                        accuracy(labels[one.name], teams[one.name][0], people)
                        for one in entrants
                        if one.slow < 2
                    ]
                for kind in kinds:
                    tell(f"{kind.what}, {place}")
                    taking_part = [one for one in entrants if one.takes_part(kind, quick)]
                    rates = measure(
                        {one.name: teams[one.name] for one in taking_part},
                        photos[kind],
                        2 if quick else 4,
                        0.2 if quick else 0.5,
                    )
                    key = f"photos.{kind.key}.{'1core' if width == 1 else 'all'}"
                    alike = agreement(teams["abeyance"][0], teams["opencv"][0], photos[kind])
                    comparisons += [
                        Comparison(
                            key=f"{key}.{one.name}",
                            what=f"{kind.what}, {place}",
                            unit="photos/s",
                            ours=Spread.of(rates["abeyance"]),
                            other=labels[one.name],
                            theirs=Spread.of(rates[one.name]),
                            ratio=ratio(rates["abeyance"], rates[one.name]),
                            aim=one.aim,
                            note=alike if one.name == "opencv" else "",
                        )
                        for one in taking_part
                        if one.package
                    ]
                    figures.append(
                        Figure(
                            key=f"{key}.defaults",
                            what=f"{kind.what}, {place}, tilted faces looked at again as is our default",
                            unit="photos/s",
                            value=Spread.of(rates["defaults"]),
                            more_is_better=True,
                        )
                    )
    return Part(
        name="photos", comparisons=tuple(comparisons), figures=tuple(figures), notes=(*notes, *_NOTES)
    )


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """How many times more photos a second, round by round; slow tools take part in the first rounds only."""
    return Spread.of([a / b for a, b in zip(ours, theirs, strict=False)])


def measure(
    teams: Mapping[str, Team], photos: Sequence[Path], rounds: int, turn_seconds: float
) -> dict[str, list[float]]:
    """Photos a second of every team in every round, each in its turn; slow ones take part in half of the rounds."""
    plans = {name: _plan(team, photos, turn_seconds) for name, team in teams.items()}
    rates: dict[str, list[float]] = {name: [] for name in teams}
    names = list(teams)
    for number in range(rounds):
        turn = number % len(names)
        for name in [*names[turn:], *names[:turn]]:
            paths, times, slow = plans[name]
            if not slow or number < (rounds + 1) // 2:
                rates[name].append(_rate(teams[name], paths, times))
    return rates


def _plan(team: Team, photos: Sequence[Path], turn_seconds: float) -> tuple[Sequence[Path], int, bool]:
    """Which photos a turn takes, how often, and whether it is slow; after a photo or two that do not count."""
    seconds = len(team) / _rate(team, photos[:1], 1)
    if seconds > _SLOW:
        return photos[:1], 1, True
    seconds = len(team) / _rate(team, photos[:1], 1)
    return photos, max(1, round(turn_seconds / seconds / len(photos))), False


def _rate(team: Team, photos: Sequence[Path], times: int) -> float:
    """Photos a second while every process of the team works through the photos."""

    # Alone on a core with one thread, a tool takes as long as the processor works for it, and that does not grow when
    # somebody else uses the core as well. Of all cores together only the clock tells.
    measured = "processor" if len(team) == 1 else "seconds"

    def work(member: Rival) -> float:
        return float(member.ask(photos=[str(path) for path in photos], times=times)[measured])

    with ThreadPoolExecutor(len(team)) as pool:
        slowest = max(pool.map(work, team))
    return len(team) * len(photos) * times / slowest


def agreement(ours: Rival, theirs: Rival, photos: Sequence[Path]) -> str:
    """How like the templates of the same faces are, in words."""
    cosines, counts = [], [0, 0]
    asked: dict[str, Any] = {"photos": [str(path) for path in photos], "show": True}
    for mine, other in zip(ours.ask(**asked)["faces"], theirs.ask(**asked)["faces"], strict=True):
        counts[0] += len(mine)
        counts[1] += len(other)
        for box, template in mine:
            if other:
                _, nearest = min(other, key=lambda face: float(np.abs(np.subtract(face[0], box)).max()))
                cosines.append(float(np.dot(template, nearest)))
    if not cosines:
        return f"faces found: {counts[0]} and {counts[1]}"
    return (
        f"faces found: {counts[0]} and {counts[1]}; cosine of their templates {min(cosines):.5f} at least, "
        f"{float(np.median(cosines)):.5f} median"
    )


def accuracy(label: str, process: Rival, people: Mapping[str, Sequence[Path]]) -> str:
    """How many pairs of portraits a tool judges rightly, at the threshold that suits it best."""
    owners = [person for person, paths in people.items() for _ in paths]
    paths = [str(path) for paths in people.values() for path in paths]
    found = process.ask(photos=paths, show=True, within=300)["faces"]
    largest = [max(faces, key=lambda face: face[0][2] * face[0][3])[1] if faces else None for faces in found]
    mated: list[float] = []
    strangers: list[float] = []
    for (a, one_template), (b, other_template) in combinations(zip(owners, largest, strict=True), 2):
        # A photo in which no face is found is like no other, and so wrong in every mated pair.
        near = -9.0
        if one_template is not None and other_template is not None:
            near = -float(np.linalg.norm(np.subtract(one_template, other_template)))
        (mated if a == b else strangers).append(near)
    right, pairs = best_accuracy(mated, strangers)
    missed = sum(template is None for template in largest)
    return (
        f"{label}: {100 * right:.1f} % of {pairs} pairs of {len(paths)} portraits of "
        f"{len(people)} people (CSU scrap shots, about 1920, as many pairs of strangers as of the same person) judged "
        f"rightly at its best threshold; no face found in {missed} of them."
    )


def best_accuracy(mated: Sequence[float], strangers: Sequence[float]) -> tuple[float, int]:
    """The share of pairs on the right side of the best threshold, and their number, half of them strangers.

    Parameters
    ----------
    mated, strangers
        Likeness of pairs; of the strangers, as many as there are mated pairs are taken, evenly.
    """
    chosen = [strangers[i * len(strangers) // len(mated)] for i in range(len(mated))]
    scores = np.concatenate([mated, chosen])
    same = np.arange(len(scores)) < len(mated)
    order = np.argsort(-scores, kind="stable")
    # With the first k as the same person: rightly so those that are, and all strangers behind them.
    right = np.concatenate([[0], np.cumsum(np.where(same[order], 1, -1))]) + len(chosen)
    # A threshold cannot lie between equal scores.
    ends = np.concatenate([[True], np.diff(scores[order]) != 0, [True]])
    return float(right[ends].max()) / len(scores), len(scores)


_NOTES = (
    "On 1 200 pairs of LFW, Abeyance judges 99.75 % rightly (docs/accuracy.md); the weights are OpenCV's.",
    f"Everybody looks for faces in a copy of at most {LONGEST_SIDE} pixels and counts from a confidence of 0.7 (dlib: "
    "its default); deepface always looks at 640. Abeyance looks a second time at 640 pixels where the photo is larger. "
    "In the comparisons it leaves out its further looks at tilted faces, which nobody else takes.",
    "OpenCV and deepface run SFace as published, in float32, because OpenCV is slower with the form that we made for "
    "ONNX Runtime. dlib is the wheel of dlib-bin, built with AVX. Every tool runs in processes of its own, one on each "
    "core, with one thread.",
    "The photos are composed of sample portraits, with a camera's noise, as JPEG of quality 90.",
)
