"""A collection of the model before the map beside one of today's: both answer, and one call exchanges them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from abeyance.cli.main import app
from abeyance.deployment.parts import build_gallery
from abeyance.gallery.facade import Gallery
from abeyance.gallery.model import CollectionRef, NewFace
from abeyance.moving.reembed import changed_matches, level, read_labels
from abeyance.vision.models.manifest import Manifest

from .conftest import Deployment
from .test_events import Pipeline

ENTRY = Manifest.load()["sface-2021dec"]
(FORMER,) = ENTRY.forms
NAMES = ("obama.jpg", "biden.jpg")


@pytest.fixture(scope="module")
def gallery(deployment: Deployment) -> Gallery:
    return build_gallery(deployment.aws.settings, deployment.aws.client)


@pytest.fixture(scope="module")
def pipeline(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return Pipeline(deployment, tmp_path_factory.mktemp("reembed") / "flags.json")


@pytest.fixture(scope="module")
def old(
    deployment: Deployment, gallery: Gallery, pipeline: Pipeline, photos: Callable[[str], bytes]
) -> CollectionRef:
    """A collection of before the map, which goes on taking photos by both ways."""
    ref = CollectionRef("acme", "elders")
    gallery.create_collection(ref, model=FORMER.identity, dimension=FORMER.dimension)
    api = deployment.api()("acme")
    made = api.index_faces(CollectionId="elders", Image={"Bytes": photos(NAMES[0])}, ExternalImageId="barack")
    assert made["FaceModelVersion"] == FORMER.identity
    api.create_user(CollectionId="elders", UserId="barack")
    api.associate_faces(
        CollectionId="elders", UserId="barack", FaceIds=[made["FaceRecords"][0]["Face"]["FaceId"]]
    )
    pipeline.upload("acme/index/elders/biden.jpg", photos(NAMES[1]))
    pipeline.upload("acme/search/elders/obama.jpg", photos(NAMES[0]))
    pipeline.run("gate", "detect", "recognize")
    return ref


def named(answer: dict[str, Any]) -> list[tuple[str, float]]:
    return [(one["Face"]["ExternalImageId"], round(one["Similarity"])) for one in answer["FaceMatches"]]


def test_a_collection_of_before_the_map_is_answered_and_written(
    deployment: Deployment, gallery: Gallery, pipeline: Pipeline, old: CollectionRef, photos: Any
) -> None:
    assert sorted(face.external_image_id for face in gallery.list_faces(old).items) == ["barack", "biden.jpg"]
    assert {face.model for face in gallery.list_faces(old).items} == {FORMER.identity}
    api = deployment.api()("acme")
    found = api.search_faces_by_image(CollectionId="elders", Image={"Bytes": photos(NAMES[1])})
    assert named(found) == [("biden.jpg", 100)]
    assert found["FaceModelVersion"] == FORMER.identity
    s3, bucket = deployment.aws.client("s3"), deployment.aws.settings.results_bucket
    body = s3.get_object(Bucket=bucket, Key="acme/search/elders/obama.jpg.json")["Body"].read()
    result = json.loads(body)
    assert result["model"] == FORMER.identity
    assert [one["external_image_id"] for one in result["faces"][0]["matches"]] == ["barack"]


def test_both_answer_and_the_switch_is_on_the_ledger(
    deployment: Deployment, gallery: Gallery, old: CollectionRef, photos: Any
) -> None:
    api = deployment.api()("acme")
    found = level(api, "elders", "elders.next")
    assert (found.faces, found.target_faces, found.outcomes) == (2, 2, {"converted": 2})
    # A template made of the old one is the one that the photo makes.
    api.create_collection(CollectionId="fresh")
    api.index_faces(CollectionId="fresh", Image={"Bytes": photos(NAMES[1])}, ExternalImageId="biden.jpg")
    image = {"Bytes": photos(NAMES[0])}
    answers = {}
    for name in ("elders", "elders.next", "fresh"):
        answers[name] = api.search_faces_by_image(CollectionId=name, Image=image, FaceMatchThreshold=0)
    assert answers["elders"]["FaceModelVersion"] == FORMER.identity
    assert answers["elders.next"]["FaceModelVersion"] == ENTRY.identity
    similarity = {
        name: next(
            one["Similarity"]
            for one in answer["FaceMatches"]
            if one["Face"]["ExternalImageId"] == "biden.jpg"
        )
        for name, answer in answers.items()
    }
    assert similarity["elders.next"] == pytest.approx(similarity["fresh"], abs=0.1)
    assert similarity["elders.next"] != pytest.approx(similarity["elders"], abs=0.1)

    deployment.decisions()
    runner = CliRunner()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("abeyance.deployment.moving.build_rekognition_client", lambda purpose: api)
        shown = runner.invoke(app, ["collections", "switch", "elders", "elders.next", "--json"])
        assert shown.exit_code == 0, shown.output
        assert json.loads(shown.stdout)["model"] == ENTRY.identity
        assert gallery.describe(old).model == ENTRY.identity
        entries = deployment.decisions()
        (switched,) = [one for one in entries if one["body"]["operation"] == "SwitchCollections"]
        assert switched["body"]["collection"] == "elders"
        assert switched["body"]["other_collection"] == "elders.next"
        made = [one for one in entries if one["body"]["operation"] == "ReembedFaces"]
        assert {one["body"]["decision"]["action"] for one in made} == {"index"}
        assert {one["body"]["collection"] for one in made} == {"elders.next"}
        # What comes now is in the new one, and in the old one when they are switched back.
        api.index_faces(CollectionId="elders", Image=image, ExternalImageId="again")
        back = runner.invoke(app, ["collections", "switch", "elders", "elders.next"])
        assert back.exit_code == 0, back.output
    assert gallery.describe(old).model == FORMER.identity
    assert sorted(
        name for name, _ in named(api.search_faces_by_image(CollectionId="elders", Image=image))
    ) == [
        "again",
        "barack",
    ]


def test_matches_that_change_are_counted_by_group(
    deployment: Deployment, gallery: Gallery, old: CollectionRef, photos: Any, tmp_path: Path
) -> None:
    api = deployment.api()("acme")
    level(api, "elders", "elders.third")
    # The worst that the other model could do: two people become one.
    third = CollectionRef("acme", "elders.third")
    faces = gallery.list_faces(third).items
    biden = next(face for face in faces if face.external_image_id == "biden.jpg")
    api.delete_faces(CollectionId="elders.third", FaceIds=[biden.id])
    barack = next(face for face in faces if face.external_image_id == "barack")
    template = gallery.templates(third, [barack.id])[barack.id]
    gallery.index(third, [NewFace(id=biden.id, model=ENTRY.identity, template=template)])
    labels = tmp_path / "labels.csv"
    labels.write_text("UserId,group\nbarack,presidents\n")
    found = changed_matches(
        api, "elders", "elders.third", probes=10, thresholds=[80, 99], group_of=read_labels(labels)
    )
    by_key = {(one.group, one.threshold): one for one in found}
    assert set(by_key) == {("all", 80), ("all", 99), ("presidents", 80), ("presidents", 99)}
    assert by_key["presidents", 80].probes == 1
    assert by_key["presidents", 80].changed == 1
    assert by_key["presidents", 80].gained == 1
    assert by_key["all", 99].probes == len(faces)


def test_by_command(deployment: Deployment, old: CollectionRef, monkeypatch: pytest.MonkeyPatch) -> None:
    api = deployment.api()("acme")
    monkeypatch.setattr("abeyance.deployment.moving.build_rekognition_client", lambda purpose: api)
    arguments = ["collections", "re-embed", "elders", "elders.fourth", "--probes", "2"]
    answer = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert answer["level"]["target_faces"] == answer["level"]["faces"]
    assert answer["changed_matches"][0]["probes"] == 2
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0
    assert "collections switch elders elders.fourth" in shown.stdout
