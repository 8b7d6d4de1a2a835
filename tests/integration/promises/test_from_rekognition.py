"""A collection of Amazon Rekognition, played back in its own wire format, made again here from its photos."""

from __future__ import annotations

import base64
import io
import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from PIL import Image
from typer.testing import CliRunner

from abeyance.cli.main import app
from abeyance.moving.comparison import compare
from abeyance.moving.errors import MovingError
from abeyance.moving.journal import Journal
from abeyance.moving.photos import PhotoReader, by_rule
from abeyance.moving.rekognition import RekognitionImport

from .conftest import encoded

BUCKET = "their-photos"


class RecordedRekognition:
    """The answers of Amazon Rekognition to reads of a collection, two faces a page."""

    def __init__(self) -> None:
        self.faces: list[dict[str, Any]] = []
        self.users: list[str] = []
        self.matches: dict[int, list[tuple[str, float]]] = {}
        self.client = boto3.client(
            "rekognition", "us-west-2", aws_access_key_id="AKIA", aws_secret_access_key="s"
        )
        self.client.meta.events.register("before-send.rekognition", self._answer)

    def add(self, name: str, box: dict[str, float], user: str = "", image: str = "") -> str:
        """Add a face whose box the service drew a little otherwise; return its id."""
        face_id = str(uuid.uuid4())
        left, top = box["Left"] - 0.01, box["Top"] + 0.01
        drawn = {"Left": left, "Top": top, "Width": box["Width"] * 1.1, "Height": box["Height"] * 0.95}
        face = {
            "FaceId": face_id,
            "BoundingBox": drawn,
            "ImageId": image or str(uuid.uuid4()),
            "Confidence": 99.9971,
            "IndexFacesModelVersion": "6.0",
        }
        self.faces.append(
            face | ({"ExternalImageId": name} if name else {}) | ({"UserId": user} if user else {})
        )
        if user and user not in self.users:
            self.users.append(user)
        return face_id

    def _answer(self, request: Any, **_: Any) -> AWSResponse:
        operation = request.headers["X-Amz-Target"].decode().partition(".")[2]
        given = json.loads(request.body)
        answer = {
            "ListFaces": self.list_faces,
            "ListUsers": self.list_users,
            "SearchFacesByImage": self.search,
        }[operation](given)
        response = AWSResponse(request.url, 200, {"Content-Type": "application/x-amz-json-1.1"}, None)
        response._content = json.dumps(answer).encode()
        return response

    def list_faces(self, given: dict[str, Any]) -> dict[str, Any]:
        start = int(given.get("NextToken", "0"))
        more = {"NextToken": str(start + 2)} if start + 2 < len(self.faces) else {}
        return {"Faces": self.faces[start : start + 2], "FaceModelVersion": "6.0", **more}

    def list_users(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"Users": [{"UserId": one, "UserStatus": "ACTIVE"} for one in self.users]}

    def search(self, given: dict[str, Any]) -> dict[str, Any]:
        found = self.matches.get(len(given["Image"]["Bytes"]), [])
        faces = {face["FaceId"]: face for face in self.faces}
        return {
            "FaceMatches": [{"Similarity": one, "Face": faces[face_id]} for face_id, one in found],
            "FaceModelVersion": "6.0",
        }


