"""The demonstration: real photos through the real handlers on this machine, and the outcome of each."""

from __future__ import annotations

import io
import json
import struct
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
from botocore.exceptions import ClientError
from PIL import Image, ImageFilter, PngImagePlugin

from abeyance.assurance.files import WrittenCertificate
from abeyance.assurance.reconcile import Reconciliation
from abeyance.aws.timestamps import utc_now
from abeyance.deployment.build import build_reconciler
from abeyance.deployment.parts import build_log_objects, build_policy
from abeyance.deployment.settings import DeploymentSettings
from abeyance.ledger.defects import LedgerReport
from abeyance.ledger.identity import LOG, read_identity
from abeyance.ledger.opened import open_log, with_opened
from abeyance.ledger.verification import verify_log
from abeyance.local.moto import object_exists
from abeyance.local.public import certify_halt
from abeyance.local.samples import as_png, fetch_samples
from abeyance.local.system import LocalSystem
from abeyance.local.tenants import TENANTS, register
from abeyance.pipeline.uploads import result_key
from abeyance.vision.models.manifest import Manifest
from abeyance.vision.models.registry import Progress
from abeyance.vision.models.store import fetch

#: The flag that halts the police.
HALT = "police_halt"
#: Lowest similarity of a match: the default of every search.
THRESHOLD = 80.0


class SamplePhoto(msgspec.Struct, frozen=True, kw_only=True):
    """A photo to upload, with its ground truth."""

    key: str
    body: bytes
    #: The person in it; empty if it is nobody in the collection.
    person: str = ""
    metadata: dict[str, str] = {}

    @property
    def name(self) -> str:
        """The name of the file."""
        return self.key.rsplit("/", 1)[-1]


class SampleOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """A photo and its result document from the results bucket."""

    photo: SamplePhoto
    result: dict[str, Any]

    @property
    def candidates(self) -> list[dict[str, Any]]:
        """The candidates of the largest face, nearest first."""
        faces = self.result.get("faces", [])
        return faces[0].get("matches", []) if faces else []


