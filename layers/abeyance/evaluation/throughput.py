"""Throughput: the time of each step from a photo to a template."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from abeyance.evaluation.errors import DataInvalid
from abeyance.evaluation.templates import TemplateExtractor, Tick, select_central


class ThroughputStudy(msgspec.Struct, frozen=True, kw_only=True):
    """Median milliseconds of each step of one photo on one thread, and photos per second on all threads."""

    model: str
    photos: int
    workers: int
    decode: float
    detect: float
    align: float
    embed: float
    photos_per_second: float


def measure_throughput(
    paths: Sequence[Path], extractor: TemplateExtractor, *, model: str, tick: Tick | None = None
) -> ThroughputStudy:
    """Time each step photo by photo on one thread, then all photos on all threads of the extractor.

    The extractor must have no cache.

    Raises
    ------
    DataInvalid
        If no face is found in any of the photos.
    """
    from abeyance.vision.alignment import align
    from abeyance.vision.image import open_photo

    laps: list[list[float]] = []
    for path in paths:
        data = path.read_bytes()
        marks = [time.perf_counter()]
        photo = open_photo(data)
        marks.append(time.perf_counter())
        faces = extractor.detector.detect(photo, min_confidence=extractor.min_confidence)
        central = select_central(faces, photo.shape)
        marks.append(time.perf_counter())
        if central:
            chip = align(photo, central[0].landmarks)
            marks.append(time.perf_counter())
            extractor.embedder.embed(chip)
            marks.append(time.perf_counter())
            laps.append(np.diff(marks).tolist())
        if tick:
            tick()
    if not laps:
        raise DataInvalid("no face was found in any of the photos")
    decode, detect, aligned, embed = (np.median(np.array(laps), axis=0) * 1e3).tolist()
    started = time.perf_counter()
    extractor(paths)
    return ThroughputStudy(
        model=model,
        photos=len(laps),
        workers=extractor.workers,
        decode=decode,
        detect=detect,
        align=aligned,
        embed=embed,
        photos_per_second=len(paths) / (time.perf_counter() - started),
    )
