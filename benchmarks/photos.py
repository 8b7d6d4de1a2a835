"""JPEG bytes to templates: Abeyance beside OpenCV, face_recognition (dlib) and deepface, on one core and on all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from abeyance.vision.models.convert import decompressed
from abeyance.vision.models.manifest import Manifest
from abeyance.vision.models.store import fetch, published_file
from abeyance.vision.models.template_map import TemplateMap
from benchmarks.comparison import BenchmarkPart, Comparison, Figure, Progress, by_rate, figure
from benchmarks.photo_set import KINDS, Kind, write_photos, write_portraits
from benchmarks.process import Child
from benchmarks.rivals import available_cores, in_turn, start

#: Longest side of the copy in which every tool detects faces. Abeyance detects in copies of this size by default; the
#: others would be slower in the whole of twelve megapixels, and find less.
LONGEST_SIDE = 1280
OPENCV = "OpenCV {}, FaceDetectorYN and FaceRecognizerSF"


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

    def start(self, first: int = 0) -> Child:
        """Start its process on one core."""
        return start(self.script, first=first, ours=not self.package, **self.settings)

    def takes_part(self, kind: Kind, quick: bool) -> bool:
        """Return whether it is fast enough for these photos."""
        return self.slow + quick + (kind.faces > 1) < 3

    def versioned_label(self, process: Child) -> str:
        """Return its label with its version."""
        version = process.ask(version=self.package)["version"] if self.package else ""
        return self.label.format(version)


def contestants(folder: Path) -> list[Contestant]:
    """Return ours with and without its second look at tilted faces, and the others; their models go into ``folder``."""
    detector, embedder = (Manifest.load()[name] for name in ("yunet-2023mar", "sface-2021dec"))
    fetch([detector, embedder])
    yunet, sface = published_file(detector), folder / "sface.onnx"
    # As published it runs neither in OpenCV 5 nor in ONNX Runtime. With ours OpenCV takes 26 ms a face, and not 18.
    sface.write_bytes(decompressed(published_file(embedder).read_bytes()))
    weights = folder / ".deepface" / "weights"
    weights.mkdir(parents=True)
    shutil.copy(yunet, weights / "face_detection_yunet_2023mar.onnx")
    shutil.copy(sface, weights / "face_recognition_sface_2021dec.onnx")
    opencv = {"longest_side": LONGEST_SIDE, "detector": str(yunet), "recogniser": str(sface)}
    hog = {"longest_side": LONGEST_SIDE, "detector": "hog"}
    # 640 pixels are enough to find these faces, in a quarter of the time of its default.
    cnn = {"longest_side": 640, "detector": "cnn"}
    dlib, home = "face_recognition (dlib {}, %s)", {"home": str(folder)}
    return [
        Contestant("abeyance", "Abeyance", "photos_abeyance", {"straighten": False}),
        Contestant("defaults", "Abeyance by default", "photos_abeyance", {"straighten": True}),
        Contestant("opencv", OPENCV, "photos_opencv", opencv, "opencv-python-headless", aim=2.0),
        Contestant("dlib-hog", dlib % "HOG", "photos_dlib", hog, "dlib-bin", slow=1),
        Contestant("dlib-cnn", dlib % "CNN", "photos_dlib", cnn, "dlib-bin", aim=3.0, slow=2),
        Contestant("deepface", "deepface {} (YuNet, SFace)", "photos_deepface", home, "deepface", aim=10.0),
    ]


def run(quick: bool, progress: Progress) -> BenchmarkPart:
    """Measure; see :mod:`benchmarks.suite`."""
    comparisons: list[Comparison] = []
    figures: list[Figure] = []
    notes: list[str] = []
    cores = len(available_cores()) or 1
    with tempfile.TemporaryDirectory(prefix="abeyance-photos-") as name:
        folder = Path(name)
        progress("models and photos")
        entrants = contestants(folder)
        # The same photos in a quick run, or a ratio would be of other work; only the slowest are left out.
        photos = {kind: write_photos(kind, folder, 3) for kind in (KINDS[:-1] if quick else KINDS)}
        people = write_portraits(folder, 6 if quick else 30, 3)
        for width in [1] if quick or cores == 1 else [1, cores]:
            place, short = ("one core", "1core") if width == 1 else (f"all {cores} cores", "all")
            with ExitStack() as stack:
                teams = {
                    one.name: [stack.enter_context(one.start(number)) for number in range(width)]
                    for one in entrants
                }
                labels = {one.name: one.versioned_label(teams[one.name][0]) for one in entrants}
                if width == 1:
                    progress("pairs")
                    judges = [one.name for one in entrants if one.slow < 2]
                    notes += [accuracy(labels[name], teams[name][0], people) for name in judges]
                for kind, paths in photos.items():
                    what, key = f"{kind.what}, {place}", f"photos.{kind.key}.{short}"
                    progress(what)
                    taking_part = [one for one in entrants if one.takes_part(kind, quick)]
                    found = rates({one.name: teams[one.name] for one in taking_part}, paths, quick)
                    alike = agreement(teams["abeyance"][0], teams["opencv"][0], paths, our_map())
                    for one in taking_part:
                        if one.package:
                            both = found["abeyance"], labels[one.name], found[one.name]
                            note = alike if one.name == "opencv" else ""
                            comparisons.append(
                                by_rate(f"{key}.{one.name}", what, *both, aim=one.aim, note=note)
                            )
                    default = f"{what}, with the second look at tilted faces that is our default"
                    figures.append(figure(f"{key}.defaults", default, "photos/s", found["defaults"]))
    return BenchmarkPart(
        name="photos", comparisons=tuple(comparisons), figures=tuple(figures), notes=(*notes, *_NOTES)
    )


def rates(
    teams: Mapping[str, Sequence[Child]], photos: Sequence[Path], quick: bool = False
) -> dict[str, list[float]]:
    """Return photos a second by team and round. A team is the processes of one tool, each on a core of its own."""

    def work(team: Sequence[Child], times: int) -> float:
        # Alone on a core with one thread, a tool's processor time does not grow when others use the core as well.
        # All cores together can only be measured by the clock.
        measured = "processor" if len(team) == 1 else "seconds"
        asked = {"photos": [str(path) for path in photos], "times": times}
        with ThreadPoolExecutor(len(team)) as pool:
            return max(pool.map(lambda one: float(one.ask(**asked)[measured]), team)) / times

    tools = {name: partial(work, team) for name, team in teams.items()}
    turns = in_turn(tools, 2 if quick else 4, 0.2 if quick else 0.5, slow_s=len(photos))
    return {
        name: [len(teams[name]) * len(photos) / seconds for seconds in found] for name, found in turns.items()
    }


def agreement(ours: Child, theirs: Child, photos: Sequence[Path], fitted: TemplateMap | None = None) -> str:
    """Describe how alike the templates of the same faces are, theirs seen through our map of templates."""
    asked: dict[str, Any] = {"photos": [str(path) for path in photos], "show": True}
    found = [one.ask(**asked)["faces"] for one in (ours, theirs)]
    cosines = []
    for mine, other in zip(*found, strict=True):
        for box, template in mine if other else ():
            _, nearest = min(other, key=lambda face: float(np.abs(np.subtract(face[0], box)).max()))
            seen = np.array([nearest], np.float32)
            seen = fitted.apply(seen / np.linalg.norm(seen)) if fitted else seen
            cosines.append(float(np.dot(template, seen[0])))
    counts = " and ".join(str(sum(map(len, faces))) for faces in found)
    alike = (
        f"; cosine of their templates {min(cosines):.5f} at least, {float(np.median(cosines)):.5f} median"
        if cosines
        else ""
    )
    return f"faces found: {counts}{alike}"


def our_map() -> TemplateMap | None:
    """Return the map of templates that follows our embedder."""
    fitted = Manifest.load()["sface-2021dec"].map
    return TemplateMap.read(fitted) if fitted else None


def accuracy(label: str, process: Child, people: Mapping[str, Sequence[Path]]) -> str:
    """Describe how many pairs of portraits a tool judges rightly, at its best threshold."""
    owners = [person for person, paths in people.items() for _ in paths]
    paths = [str(path) for paths in people.values() for path in paths]
    found = process.ask(photos=paths, show=True, within=300)["faces"]
    largest = [max(faces, key=lambda face: face[0][2] * face[0][3])[1] if faces else None for faces in found]
    pairs: dict[bool, list[float]] = {True: [], False: []}
    for (a, one), (b, other) in combinations(zip(owners, largest, strict=True), 2):
        # A photo in which no face is found is like no other, and so wrong in every mated pair.
        near = -9.0 if one is None or other is None else -float(np.linalg.norm(np.subtract(one, other)))
        pairs[a == b].append(near)
    right, count = best_accuracy(pairs[True], pairs[False])
    missed = sum(template is None for template in largest)
    return (
        f"{label}: {100 * right:.1f} % of {count} pairs of {len(paths)} portraits of "
        f"{len(people)} people (CSU scrap shots, about 1920, as many pairs of strangers as of the same person) judged "
        f"rightly at its best threshold; no face found in {missed} of them."
    )


def best_accuracy(mated: Sequence[float], strangers: Sequence[float]) -> tuple[float, int]:
    """Return the share of pairs on the right side of the best threshold, and their number, half of them strangers.

    Parameters
    ----------
    mated, strangers
        Likeness of pairs; of the strangers, as many as there are mated pairs are taken, evenly.
    """
    same, pairs = np.asarray(mated), len(mated)
    others = np.asarray(strangers)[np.arange(pairs) * len(strangers) // pairs]
    right = max(
        np.sum(same >= threshold) + np.sum(others < threshold) for threshold in (*same, *others, np.inf)
    )
    return float(right) / (2 * pairs), 2 * pairs


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
