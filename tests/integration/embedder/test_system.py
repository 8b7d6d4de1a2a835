"""The whole system with its embedder behind the wire gives what it gives without, also through an outage."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from abeyance.deployment.settings import DeploymentSettings
from abeyance.gallery.model import CollectionRef
from abeyance.gallery.store import DynamoGallery
from abeyance.local.demo import prepare
from abeyance.local.samples import as_png, fetch_samples
from abeyance.local.system import LocalSystem
from abeyance.local.tenants import TENANTS, register
from abeyance.pipeline import topology
from abeyance.vision.models.manifest import Manifest

from .conftest import Server

Serve = Callable[..., Server]
PHOTOS = 16


@pytest.fixture(scope="module")
def photos() -> list[tuple[str, bytes]]:
    prepare()
    paths = sorted(path for name, path in fetch_samples("csu-scrapshots").items() if name.endswith(".pgm"))
    return [(path.stem + ".png", as_png(path)) for path in paths[: 2 * PHOTOS]]


@pytest.fixture
def sface(serve: Serve) -> Server:
    """The endpoint with the default model."""
    return serve(Manifest.load()["sface-2021dec"]).start()


def outcome(system: LocalSystem) -> dict[str, Any]:
    """Return the outcome of a run: faces in the gallery, and matches by photo."""
    s3 = system.client("s3")
    gallery = DynamoGallery(system.client("dynamodb"), "abeyance-gallery", s3, "abeyance-gallery")
    page = gallery.list_faces(CollectionRef("acme", "staff"), limit=1000)
    faces = sorted((face.id, face.external_image_id, face.model) for face in page.items)
    results = {}
    for item in s3.list_objects_v2(Bucket="results").get("Contents", []):
        document = json.loads(s3.get_object(Bucket="results", Key=item["Key"])["Body"].read())
        matches = [
            [(match["face_id"], round(match["similarity"], 1)) for match in face["matches"]]
            for face in document.get("faces", [])
            if "matches" in face
        ]
        results[item["Key"]] = (document["event"], matches)
    return {"faces": faces, "results": results}


def put(system: LocalSystem, action: str, photos: list[tuple[str, bytes]]) -> None:
    for name, body in photos:
        system.client("s3").put_object(Bucket="uploads", Key=f"acme/{action}/staff/{name}", Body=body)


def run(
    photos: list[tuple[str, bytes]], embedder: str, fault: Callable[[LocalSystem], None]
) -> dict[str, Any]:
    with LocalSystem(DeploymentSettings.of(embedder=embedder)) as system:
        register(system, TENANTS)
        put(system, "index", photos[:PHOTOS])
        fault(system)
        system.drain(240)
        put(system, "search", photos[PHOTOS:])
        system.drain(240)
        dead = {stage.dead_letter_queue: 0 for stage in topology.STAGES}
        assert {name: count for name, count in system.waiting().items() if name in dead} == dead
        return outcome(system)


@pytest.mark.slow
def test_killed_in_mid_load_nothing_is_lost_or_doubled(
    sface: Server, photos: list[tuple[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A message that fails is delivered again at once, so that five deliveries are soon over.
    monkeypatch.setattr("abeyance.local.poller.MAX_BACKOFF_S", 0)
    expected = run(photos, "local", lambda system: None)
    assert len(expected["results"]) == 2 * PHOTOS

    def kill(system: LocalSystem) -> None:
        end = time.monotonic() + 60
        while not sface.metric("abeyance_embedder_chips_total") and time.monotonic() < end:
            time.sleep(0.02)
        sface.kill()
        # Longer than a message's five deliveries take, with four tries of the endpoint each: were they counted, it
        # would be dead.
        time.sleep(8)
        sface.start()

    assert run(photos, f"http:{sface.url}", kill) == expected
    assert sface.metric("abeyance_embedder_chips_total") >= PHOTOS


@pytest.mark.slow
def test_the_api_works_through_it(sface: Server, photos: list[tuple[str, bytes]]) -> None:
    with LocalSystem(DeploymentSettings.of(embedder=f"http:{sface.url}")) as system:
        register(system, TENANTS)
        rekognition = system.client("rekognition", "acme")
        rekognition.create_collection(CollectionId="staff")
        (name, first), (_, second) = photos[:2]
        indexed = rekognition.index_faces(CollectionId="staff", Image={"Bytes": first}, ExternalImageId=name)
        assert len(indexed["FaceRecords"]) == 1
        found = rekognition.search_faces_by_image(CollectionId="staff", Image={"Bytes": first})
        assert found["FaceMatches"][0]["Face"]["ExternalImageId"] == name
        assert found["FaceMatches"][0]["Similarity"] > 99
        compared = rekognition.compare_faces(
            SourceImage={"Bytes": first}, TargetImage={"Bytes": second}, SimilarityThreshold=0
        )
        assert compared["SourceImageFace"]
        assert sface.metric("abeyance_embedder_chips_total") >= 4
        sface.terminate()
        with pytest.raises(rekognition.exceptions.ThrottlingException):
            rekognition.search_faces_by_image(CollectionId="staff", Image={"Bytes": first})
