"""The demonstration: real photos through the real handlers on this machine, and what came of each of them."""

from __future__ import annotations

import io
import json
import struct
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
from botocore.exceptions import ClientError
from PIL import Image, ImageFilter

from abeyance.deployment.settings import DeploymentSettings
from abeyance.ledger.findings import Report
from abeyance.ledger.store import LedgerStore
from abeyance.ledger.verify import verify_store
from abeyance.local.samples import as_png, fetch_samples
from abeyance.local.system import LocalSystem
from abeyance.local.tenants import TENANTS, register
from abeyance.vision.models.manifest import Manifest
from abeyance.vision.models.registry import Progress
from abeyance.vision.models.store import fetch

#: Similarity from which the demonstration calls two faces one person: the default of every search.
THRESHOLD = 80.0


class Photo(msgspec.Struct, frozen=True, kw_only=True):
    """A photo to upload, and what is known of it beforehand."""

    key: str
    body: bytes
    #: Who is in it; empty if nobody that the collection knows.
    person: str = ""
    metadata: dict[str, str] = {}

    @property
    def name(self) -> str:
        """The file's name."""
        return self.key.rsplit("/", 1)[-1]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a photo: its result document, as it lies in the results bucket."""

    photo: Photo
    result: dict[str, Any]

    @property
    def candidates(self) -> list[dict[str, Any]]:
        """Candidates of the largest face, nearest first."""
        faces = self.result.get("faces", [])
        return faces[0].get("matches", []) if faces else []


class Accuracy(msgspec.Struct, frozen=True, kw_only=True):
    """Identification on the thirty people, as ISO/IEC 19795-1 counts it.

    ``fnir`` counts mated searches whose mate is not returned at the threshold; ``fpir`` counts, over the same
    probes with the mate taken out of the gallery, searches that return anybody else.
    """

    people: int
    probes: int
    rank_1: float
    fnir: float
    fpir: float
    threshold: float = THRESHOLD


class Demonstration(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the demonstration found."""

    accuracy: Accuracy
    scrapshots: list[Outcome]
    portraits: list[Outcome]
    bad: list[Outcome]
    police: list[Outcome]
    missing_children: list[Outcome]
    ledger: Report
    uploads: int
    seconds: float
    indexed: dict[str, Photo]


Steps = Callable[[str, int, int], None]


def prepare(progress: Progress | None = None) -> None:
    """Fetch the models and the sample photos; nothing to do the second time."""
    manifest = Manifest.load()
    settings = DeploymentSettings()
    models = [manifest[settings.detector_model], manifest[settings.embedder_model]]
    fetch(models, progress=lambda _, step: progress(step) if progress else None)
    for name in ("csu-scrapshots", "white-house-portraits", "astronaut"):
        fetch_samples(name, progress)


def run(system: LocalSystem, steps: Steps) -> Demonstration:
    """Upload everything to a running ``system``, wait, and collect the results; ``steps`` is told how far it is."""
    start = time.perf_counter()
    register(system, TENANTS)
    gallery, probes = _scrapshots()
    portraits, portrait_probes = _portraits()
    police, missing = _agencies()
    bad = list(_bad())
    first = [*gallery, *portraits, *(photo for photo in missing if "/index/" in photo.key)]
    second = [
        *probes,
        *portrait_probes,
        *bad,
        *police,
        *(photo for photo in missing if "/search/" in photo.key),
    ]
    _upload(system, first, "Indexing", steps)
    _upload(system, second, "Searching", steps)
    seconds = time.perf_counter() - start
    found = _outcomes(system, probes)
    store = LedgerStore(system.client("dynamodb"), system.settings.ledger_table)
    ledger = verify_store(store)
    assert ledger is not None, "nothing was written to the ledger"
    return Demonstration(
        accuracy=accuracy(found),
        scrapshots=found,
        portraits=_outcomes(system, portrait_probes),
        bad=_outcomes(system, bad),
        police=_outcomes(system, police),
        missing_children=_outcomes(system, missing),
        ledger=ledger,
        uploads=len(first) + len(second),
        seconds=seconds,
        indexed={photo.name: photo for photo in first},
    )


def accuracy(outcomes: Sequence[Outcome]) -> Accuracy:
    """Rank-1, FNIR and FPIR of searches for people who are all in the gallery, asked for without a threshold."""
    first = missed = false = 0
    for outcome in outcomes:
        ranked = outcome.candidates
        first += bool(ranked) and _person(ranked[0]) == outcome.photo.person
        above = [_person(match) for match in ranked if match["similarity"] >= THRESHOLD]
        missed += outcome.photo.person not in above
        false += any(person != outcome.photo.person for person in above)
    count = len(outcomes)
    return Accuracy(
        people=len({outcome.photo.person for outcome in outcomes}),
        probes=count,
        rank_1=first / count,
        fnir=missed / count,
        fpir=false / count,
    )


