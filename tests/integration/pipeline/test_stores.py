"""Objects and names of every class, through the whole system: each upload ends in one result, and nothing is left."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from abeyance.local.system import LocalSystem
from abeyance.pipeline.uploads import result_key
from abeyance.rekognition.client import client as rekognition_client

from .conftest import settled_events

LONG = "acme/index/long/" + "😀" * 251 + "abcd"


@pytest.fixture(scope="module")
def api(system: LocalSystem) -> Any:
    return rekognition_client(
        system.endpoint, "us-east-1", aws_access_key_id="acme", aws_secret_access_key="any"
    )


@pytest.fixture
def run(system: LocalSystem) -> Callable[..., dict[str, Any]]:
    """Put an object, wait until all is quiet, and return its result."""

    def put(key: str, body: bytes, **options: Any) -> dict[str, Any]:
        system.client("s3").put_object(Bucket="uploads", Key=key, Body=body, **options)
        system.drain(120)
        return result_of(system, key)

    return put


def result_of(system: LocalSystem, key: str) -> dict[str, Any]:
    answer = system.client("s3").get_object(Bucket="results", Key=result_key(key))
    document: dict[str, Any] = json.loads(answer["Body"].read())
    assert document["upload"]["key"] == key
    return document


def faces(api: Any, collection: str) -> list[str]:
    return [face["FaceId"] for face in api.list_faces(CollectionId=collection)["Faces"]]


def objects(system: LocalSystem, bucket: str) -> list[str]:
    return [one["Key"] for one in system.client("s3").list_objects_v2(Bucket=bucket).get("Contents", [])]


@pytest.mark.parametrize("storage", ["GLACIER", "DEEP_ARCHIVE"])
def test_an_archived_photo_ends_and_takes_the_former_faces_with_it(
    system: LocalSystem, portraits: dict[str, Path], api: Any, run: Any, storage: str
) -> None:
    collection, obama = f"vault-{storage}", portraits["obama.jpg"].read_bytes()
    key = f"acme/index/{collection}/person.jpg"
    assert run(key, obama)["event"] == "Faces Indexed"
    assert len(faces(api, collection)) == 1
    rejected = run(key, portraits["biden.jpg"].read_bytes(), StorageClass=storage)
    assert (rejected["event"], rejected["stage"], rejected["reason"]) == (
        "Upload Rejected",
        "gate",
        "OBJECT_ARCHIVED",
    )
    assert "copy it over itself" in rejected["message"]
    assert faces(api, collection) == []
    assert not [
        name
        for name in objects(system, system.settings.chips_bucket)
        if rejected["upload"]["version"] in name
    ]

    # What the message says to do is what helps.
    s3 = system.client("s3")
    s3.restore_object(Bucket="uploads", Key=key, RestoreRequest={"Days": 1})
    s3.copy_object(
        Bucket="uploads",
        Key=key,
        CopySource={"Bucket": "uploads", "Key": key},
        StorageClass="STANDARD",
        MetadataDirective="COPY",
    )
    system.drain(120)
    assert result_of(system, key)["event"] == "Faces Indexed"
    assert len(faces(api, collection)) == 1


def test_an_archived_photo_is_a_clear_answer_of_the_api(
    system: LocalSystem, portraits: dict[str, Path], api: Any
) -> None:
    key = "acme/kept/cold.jpg"
    body = portraits["obama.jpg"].read_bytes()
    system.client("s3").put_object(Bucket="uploads", Key=key, Body=body, StorageClass="GLACIER")
    with pytest.raises(api.exceptions.InvalidS3ObjectException, match="archived"):
        api.detect_faces(Image={"S3Object": {"Bucket": "uploads", "Name": key}})


NAMES = (
    "acme/index/names/张伟.jpg",
    "acme/index/names//..jpg",
    "acme/index/names/a/../b.jpg",
    "acme/index/names/./c.jpg",
    "acme/index/names/d+e %20%2e%2e f.jpg",
    "acme/index/names/tab\t\x01\x7f.jpg",  # moto routes no line feed
    "acme/index/names/C:\\photos\\g.jpg",
    "acme/index/names/https://example.org/h.jpg?i=j#k",
    LONG,
    LONG[:-1] + "e",
)


def test_photos_of_any_name_are_indexed_searched_and_deleted(
    system: LocalSystem, portraits: dict[str, Path], api: Any
) -> None:
    s3, photo = system.client("s3"), portraits["obama.jpg"].read_bytes()
    assert [len(key.encode()) for key in NAMES[-2:]] == [1024, 1024]
    for key in NAMES:
        s3.put_object(Bucket="uploads", Key=key, Body=photo)
    system.drain(240)
    indexed = {key: result_of(system, key) for key in NAMES}
    assert {document["event"] for document in indexed.values()} == {"Faces Indexed"}
    ids = {document["faces"][0]["face_id"] for document in indexed.values()}
    assert ids == set(faces(api, "names")) | set(faces(api, "long"))
    assert len(ids) == len(NAMES)
    for key in NAMES:
        s3.delete_object(Bucket="uploads", Key=key)
    system.drain(240)
    assert faces(api, "names") == faces(api, "long") == []
    assert not set(objects(system, "results")) & set(map(result_key, NAMES))


@pytest.mark.parametrize("name", [".", "..", "..."])
def test_a_collection_that_looks_like_a_path(
    system: LocalSystem, portraits: dict[str, Path], api: Any, run: Any, name: str
) -> None:
    obama = portraits["obama.jpg"].read_bytes()
    api.create_collection(CollectionId=name)
    assert api.describe_collection(CollectionId=name)["FaceCount"] == 0
    assert run(f"acme/index/{name}/obama.jpg", obama)["event"] == "Faces Indexed"
    (face_id,) = faces(api, name)
    matched = run(f"acme/search/{name}/obama2.jpg", portraits["obama2.jpg"].read_bytes())
    assert [match["face_id"] for match in matched["faces"][0]["matches"]] == [face_id]
    found = api.search_faces_by_image(CollectionId=name, Image={"Bytes": obama})
    assert [match["Face"]["FaceId"] for match in found["FaceMatches"]] == [face_id]
    assert name in api.list_collections()["CollectionIds"]
    api.delete_collection(CollectionId=name)
    assert name not in api.list_collections()["CollectionIds"]


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("acme/index/odd/empty.jpg", "EMPTY"),
        ("acme/index/odd/folder/", "EMPTY"),
        ("acme/index/odd/", "KEY_NOT_UNDERSTOOD"),
        ("acme/index/", "KEY_NOT_UNDERSTOOD"),
        ("a" * 1024, "KEY_NOT_UNDERSTOOD"),
        ("张" * 341 + "a", "KEY_NOT_UNDERSTOOD"),
    ],
)
def test_an_object_without_a_photo_ends(run: Any, key: str, reason: str) -> None:
    document = run(key, b"")
    assert (document["event"], document["reason"]) == ("Upload Rejected", reason)


def test_a_photo_of_several_parts(system: LocalSystem, portraits: dict[str, Path]) -> None:
    s3, key = system.client("s3"), "acme/index/parts/a.png"
    body = io.BytesIO()
    Image.open(portraits["obama.jpg"]).resize((2400, 3000)).save(body, "PNG", compress_level=1)
    photo = body.getvalue()
    assert len(photo) > 5 * 2**20
    upload = {"Bucket": "uploads", "Key": key}
    upload["UploadId"] = s3.create_multipart_upload(**upload)["UploadId"]
    parts = [
        {"PartNumber": n, "ETag": s3.upload_part(**upload, PartNumber=n, Body=part)["ETag"]}
        for n, part in enumerate((photo[: 5 * 2**20], photo[5 * 2**20 :]), 1)
    ]
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    system.drain(120)
    document = result_of(system, key)
    assert document["event"] == "Faces Indexed"
    assert document["upload"]["etag"].endswith("-2")


def test_nothing_was_lost_or_given_up(system: LocalSystem) -> None:
    assert set(system.waiting().values()) == {0}
    ids = [event.id for event in settled_events(system)]
    assert len(set(ids)) == len(ids)
