"""Clients at work on one collection at the same moment: no error, and never an answer from the past.

``pytest tests/integration/rekognition/test_freshness.py --busy-seconds 60 -s`` runs it for a minute and prints the
figures.
"""

from __future__ import annotations

import io
import random
import re
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from PIL import Image, ImageEnhance

CLIENTS = 8
MODEL_PARTS = ("decode", "detect", "describe", "embed")


@dataclass
class Tally:
    """The answers that the clients saw."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    model: float = 0.0
    total: float = 0.0
    problems: list[str] = field(default_factory=list)

    def call(self, name: str, operation: Callable[..., Any], **params: Any) -> Any:
        began = time.perf_counter()
        answer = operation(**params)
        took = time.perf_counter() - began
        timing = dict(
            re.findall(r"(\w+);dur=([\d.]+)", answer["ResponseMetadata"]["HTTPHeaders"]["server-timing"])
        )
        with self.lock:
            self.seconds.setdefault(name, []).append(took)
            self.model += sum(float(timing.get(part, 0)) for part in MODEL_PARTS) / 1000
            self.total += float(timing["total"]) / 1000
        return answer


def variants(photo: bytes) -> list[bytes]:
    """The same face in other bytes: a little brighter or darker, so that each is an image of its own."""
    image = Image.open(io.BytesIO(photo)).convert("RGB")
    image.thumbnail((400, 400))
    found = []
    for number in range(24):
        body = io.BytesIO()
        ImageEnhance.Brightness(image).enhance(0.9 + number / 120).save(body, "JPEG", quality=90)
        found.append(body.getvalue())
    return found


def work(api: Any, number: int, photos: list[bytes], until: float, tally: Tally) -> None:
    """Index, find, delete, find no more: each against what must be true because an earlier call has returned."""
    rng = random.Random(number)
    client = api.client("acme")
    mine: dict[str, bytes] = {}
    gone: set[str] = set()
    on = {"CollectionId": "busy"}
    while time.perf_counter() < until:
        what = rng.random()
        if what < 0.3 or not mine:
            photo = rng.choice(photos)
            name = f"c{number}-{rng.getrandbits(40)}"
            answer = tally.call(
                "IndexFaces", client.index_faces, Image={"Bytes": photo}, ExternalImageId=name, **on
            )
            mine[answer["FaceRecords"][0]["Face"]["FaceId"]] = photo
        elif what < 0.45:
            face = rng.choice(sorted(mine))
            answer = tally.call("DeleteFaces", client.delete_faces, FaceIds=[face], **on)
            if answer["DeletedFaces"] != [face]:
                tally.problems.append("a face could not be deleted")
            del mine[face]
            gone.add(face)
        else:
            photo = rng.choice(sorted(mine.values()))
            answer = tally.call(
                "SearchFacesByImage",
                client.search_faces_by_image,
                Image={"Bytes": photo},
                MaxFaces=4096,
                **on,
            )
            found = {match["Face"]["FaceId"] for match in answer["FaceMatches"]}
            if missed := {face for face, own in mine.items() if own == photo} - found:
                tally.problems.append(f"{len(missed)} indexed faces were missed")
            if found & gone:
                tally.problems.append("a deleted face was found")


def run(api: Any, photo: bytes, seconds: float) -> Tally:
    tally = Tally()
    client = api.client("acme")
    client.create_collection(CollectionId="busy")
    photos = variants(photo)
    for _ in range(4):  # both workers load their models before the clock starts
        client.detect_faces(Image={"Bytes": photos[0]})
    until = time.perf_counter() + seconds

    def guarded(number: int) -> None:
        try:
            work(api, number, photos, until, tally)
        except Exception as error:
            tally.problems.append(repr(error))

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    client.delete_collection(CollectionId="busy")
    return tally


def report(tally: Tally, seconds: float) -> str:
    lines = []
    for name, took in {**tally.seconds, "all": [s for some in tally.seconds.values() for s in some]}.items():
        ordered = sorted(took)
        p95 = ordered[int(0.95 * (len(ordered) - 1))]
        lines.append(
            f"{name}: {len(took)} calls, {len(took) / seconds:.1f}/s, "
            f"p50 {1000 * statistics.median(took):.0f} ms, p95 {1000 * p95:.0f} ms"
        )
    lines.append(f"model time: {100 * tally.model / tally.total:.0f} % of the time in the function")
    return "\n".join(lines)


def check(tally: Tally) -> None:
    assert tally.problems == []
    assert set(tally.seconds) == {"IndexFaces", "SearchFacesByImage", "DeleteFaces"}


def test_nothing_is_stale(api: Any, photos: Callable[[str], bytes], request: pytest.FixtureRequest) -> None:
    seconds = request.config.getoption("--busy-seconds")
    tally = run(api, photos("obama.jpg"), seconds)
    print("\n" + report(tally, seconds))
    check(tally)