class DemoAccuracy(msgspec.Struct, frozen=True, kw_only=True):
    """Identification of the thirty people, by ISO/IEC 19795-1.

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
    """The outcomes of the demonstration."""

    accuracy: DemoAccuracy
    scrapshots: list[SampleOutcome]
    portraits: list[SampleOutcome]
    bad: list[SampleOutcome]
    police: list[SampleOutcome]
    missing_children: list[SampleOutcome]
    ledger: LedgerReport
    reconciled: Reconciliation
    uploads: int
    #: Of the halt of the police, from the beginning of the log.
    certificate: WrittenCertificate
    seconds: float
    indexed: dict[str, SamplePhoto]


Steps = Callable[[str, int, int], None]


def prepare(progress: Progress | None = None) -> None:
    """Fetch the models and the sample photos that are not on this machine yet."""
    manifest = Manifest.load()
    settings = DeploymentSettings()
    models = [manifest[settings.detector_model], manifest[settings.embedder_model]]
    fetch(models, progress=lambda _, step: progress(step) if progress else None)
    for name in ("csu-scrapshots", "white-house-portraits", "astronaut"):
        fetch_samples(name, progress)


def run(system: LocalSystem, steps: Steps, public: Path) -> Demonstration:
    """Upload everything to a running ``system``, wait, and return the outcomes.

    ``steps`` gets the progress. The certificate of the halt is written into the folder ``public``.
    """
    start, began = time.perf_counter(), utc_now()
    register(system, TENANTS)
    system.watch_flags()
    gallery, probes = _scrapshots()
    portraits, portrait_probes = _portraits()
    police, missing = _agencies()
    bad = list(_unusable())
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
    system.timekeeper.checkpoint()
    ledger = verify(system)
    reconciled = build_reconciler(system.settings, system.client).compare(began, grace=timedelta(0))
    return Demonstration(
        accuracy=accuracy(found),
        scrapshots=found,
        portraits=_outcomes(system, portrait_probes),
        bad=_outcomes(system, bad),
        police=_outcomes(system, police),
        missing_children=_outcomes(system, missing),
        ledger=ledger,
        reconciled=reconciled,
        certificate=certify_halt(system, HALT, reconciled, public),
        uploads=len(first) + len(second),
        seconds=seconds,
        indexed={photo.name: photo for photo in first},
    )


def verify(system: LocalSystem) -> LedgerReport:
    """Verify the ledger of a running system against its own key, and open every field."""
    objects = build_log_objects(system.settings, system.client)
    policy = build_policy(system.settings, system.client)
    report = verify_log(objects, policy(read_identity(objects.get(LOG)).origin), now=utc_now())
    return with_opened(report, open_log(objects, report.size))


def accuracy(outcomes: Sequence[SampleOutcome]) -> DemoAccuracy:
    """Return rank-1, FNIR and FPIR of searches without a threshold for people who are all in the gallery."""
    first = missed = false = 0
    for outcome in outcomes:
        ranked = outcome.candidates
        first += bool(ranked) and _person(ranked[0]) == outcome.photo.person
        above = [_person(match) for match in ranked if match["similarity"] >= THRESHOLD]
        missed += outcome.photo.person not in above
        false += any(person != outcome.photo.person for person in above)
    count = len(outcomes)
    return DemoAccuracy(
        people=len({outcome.photo.person for outcome in outcomes}),
        probes=count,
        rank_1=first / count,
        fnir=missed / count,
        fpir=false / count,
    )


def _person(match: dict[str, Any]) -> str:
    return str(match["external_image_id"])[:5]


def _scrapshots() -> tuple[list[SamplePhoto], list[SamplePhoto]]:
    """Return one photo of each of the thirty people for the gallery, and all others as probes without a threshold."""
    paths = [path for name, path in sorted(fetch_samples("csu-scrapshots").items()) if name.endswith(".pgm")]
    gallery: dict[str, SamplePhoto] = {}
    probes = []
    for path in paths:
        person, name = path.name[:5], f"{path.stem}.png"
        if person not in gallery:
            gallery[person] = SamplePhoto(
                key=f"acme/index/scrapshots/{name}", body=as_png(path), person=person
            )
        else:
            probes.append(
                SamplePhoto(
                    key=f"acme/search/scrapshots/{name}",
                    body=as_png(path),
                    person=person,
                    metadata={"face-match-threshold": "0"},
                )
            )
    known = {probe.person for probe in probes}
    return [photo for person, photo in gallery.items() if person in known], probes


def _portraits() -> tuple[list[SamplePhoto], list[SamplePhoto]]:
    files = fetch_samples("white-house-portraits")
    astronaut = fetch_samples("astronaut")["astronaut.png"]
    gallery = [
        SamplePhoto(key=f"acme/index/presidents/{name}", body=files[name].read_bytes(), person=name[:5])
        for name in ("obama.jpg", "biden.jpg")
    ]
    probes = [
        SamplePhoto(key=f"acme/search/presidents/{name}", body=files[name].read_bytes(), person="obama")
        for name in sorted(files)
        if name.startswith("obama") and name != "obama.jpg"
    ]
    probes.append(SamplePhoto(key="acme/search/presidents/astronaut.png", body=astronaut.read_bytes()))
    return gallery, probes


def _agencies() -> tuple[list[SamplePhoto], list[SamplePhoto]]:
    """Return the photos of the police, which are halted, and of an exempt organisation, which are permitted."""
    files = fetch_samples("white-house-portraits")
    one, other = files["obama.jpg"].read_bytes(), files["obama2.jpg"].read_bytes()
    police = [
        SamplePhoto(key="springfield-police/index/arrests/arrest.jpg", body=one),
        SamplePhoto(
            key="springfield-police/search/arrests/suspect.jpg",
            body=other,
            metadata={"purpose": "criminal_investigation"},
        ),
    ]
    purpose = {"purpose": "missing_children"}
    missing = [
        SamplePhoto(key="icmec/index/missing/reported.jpg", body=one, person="reported", metadata=purpose),
        SamplePhoto(key="icmec/search/missing/sighting.jpg", body=other, person="reported", metadata=purpose),
    ]
    return police, missing


def _unusable() -> Iterator[SamplePhoto]:
    """Yield photos that must be rejected."""
    files = fetch_samples("white-house-portraits")
    portrait = files["obama.jpg"].read_bytes()
    yield _search("truncated.jpg", portrait[: len(portrait) // 3])
    yield _search("not-an-image.jpg", b"<html><body>404</body></html>")
    yield _search("empty.jpg", b"")
    yield _search("300-megapixels.png", _png_header(20_000, 15_000))
    body = io.BytesIO()
    Image.effect_noise((640, 480), 60).filter(ImageFilter.GaussianBlur(20)).save(body, "JPEG")
    yield _search("no-face.jpg", body.getvalue())


def _search(name: str, body: bytes) -> SamplePhoto:
    return SamplePhoto(key=f"acme/search/presidents/{name}", body=body)


def _png_header(width: int, height: int) -> bytes:
    """Return a PNG that declares a size in pixels and has next to none."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = io.BytesIO()
    body.write(b"\x89PNG\r\n\x1a\n")
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")):
        PngImagePlugin.putchunk(body, kind, data)
    return body.getvalue()


def _upload(system: LocalSystem, photos: Sequence[SamplePhoto], what: str, steps: Steps) -> None:
    """Put the photos and wait until every event has been processed."""
    s3, settings, total = system.client("s3"), system.settings, len(photos)
    for photo in photos:
        s3.put_object(Bucket=settings.uploads_bucket, Key=photo.key, Body=photo.body, Metadata=photo.metadata)
    while system.busy():
        done = sum(object_exists(settings.results_bucket, result_key(photo.key)) for photo in photos)
        steps(what, done, total)
        time.sleep(0.5)
    steps(what, total, total)


def _outcomes(system: LocalSystem, photos: Sequence[SamplePhoto]) -> list[SampleOutcome]:
    s3 = system.client("s3")
    outcomes = []
    for photo in photos:
        try:
            answer = s3.get_object(Bucket=system.settings.results_bucket, Key=result_key(photo.key))
        except ClientError as error:
            raise RuntimeError(f"{photo.key} has no result; {system.waiting()}") from error
        outcomes.append(SampleOutcome(photo=photo, result=json.loads(answer["Body"].read())))
    return outcomes