def _person(match: dict[str, Any]) -> str:
    return str(match["external_image_id"])[:5]


def _scrapshots() -> tuple[list[Photo], list[Photo]]:
    """One photo of each of the thirty people for the gallery; all others are probes, and want every candidate."""
    paths = [path for name, path in sorted(fetch_samples("csu-scrapshots").items()) if name.endswith(".pgm")]
    gallery: dict[str, Photo] = {}
    probes = []
    for path in paths:
        person, name = path.name[:5], f"{path.stem}.png"
        if person not in gallery:
            gallery[person] = Photo(key=f"acme/index/scrapshots/{name}", body=as_png(path), person=person)
        else:
            probes.append(
                Photo(
                    key=f"acme/search/scrapshots/{name}",
                    body=as_png(path),
                    person=person,
                    metadata={"face-match-threshold": "0"},
                )
            )
    known = {probe.person for probe in probes}
    return [photo for person, photo in gallery.items() if person in known], probes


def _portraits() -> tuple[list[Photo], list[Photo]]:
    files = fetch_samples("white-house-portraits")
    astronaut = fetch_samples("astronaut")["astronaut.png"]
    gallery = [
        Photo(key=f"acme/index/presidents/{name}", body=files[name].read_bytes(), person=name[:5])
        for name in ("obama.jpg", "biden.jpg")
    ]
    probes = [
        Photo(key=f"acme/search/presidents/{name}", body=files[name].read_bytes(), person="obama")
        for name in sorted(files)
        if name.startswith("obama") and name != "obama.jpg"
    ]
    probes.append(Photo(key="acme/search/presidents/astronaut.png", body=astronaut.read_bytes()))
    return gallery, probes


def _agencies() -> tuple[list[Photo], list[Photo]]:
    """What the police are halted on, and what an exempt organisation goes on with."""
    files = fetch_samples("white-house-portraits")
    one, other = files["obama.jpg"].read_bytes(), files["obama2.jpg"].read_bytes()
    police = [
        Photo(key="springfield-police/index/arrests/arrest.jpg", body=one),
        Photo(
            key="springfield-police/search/arrests/suspect.jpg",
            body=other,
            metadata={"purpose": "criminal_investigation"},
        ),
    ]
    purpose = {"purpose": "missing_children"}
    missing = [
        Photo(key="icmec/index/missing/reported.jpg", body=one, person="reported", metadata=purpose),
        Photo(key="icmec/search/missing/sighting.jpg", body=other, person="reported", metadata=purpose),
    ]
    return police, missing


def _bad() -> Iterator[Photo]:
    """Uploads that must end in a reason."""
    files = fetch_samples("white-house-portraits")
    portrait = files["obama.jpg"].read_bytes()
    yield _search("truncated.jpg", portrait[: len(portrait) // 3])
    yield _search("not-an-image.jpg", b"<html><body>404</body></html>")
    yield _search("empty.jpg", b"")
    yield _search("300-megapixels.png", _png_header(20_000, 15_000))
    body = io.BytesIO()
    Image.effect_noise((640, 480), 60).filter(ImageFilter.GaussianBlur(20)).save(body, "JPEG")
    yield _search("no-face.jpg", body.getvalue())


def _search(name: str, body: bytes) -> Photo:
    return Photo(key=f"acme/search/presidents/{name}", body=body)


def _png_header(width: int, height: int) -> bytes:
    """A PNG that declares its size and has next to no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def _upload(system: LocalSystem, photos: Sequence[Photo], what: str, steps: Steps) -> None:
    """Put the photos and wait for a result of each."""
    s3, bucket = system.client("s3"), system.settings.uploads_bucket
    total = len(photos)
    for photo in photos:
        s3.put_object(Bucket=bucket, Key=photo.key, Body=photo.body, Metadata=photo.metadata)
    while system.busy():
        steps(what, _results(system, photos), total)
        time.sleep(0.5)
    steps(what, total, total)


def _results(system: LocalSystem, photos: Sequence[Photo]) -> int:
    pages = (
        system.client("s3").get_paginator("list_objects_v2").paginate(Bucket=system.settings.results_bucket)
    )
    there = {found["Key"] for page in pages for found in page.get("Contents", [])}
    return sum(f"{photo.key}.json" in there for photo in photos)


def _outcomes(system: LocalSystem, photos: Sequence[Photo]) -> list[Outcome]:
    s3 = system.client("s3")
    outcomes = []
    for photo in photos:
        try:
            answer = s3.get_object(Bucket=system.settings.results_bucket, Key=f"{photo.key}.json")
        except ClientError as error:
            raise RuntimeError(f"{photo.key} has no result; {system.waiting()}") from error
        outcomes.append(Outcome(photo=photo, result=json.loads(answer["Body"].read())))
    return outcomes
