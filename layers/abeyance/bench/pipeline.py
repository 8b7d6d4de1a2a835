"""How long a photo takes from upload to result on this machine, and what part of that is the models."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
from botocore.exceptions import ClientError

from abeyance.local.demo import prepare
from abeyance.local.samples import as_png, fetch_samples
from abeyance.local.system import LocalSystem
from abeyance.local.tenants import TENANTS, register
from abeyance.vision.alignment import align
from abeyance.vision.image import open_photo
from abeyance.vision.models.store import load_detector, load_embedder

#: Uploads before the first that counts.
WARM_UP = 5


class PipelineTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds. Latency is of one upload at a time; throughput of all of them at once."""

    photos: int
    latency_median: float
    latency_p95: float
    #: Decoding, detection, alignment and embedding of the same photos, alone in one process.
    models_median: float
    model_share: float
    uploads_per_second: float
    #: What the models alone, in one process on one thread, would reach.
    models_per_second: float


def measure(photos: Sequence[bytes], progress: Callable[[int], None] | None = None) -> PipelineTimes:
    """Upload each of ``photos`` as a search, one at a time and then all at once."""
    alone = _Models()
    alone.seconds(photos[0])
    models = [alone.seconds(photo) for photo in photos]
    with LocalSystem() as system:
        register(system, TENANTS)
        for number, photo in enumerate(photos[:WARM_UP]):
            _until_result(system, f"acme/index/bench/{number}", photo)
        latencies = []
        for number, photo in enumerate([*photos[:WARM_UP], *photos]):
            seconds = _until_result(system, f"acme/search/bench/one-{number}", photo)
            if number >= WARM_UP:
                latencies.append(seconds)
            if progress:
                progress(number)
        s3 = system.client("s3")
        start = time.perf_counter()
        for number, photo in enumerate(photos):
            s3.put_object(
                Bucket=system.settings.uploads_bucket, Key=f"acme/search/bench/all-{number}", Body=photo
            )
        system.drain(600)
        together = time.perf_counter() - start
    median, bare = statistics.median(latencies), statistics.median(models)
    return PipelineTimes(
        photos=len(photos),
        latency_median=median,
        latency_p95=float(np.percentile(latencies, 95)),
        models_median=bare,
        model_share=bare / median,
        uploads_per_second=len(photos) / together,
        models_per_second=1 / statistics.mean(models),
    )


def sample_photos(count: int) -> list[bytes]:
    """Photos of the demonstration, decodable and with a face."""
    prepare()
    portraits: list[Path] = [
        p for n, p in sorted(fetch_samples("white-house-portraits").items()) if n.endswith("jpg")
    ]
    scraps = [p for n, p in sorted(fetch_samples("csu-scrapshots").items()) if n.endswith(".pgm")]
    bodies = [path.read_bytes() for path in portraits if "partial" not in path.name]
    return (bodies + [as_png(path) for path in scraps])[:count]


class _Models:
    """The models alone, in this process."""

    def __init__(self) -> None:
        self._detector = load_detector()
        self._embedder = load_embedder()

    def seconds(self, photo: bytes) -> float:
        """How long one photo takes from bytes to templates."""
        start = time.perf_counter()
        opened = open_photo(photo)
        faces = self._detector.detect(opened)
        if faces:
            self._embedder.embed(align(opened, np.stack([face.landmarks for face in faces])))
        return time.perf_counter() - start


def _until_result(system: LocalSystem, key: str, photo: bytes) -> float:
    s3 = system.client("s3")
    start = time.perf_counter()
    s3.put_object(Bucket=system.settings.uploads_bucket, Key=key, Body=photo)
    while True:
        try:
            s3.head_object(Bucket=system.settings.results_bucket, Key=f"{key}.json")
        except ClientError as error:
            if error.response["Error"]["Code"] != "404":
                raise
            time.sleep(0.002)
        else:
            return time.perf_counter() - start
