"""Stored video to tracks with templates, beside a plain loop of PyAV and OpenCV over the same frames, on one core."""

from __future__ import annotations

import io
import tempfile
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from benchmarks.comparison import BenchmarkPart, Comparison, Progress, compare
from benchmarks.photo_set import Kind, compose
from benchmarks.photos import LONGEST_SIDE, contestants
from benchmarks.process import Child
from benchmarks.rivals import in_turn, start

SECONDS: Final = 10
RATE: Final = 30
#: Of the picture, in each frame: a slow pan.
_PAN_PX: Final = 2
_SIZES: Final = (("720p", 1280, 720), ("1080p", 1920, 1080))


def run(quick: bool, progress: Progress) -> BenchmarkPart:
    """Measure; see :mod:`benchmarks.suite`."""
    comparisons: list[Comparison] = []
    other = f"PyAV {version('av')} and OpenCV {version('opencv-python-headless')}, a plain loop"
    with tempfile.TemporaryDirectory(prefix="abeyance-video-") as name:
        folder = Path(name)
        progress("models")
        opencv = next(dict(one.settings) for one in contestants(folder) if one.name == "opencv")
        for label, width, height in _SIZES:
            progress(label)
            path = folder / f"{label}.mp4"
            write_video(path, width, height)
            with start("video_abeyance", ours=True, video=str(path)) as ours:
                times = ours.ask(times_of_samples=True)["times"]
                settings = {**opencv, "longest_side": LONGEST_SIDE, "video": str(path), "times": times}
                with start("video_opencv", ours=True, **settings) as theirs:
                    tools = {"ours": partial(_seconds, ours), "theirs": partial(_seconds, theirs)}
                    found = in_turn(tools, 2 if quick else 4, 0.1, slow_s=60)
                    counts = [one.ask(times=1)["faces"] for one in (ours, theirs)]
            rates = {tool: [SECONDS / seconds for seconds in turns] for tool, turns in found.items()}
            note = f"{len(times)} frames in {SECONDS} s, the same for both; faces found: {counts[0]} and {counts[1]}"
            comparisons.append(
                compare(
                    f"video.{label}.1core.opencv",
                    f"{label}, seconds of video a second, one core",
                    rates["ours"],
                    other,
                    rates["theirs"],
                    unit="s/s",
                    more_is_better=True,
                    note=note,
                )
            )
    return BenchmarkPart(name="video", comparisons=tuple(comparisons), notes=_NOTES)


def _seconds(process: Child, times: int) -> float:
    """Return the processor time of one pass over the video: alone on a core, others do not lengthen it."""
    return float(process.ask(times=times)["processor"]) / times


def write_video(path: Path, width: int, height: int) -> None:
    """Write a video in H.264 with one face, a slow pan, and a cut to another face in the middle."""
    import av

    scenes = [_scene(width, height, number) for number in range(2)]
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("libx264", rate=RATE, options={"preset": "veryfast", "crf": "23"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(SECONDS * RATE):
            scene = scenes[2 * number // (SECONDS * RATE)]
            frame = np.roll(scene, _PAN_PX * number % width, axis=1)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        output.mux(stream.encode())


def _scene(width: int, height: int, number: int) -> np.ndarray:
    kind = Kind("video", "", width, height, 1)
    with Image.open(io.BytesIO(compose(kind, number))) as image:
        return np.array(image.convert("RGB"))


_NOTES: Final = (
    "The loop makes templates of every face in the same frames and links nothing; Abeyance links tracks, keeps the "
    "best views and measures their quality as well. The models are the same. Abeyance does not decode frames that no "
    "other frame needs.",
)