class Scene:
    """Their collection: two people alone, both in one photo, and every way in which a face is not moved."""

    def __init__(self, deployment: Any, photos: Callable[[str], bytes]) -> None:
        self.there = RecordedRekognition()
        self.s3 = deployment.aws.client("s3")
        if BUCKET not in [one["Name"] for one in self.s3.list_buckets()["Buckets"]]:
            self.s3.create_bucket(Bucket=BUCKET)
        self.api = deployment.api()("acme")
        one, two = (
            Image.open(io.BytesIO(photos(name))).convert("RGB") for name in ("obama.jpg", "biden.jpg")
        )
        both = Image.new("RGB", (one.width + two.width, max(one.height, two.height)))
        both.paste(one, (0, 0))
        both.paste(two, (one.width, 0))
        for name, picture in (("one.jpg", one), ("two.jpg", two), ("both.jpg", both)):
            self.put(name, encoded(picture))
        self.one = self.there.add("one.jpg", self.boxes("one.jpg")[0], "barack")
        self.two = self.there.add("two.jpg", self.boxes("two.jpg")[0])
        left, _ = sorted(self.boxes("both.jpg"), key=lambda box: box["Left"])
        self.left = self.there.add("both.jpg", left, "barack", "a2f0f1c8-0000-4000-8000-00000000000b")
        self.s3.delete_object(Bucket=BUCKET, Key="team/gone.jpg")
        self.put("nobody.jpg", encoded(Image.new("RGB", (300, 300), (90, 120, 150))))
        self.put("broken.jpg", b"no photo at all")
        self.there.add("nobody.jpg", left)
        self.there.add("broken.jpg", left)
        self.there.add("gone.jpg", left, "nobody-left")
        self.there.add("", left)
        self.there.users.append("without-faces")

    def put(self, name: str, content: bytes) -> None:
        self.s3.put_object(Bucket=BUCKET, Key=f"team/{name}", Body=content)

    def boxes(self, name: str) -> list[dict[str, float]]:
        content = self.s3.get_object(Bucket=BUCKET, Key=f"team/{name}")["Body"].read()
        return [one["BoundingBox"] for one in self.api.detect_faces(Image={"Bytes": content})["FaceDetails"]]

    def moving(self, journal: Journal, into: str, api: Any = None) -> RekognitionImport:
        return RekognitionImport(self.there.client, "theirs", api or self.api, into, self.reader, journal)

    @property
    def reader(self) -> PhotoReader:
        return PhotoReader(by_rule(f"s3://{BUCKET}/team/{{ExternalImageId}}"), self.s3)


@pytest.fixture
def scene(deployment: Any, photos: Callable[[str], bytes]) -> Scene:
    return Scene(deployment, photos)


EXPECTED = {
    "moved": 3,
    "photo_missing": 2,
    "photo_refused": 1,
    "face_not_found": 1,
    "quality_refused": 0,
}


def test_faces_come_in_under_the_same_names_and_users(scene: Scene, tmp_path: Path) -> None:
    with Journal(tmp_path / "theirs.import", {}) as journal:
        report = scene.moving(journal, "moved-in").run()
        assert report.faces == EXPECTED
        assert {one["reason"] for one in report.unmoved} >= {
            "NoSuchKey",
            "no place is known",
            "InvalidImageFormatException",
        }
        listed = scene.api.list_faces(CollectionId="moved-in")["Faces"]
        named = sorted((face["ExternalImageId"], face.get("UserId", "")) for face in listed)
        # Of the photo of two, only the one that was in their collection.
        assert named == [("both.jpg", "barack"), ("one.jpg", "barack"), ("two.jpg", "")]
        users = [one["UserId"] for one in scene.api.list_users(CollectionId="moved-in")["Users"]]
        assert users == ["barack", "nobody-left", "without-faces"]
        # The one in the photo of two is the person who was there.
        (left,) = journal.moved_id(scene.left)
        other = {journal.old_id(face["FaceId"])[0]: face["FaceId"] for face in listed}
        matches = scene.api.search_faces(CollectionId="moved-in", FaceId=other[left])["FaceMatches"]
        assert [one["Face"]["FaceId"] for one in matches] == [other[scene.one]]
        # Again: nothing is asked of their photos, and nothing changes.
        scene.s3.delete_object(Bucket=BUCKET, Key="team/one.jpg")
        assert scene.moving(journal, "moved-in").run() == report
        # A photo that turns up is found by another try.
        scene.put("gone.jpg", scene.s3.get_object(Bucket=BUCKET, Key="team/two.jpg")["Body"].read())
        journal.retry()
        assert scene.moving(journal, "moved-in").run().faces["photo_missing"] == 1


