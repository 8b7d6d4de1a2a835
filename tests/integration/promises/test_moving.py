"""A collection moved out and in again: equal searches, decided and on the ledger, whatever is interrupted."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from botocore.exceptions import ClientError
from typer.testing import CliRunner

from abeyance.cli.main import app
from abeyance.deployment.parts import build_gallery
from abeyance.gallery.facade import Gallery
from abeyance.gallery.model import CollectionRef, NewFace
from abeyance.moving import exchange
from abeyance.moving.errors import MovingError
from abeyance.moving.exchange import export_collection, import_collection
from abeyance.moving.keys import PassphraseKey
from abeyance.rekognition.wire import single

KEY = PassphraseKey(b"correct horse battery")
FACES = 130


@pytest.fixture(scope="module")
def gallery(deployment: Any) -> Gallery:
    return build_gallery(deployment.aws.settings, deployment.aws.client)


@pytest.fixture(scope="module")
def collection(deployment: Any, gallery: Gallery) -> CollectionRef:
    """Faces in pairs that are alike; users of one to a hundred faces, one without any."""
    ref = CollectionRef("acme", "origin")
    deployment.api()("acme").create_collection(CollectionId="origin")
    fill(gallery, ref, FACES)
    return ref


def fill(gallery: Gallery, ref: CollectionRef, count: int) -> None:
    random = np.random.default_rng(7)
    model = gallery.describe(ref).model
    base = random.normal(size=(count // 2 + 1, 128))
    vectors = np.repeat(base, 2, axis=0)[:count] + 0.4 * random.normal(size=(count, 128))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    faces = [
        NewFace(
            id=str(uuid.uuid5(uuid.NAMESPACE_URL, f"{ref.name}/{number}")),
            model=model,
            template=vector.astype(np.float32),
            image_id=str(uuid.uuid5(uuid.NAMESPACE_URL, f"photo {number}")),
            external_image_id=f"name-{number}" if number % 3 else "",
            box=(0.1, 0.2, 0.3, 0.4),
            confidence=0.97,
            quality={"brightness": 50.0 + number % 7, "sharpness": 71.5},
        )
        for number, vector in enumerate(vectors)
    ]
    for start in range(0, count, 1000):
        gallery.index(ref, faces[start : start + 1000])
    gallery.create_user(ref, "empty")
    start, size = 0, 1
    while start < count // 2:
        gallery.create_user(ref, f"user-{start}")
        own = [face.id for face in faces[start : min(start + size, count // 2)]]
        gallery.associate_faces(ref, f"user-{start}", own[::-1])
        start, size = start + size, min(100, 2 * size)


def searches(api: Any, name: str, faces: int = 8) -> list[Any]:
    """The answers to searches by stored faces, for faces and for users."""
    listed = api.list_faces(CollectionId=name)["Faces"]
    answers = []
    for face in listed[:: max(1, len(listed) // faces)]:
        request = {"CollectionId": name, "FaceId": face["FaceId"]}
        found = api.search_faces(**request, FaceMatchThreshold=0)["FaceMatches"]
        answers.append([(one["Similarity"], one["Face"]) for one in found])
        answers.append(api.search_users(**request, UserMatchThreshold=0)["UserMatches"])
    return answers


def test_what_comes_in_answers_as_what_went_out(
    deployment: Any, collection: CollectionRef, gallery: Gallery, tmp_path: Path
) -> None:
    api = deployment.api()("acme")
    deployment.decisions()
    path = tmp_path / "origin.parquet"
    moved = export_collection(api, "origin", path, KEY, templates=True)
    before = gallery.describe(collection)
    assert (moved.faces, moved.users) == (before.face_count, before.user_count)
    entries = deployment.decisions()
    exported = [one for one in entries if one["body"]["operation"] == "ExportFaces"]
    assert {one["body"]["decision"]["action"] for one in exported} == {"template_export"}
    assert {one["body"]["collection"] for one in exported} == {"origin"}

    again = import_collection(api, path, KEY, "copy")
    assert (again.faces, again.users, again.refused) == (moved.faces, moved.users, 0)
    imported = [one for one in deployment.decisions() if one["body"]["operation"] == "ImportFaces"]
    assert {one["body"]["decision"]["action"] for one in imported} == {"template_import"}
    assert searches(api, "copy") == searches(api, "origin")
    copy = CollectionRef("acme", "copy")
    for face in gallery.list_faces(collection).items:
        (other,) = gallery.get_faces(copy, [face.id])
        assert other.quality == face.quality
        assert other.box == tuple(map(single, face.box))
        assert (other.image_id, other.external_image_id, other.user_id) == (
            face.image_id,
            face.external_image_id,
            face.user_id,
        )
    # The same again adds nothing.
    seq = gallery.describe(copy).seq
    assert import_collection(api, path, KEY, "copy") == again
    assert gallery.describe(copy).seq == seq
    assert list(tmp_path.iterdir()) == [path]


def test_an_import_that_is_cut_off_anywhere_ends_the_same(
    deployment: Any,
    collection: CollectionRef,
    gallery: Gallery,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exchange, "FACES_A_REQUEST", 40)
    api = deployment.api()("acme")
    path = tmp_path / "origin.parquet"
    export_collection(api, "origin", path, KEY, templates=True)
    calls = Dying(api)
    interrupted = 0
    while True:
        calls.left = 2
        try:
            import_collection(calls, path, KEY, "pieces")
            break
        except ConnectionError:
            interrupted += 1
    assert interrupted >= 2
    assert searches(api, "pieces", 4) == searches(api, "origin", 4)
    assert gallery.describe(CollectionRef("acme", "pieces")).face_count == FACES


class Dying:
    """A client whose every third call is answered, and the answer lost."""

    def __init__(self, api: Any) -> None:
        self._api = api
        self.exceptions = api.exceptions
        self.left = 0

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(**request: Any) -> Any:
            answer = getattr(self._api, name)(**request)
            if self.left == 0:
                raise ConnectionError
            self.left -= 1
            return answer

        return call


def test_a_halt_binds_an_export_of_templates_in_the_middle(
    deployment: Any, collection: CollectionRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    halt = {
        "enabled": True,
        "effect": "halt",
        "actions": ["template_export"],
        "sectors": ["all"],
        "jurisdictions": ["all"],
        "starts": "2020-01-01T00:00:00Z",
        "on_expiry": "hold",
        "reason": "No templates leave.",
        "source": "test",
    }
    api, halted = deployment.api()("acme"), deployment.api({"care": halt})("acme")
    path = tmp_path / "x.parquet"

    class Halting:
        def __getattr__(self, name: str) -> Any:
            return getattr(halted if seen.append(name) or seen.count("export_faces") > 1 else api, name)

    seen: list[str] = []
    with pytest.raises(ClientError, match="No templates leave"):
        export_collection(Halting(), "origin", path, KEY, templates=True)
    assert not list(tmp_path.iterdir())
    # Without templates it is a listing, which nothing halts.
    moved = export_collection(halted, "origin", path, KEY, templates=False)
    assert moved.faces == FACES
    with pytest.raises(MovingError, match="no templates"):
        import_collection(api, path, KEY, "nothing")


def test_templates_of_another_model_are_not_mixed_in(
    deployment: Any, gallery: Gallery, tmp_path: Path
) -> None:
    gallery.create_collection(CollectionRef("acme", "former"), model="former@000000000000", dimension=128)
    fill(gallery, CollectionRef("acme", "former"), 4)
    api = deployment.api()("acme")
    path = tmp_path / "x.parquet"
    export_collection(api, "former", path, KEY, templates=True)
    for name in ("origin", "new-one"):
        with pytest.raises(MovingError, match="former@000000000000"):
            import_collection(api, path, KEY, name)
    assert "new-one" not in api.list_collections()["CollectionIds"]


def test_a_collection_that_changes_meanwhile_is_exported_again(
    deployment: Any, gallery: Gallery, tmp_path: Path
) -> None:
    api = deployment.api()("acme")
    api.create_collection(CollectionId="moving")
    ref = CollectionRef("acme", "moving")
    fill(gallery, ref, 6)

    class Busy:
        def __getattr__(self, name: str) -> Any:
            if name == "export_faces":
                gallery.create_user(ref, uuid.uuid4().hex)
            return getattr(api, name)

    with pytest.raises(MovingError, match="export it again"):
        export_collection(Busy(), "moving", tmp_path / "x.parquet", KEY, templates=True)


def test_only_who_is_registered_for_it_gets_templates(deployment: Any, tmp_path: Path) -> None:
    api = deployment.api()("globex")
    api.create_collection(CollectionId="plain")
    assert export_collection(api, "plain", tmp_path / "x.parquet", KEY, templates=False).faces == 0
    with pytest.raises(api.exceptions.AccessDeniedException):
        export_collection(api, "plain", tmp_path / "y.parquet", KEY, templates=True)


def test_by_command(
    deployment: Any, collection: CollectionRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = deployment.api()("acme")
    monkeypatch.setattr("abeyance.deployment.moving.build_rekognition_client", lambda purpose: api)
    (tmp_path / "key").write_text("correct horse battery\n")
    file = str(tmp_path / "origin.parquet")
    options = ["--passphrase-file", str(tmp_path / "key"), "--json"]

    def run(*arguments: str, code: int = 0) -> Any:
        result = CliRunner().invoke(app, ["collections", *arguments])
        assert result.exit_code == code, result.output
        return json.loads(result.stdout) if code == 0 else None

    assert run("export", "origin", file, "--templates", *options)["faces"] == FACES
    assert run("import", file, "--collection", "by-command", *options)["faces"] == FACES
    run("export", "origin", file, code=2)
