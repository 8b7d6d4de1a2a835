"""Synthetic videos with known truth: portraits moved and scaled over backgrounds, at known times."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Shown:
    """A portrait that is in the picture from ``start_s`` to ``end_s``, moving from one place to another.

    Places are the centre, in shares of the picture; ``height`` is the portrait's, in pixels.
    """

    who: str
    photo: Path
    start_s: float
    end_s: float
    height: int = 200
    begin: tuple[float, float] = (0.5, 0.5)
    finish: tuple[float, float] = (0.5, 0.5)


@dataclass(frozen=True)
class Clip:
    """A video to make. A cut changes the background at once."""

    seconds: float
    shown: Sequence[Shown] = ()
    size: tuple[int, int] = (640, 360)
    rate: int = 15
    cuts_s: Sequence[float] = field(default=())
    seed: int = 0


def make(
    clip: Clip, *, codec: str = "libx264", container: str = "mp4", gop: int = 30, **options: Any
) -> bytes:
    """Return the encoded video.

    ``options``: ``pix_fmt``; ``audio`` for a silent sound track; ``rotation`` in degrees; ``variable`` for frames at
    uneven times; ``codec_options`` of the encoder.
    """
    body = io.BytesIO()
    width, height = clip.size
    quick = {
        "libx264": {"preset": "ultrafast", "crf": "18"},
        "libx265": {"preset": "ultrafast", "x265-params": "log-level=none"},
        "libsvtav1": {"preset": "12"},
        "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
    }
    with av.open(body, "w", format=container) as output:
        stream: Any = output.add_stream(
            codec, rate=clip.rate, options=options.get("codec_options") or quick.get(codec, {})
        )
        stream.width, stream.height, stream.pix_fmt = width, height, options.get("pix_fmt", "yuv420p")
        stream.codec_context.gop_size = gop
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        if options.get("rotation"):
            stream.set_display_rotation(options["rotation"])
        sound: Any = output.add_stream("aac", rate=16000) if options.get("audio") else None
        for number in range(round(clip.seconds * clip.rate)):
            at_s = number / clip.rate
            if options.get("variable") and number % 3 == 1:
                continue
            frame = av.VideoFrame.from_ndarray(picture(clip, at_s), format="rgb24")
            frame.pts, frame.time_base = round(at_s * 1000), Fraction(1, 1000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
        if sound:
            for number in range(int(clip.seconds * 16000 / 1024)):
                quiet = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
                quiet.sample_rate, quiet.pts = 16000, number * 1024
                output.mux(sound.encode(quiet))
            output.mux(sound.encode())
    return body.getvalue()


def picture(clip: Clip, at_s: float) -> np.ndarray:
    """Return the frame at a time, (h, w, 3) uint8 RGB."""
    width, height = clip.size
    scene = sum(cut <= at_s for cut in clip.cuts_s)
    canvas = Image.fromarray(_background(width, height, clip.seed + scene))
    for one in clip.shown:
        if not one.start_s <= at_s < one.end_s:
            continue
        portrait = _portrait(one.photo, one.height)
        share = (at_s - one.start_s) / max(1e-6, one.end_s - one.start_s)
        x, y = (a + (b - a) * share for a, b in zip(one.begin, one.finish, strict=True))
        canvas.paste(
            portrait, (round(x * width - portrait.width / 2), round(y * height - portrait.height / 2))
        )
    return np.asarray(canvas)


_portraits: dict[tuple[Path, int], Image.Image] = {}


def _portrait(path: Path, height: int) -> Image.Image:
    if (path, height) not in _portraits:
        with Image.open(path) as image:
            photo = image.convert("RGB")
        _portraits[path, height] = photo.resize((round(photo.width * height / photo.height), height))
    return _portraits[path, height]


def _background(width: int, height: int, seed: int) -> np.ndarray:
    """Return a smooth random background: no faces in it, and different from another seed's."""
    coarse = np.random.default_rng(seed).integers(0, 255, (5, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