def test_an_import_that_dies_at_every_call_ends_the_same(scene: Scene, tmp_path: Path) -> None:
    class Dying:
        """The answer of one call is lost."""

        def __init__(self, at: int) -> None:
            self.left = at
            self.exceptions = scene.api.exceptions

        def __getattr__(self, name: str) -> Callable[..., Any]:
            def call(**request: Any) -> Any:
                answer = getattr(scene.api, name)(**request)
                self.left -= 1
                if self.left == 0:
                    raise ConnectionError
                return answer

            return call

    at = died = 0
    while True:
        at += 1
        with Journal(tmp_path / "theirs.import", {}) as journal:
            try:
                report = scene.moving(journal, "dying", Dying(at)).run()
                break
            except ConnectionError:
                died += 1
    assert died >= 4
    assert report.faces == EXPECTED
    listed = scene.api.list_faces(CollectionId="dying")["Faces"]
    assert len(listed) == 3
    assert scene.api.describe_collection(CollectionId="dying")["UserCount"] == 3


def test_a_collection_with_other_faces_is_left_alone(scene: Scene, tmp_path: Path) -> None:
    scene.api.create_collection(CollectionId="lived-in")
    content = scene.s3.get_object(Bucket=BUCKET, Key="team/both.jpg")["Body"].read()
    scene.api.index_faces(CollectionId="lived-in", Image={"Bytes": content})
    with Journal(tmp_path / "theirs.import", {}) as journal, pytest.raises(MovingError, match="--into"):
        scene.moving(journal, "lived-in").run()
    assert scene.api.describe_collection(CollectionId="lived-in")["FaceCount"] == 2


def test_the_same_probes_are_searched_for_in_both(scene: Scene, tmp_path: Path) -> None:
    content = {
        name: scene.s3.get_object(Bucket=BUCKET, Key=f"team/{name}")["Body"].read()
        for name in ("one.jpg", "two.jpg", "both.jpg")
    }
    sizes = {name: len(base64.b64encode(body)) for name, body in content.items()}
    scene.there.matches = {
        sizes["one.jpg"]: [(scene.one, 99.9), (scene.left, 99.1)],
        # They miss one, and find one that is not moved.
        sizes["two.jpg"]: [(scene.there.faces[3]["FaceId"], 88.0)],
        # The largest face of the photo is the other one.
        sizes["both.jpg"]: [(scene.two, 99.2)],
    }
    with Journal(tmp_path / "theirs.import", {}) as journal:
        scene.moving(journal, "compared").run()
        found = compare(
            scene.there.client,
            "theirs",
            scene.api,
            "compared",
            scene.reader,
            journal,
            probes=10,
            threshold=80.0,
        )
    assert found.probes == 3
    assert found.same_matches == 2
    (different,) = found.differences
    assert (different.probe, different.only_there, different.only_here) == (scene.two, [], [scene.two])


def test_by_command(scene: Scene, deployment: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("abeyance.deployment.moving.build_rekognition_client", lambda purpose: scene.api)
    monkeypatch.setattr(
        "abeyance.deployment.moving.build_source_clients", lambda *_: (scene.there.client, scene.s3)
    )
    arguments = ["import", "rekognition", "theirs", "--into", "by-command", "--compare", "1"]
    options = ["--photos", f"s3://{BUCKET}/team/{{ExternalImageId}}", "--journal", str(tmp_path / "j")]
    result = CliRunner().invoke(app, [*arguments, *options, "--json"])
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["import"]["faces"] == EXPECTED
    assert answer["comparison"]["probes"] == 1
    shown = CliRunner().invoke(app, [*arguments, *options])
    assert shown.exit_code == 0
    assert "photo_missing" in shown.stdout
    assert CliRunner().invoke(app, ["import", "rekognition", "theirs"]).exit_code == 2
