"""Every promise of docs/rekognition.md, through the API as ``deployment.build`` builds it, with real models."""

from __future__ import annotations

import io
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from botocore.exceptions import ClientError
from PIL import Image

from abeyance.deployment.parts import build_access_keys, build_gallery, build_tenants
from abeyance.gallery.model import CollectionRef, NewFace
from abeyance.rekognition.operations import OPERATIONS

from .conftest import Deployment, encoded

Photos = Callable[[str], bytes]
PAGE = (Path(__file__).parents[3] / "docs" / "rekognition.md").read_text(encoding="utf-8")
DEFAULT_MEMBERS = {"BoundingBox", "Confidence", "Landmarks", "Pose", "Quality"}


def table(heading: str) -> dict[str, tuple[str, ...]]:
    """Rows of the first table whose header begins with ``heading``, by their first cell."""
    lines = [*PAGE[PAGE.index(f"| {heading} |") :].splitlines(), ""]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[: lines.index("")]]
    return {first: tuple(rest) for first, *rest in rows[2:]}


@pytest.fixture(scope="module")
def api(deployment: Deployment) -> Callable[..., Any]:
    """The API under the flags of a new deployment: a client for a principal."""
    return deployment.api()


@pytest.fixture
def collection(api: Callable[..., Any]) -> str:
    name = f"c-{uuid.uuid4().hex[:8]}"
    api().create_collection(CollectionId=name)
    return name


def image(body: bytes) -> dict[str, bytes]:
    return {"Bytes": body}


def resized(photo: bytes, side: int) -> Image.Image:
    opened = Image.open(io.BytesIO(photo)).convert("RGB")
    opened.thumbnail((side, side))
    return opened


def on_page(photo: bytes, side: int) -> bytes:
    """The photo with longest side ``side``, on a grey page of 400 x 400."""
    page = Image.new("RGB", (400, 400), (120, 120, 120))
    page.paste(resized(photo, side), (20, 20))
    return encoded(page, "PNG")


def error_of(call: Callable[[], Any]) -> tuple[str, int, str]:
    with pytest.raises(ClientError) as caught:
        call()
    response = caught.value.response
    return (
        response["Error"]["Code"],
        response["ResponseMetadata"]["HTTPStatusCode"],
        response["Error"]["Message"],
    )


def test_every_operation(deployment: Deployment, api: Callable[..., Any], photos: Photos) -> None:
    acme = api()
    driven: set[str] = set()
    acme.meta.events.register("after-call.rekognition", lambda model, **_: driven.add(model.name))
    obama, other, biden = photos("obama.jpg"), photos("obama2.jpg"), photos("biden.jpg")

    made = acme.create_collection(CollectionId="all", Tags={"team": "a"})
    acme.tag_resource(ResourceArn=made["CollectionArn"], Tags={"stage": "live"})
    acme.untag_resource(ResourceArn=made["CollectionArn"], TagKeys=["team"])
    assert acme.list_tags_for_resource(ResourceArn=made["CollectionArn"])["Tags"] == {"stage": "live"}
    assert acme.describe_collection(CollectionId="all")["FaceModelVersion"] == made["FaceModelVersion"]
    assert "all" in acme.list_collections()["CollectionIds"]
    (record,) = acme.index_faces(CollectionId="all", Image=image(obama), ExternalImageId="o")["FaceRecords"]
    face_id = record["Face"]["FaceId"]
    (second,) = acme.index_faces(CollectionId="all", Image=image(other))["FaceRecords"]
    assert len(acme.list_faces(CollectionId="all")["Faces"]) == 2
    (detail,) = acme.detect_faces(Image=image(obama))["FaceDetails"]
    assert set(detail) == DEFAULT_MEMBERS
    compared = acme.compare_faces(SourceImage=image(obama), TargetImage=image(other))
    assert len(compared["FaceMatches"]) == 1
    assert len(acme.compare_faces(SourceImage=image(obama), TargetImage=image(biden))["UnmatchedFaces"]) == 1
    by_face = acme.search_faces(CollectionId="all", FaceId=face_id)["FaceMatches"]
    assert [match["Face"]["FaceId"] for match in by_face] == [second["Face"]["FaceId"]]
    by_image = acme.search_faces_by_image(CollectionId="all", Image=image(obama))["FaceMatches"]
    assert by_image[0]["Face"]["ExternalImageId"] == "o"

    acme.create_user(CollectionId="all", UserId="barack")
    joined = acme.associate_faces(CollectionId="all", UserId="barack", FaceIds=[face_id])
    assert (len(joined["AssociatedFaces"]), joined["UserStatus"]) == (1, "ACTIVE")
    assert [user["UserId"] for user in acme.list_users(CollectionId="all")["Users"]] == ["barack"]
    for found in (
        acme.search_users(CollectionId="all", FaceId=second["Face"]["FaceId"]),
        acme.search_users_by_image(CollectionId="all", Image=image(other)),
    ):
        assert [match["User"]["UserId"] for match in found["UserMatches"]] == ["barack"]

    template = acme.get_face_template(CollectionId="all", FaceId=face_id)
    by_template = acme.search_faces_by_template(
        CollectionId="all", Template=template["Template"], FaceModelVersion=template["FaceModelVersion"]
    )
    assert by_template["FaceMatches"][0]["Face"]["FaceId"] == face_id

    page = acme.export_faces(CollectionId="all", WithTemplates=True)
    acme.create_collection(CollectionId="moved")
    acme.import_faces(
        CollectionId="moved",
        FaceModelVersion=page["FaceModelVersion"],
        Users=page["Users"],
        Faces=page["Faces"],
    )
    level: dict[str, Any] = {"NextToken": "faces:"}
    while "NextToken" in level:
        level = acme.reembed_faces(
            CollectionId="all", TargetCollectionId="moved", NextToken=level["NextToken"]
        )
    versions = {name: level[name] for name in ("Version", "TargetVersion")}
    acme.switch_collections(CollectionId="all", TargetCollectionId="moved", **versions)
    acme.delete_collection(CollectionId="moved")

    # A job is kept and sent; the stages, which do not run here, do the rest: test_video.py.
    bucket = deployment.aws.settings.uploads_bucket
    deployment.aws.client("s3").put_object(Bucket=bucket, Key="acme/film.mp4", Body=b"film")
    film = {"S3Object": {"Bucket": bucket, "Name": "acme/film.mp4"}}
    searching = acme.start_face_search(CollectionId="all", Video=film)["JobId"]
    detecting = acme.start_face_detection(Video=film)["JobId"]
    assert acme.get_face_search(JobId=searching)["JobStatus"] == "IN_PROGRESS"
    assert acme.get_face_detection(JobId=detecting)["JobStatus"] == "IN_PROGRESS"

    acme.disassociate_faces(CollectionId="all", UserId="barack", FaceIds=[face_id])
    acme.delete_user(CollectionId="all", UserId="barack")
    assert acme.delete_faces(CollectionId="all", FaceIds=[face_id])["DeletedFaces"] == [face_id]
    # Erased at once, and the same bytes make the same id again.
    again = acme.search_faces_by_image(CollectionId="all", Image=image(obama))["FaceMatches"]
    assert [match["Face"]["FaceId"] for match in again] == [second["Face"]["FaceId"]]
    (record,) = acme.index_faces(CollectionId="all", Image=image(obama), ExternalImageId="o")["FaceRecords"]
    assert record["Face"]["FaceId"] == face_id
    assert acme.delete_collection(CollectionId="all")["StatusCode"] == 200
    assert driven == set(OPERATIONS) == set(table("operation"))


class TestAttributes:
    def test_all_has_every_documented_member(
        self, api: Callable[..., Any], collection: str, photos: Photos
    ) -> None:
        row = table("what")["attributes"][1]
        given, never = (set(re.findall(r"`([A-Z]\w+)`", part)) for part in row.split("and these always"))
        for name in ("astronaut.png", "obama.jpg", "biden.jpg"):
            (detail,) = api().detect_faces(Image=image(photos(name)), Attributes=["ALL"])["FaceDetails"]
            assert given | DEFAULT_MEMBERS == set(detail)
            assert not never & set(detail)
            assert len(detail["Landmarks"]) == 30
            assert "CONFUSED" not in {emotion["Type"] for emotion in detail["Emotions"]}
            assert 50 <= detail["MouthOpen"]["Confidence"] <= 100
            (record,) = api().index_faces(
                CollectionId=collection, Image=image(photos(name)), DetectionAttributes=["ALL"]
            )["FaceRecords"]
            assert record["FaceDetail"] == detail

    def test_each_by_name(self, api: Callable[..., Any], photos: Photos) -> None:
        members = {
            "AGE_RANGE": "AgeRange",
            "GENDER": "Gender",
            "EMOTIONS": "Emotions",
            "SMILE": "Smile",
            "MOUTH_OPEN": "MouthOpen",
            "EYES_OPEN": "EyesOpen",
        }
        for name, member in members.items():
            answer = api().detect_faces(Image=image(photos("obama.jpg")), Attributes=["DEFAULT", name])
            assert set(answer["FaceDetails"][0]) == DEFAULT_MEMBERS | {member}
        answer = api().detect_faces(Image=image(photos("obama.jpg")), Attributes=["BEARD"])
        assert set(answer["FaceDetails"][0]) == DEFAULT_MEMBERS

    def test_mouth_open_is_there_for_every_face(self, api: Callable[..., Any], photos: Photos) -> None:
        for name in ("astronaut.png", "obama.jpg", "obama2.jpg", "biden.jpg"):
            for side in (40, 80, 160, 360):
                answer = api().detect_faces(Image=image(on_page(photos(name), side)), Attributes=["ALL"])
                for detail in answer["FaceDetails"]:
                    assert 50 <= detail["MouthOpen"]["Confidence"] <= 100


class TestQualityFilter:
    def test_levels(self, api: Callable[..., Any], collection: str, photos: Photos) -> None:
        tiny = image(on_page(photos("obama.jpg"), 60))
        indexed = {
            level: api().index_faces(CollectionId=collection, Image=tiny, QualityFilter=level)
            for level in ("NONE", "HIGH")
        }
        assert [len(answer["FaceRecords"]) for answer in indexed.values()] == [1, 0]
        (left,) = indexed["HIGH"]["UnindexedFaces"]
        assert "SMALL_BOUNDING_BOX" in left["Reasons"]
        assert api().search_faces_by_image(CollectionId=collection, Image=tiny)["FaceMatches"]
        for call in (
            lambda: api().search_faces_by_image(CollectionId=collection, Image=tiny, QualityFilter="HIGH"),
            lambda: api().compare_faces(SourceImage=tiny, TargetImage=tiny, QualityFilter="HIGH"),
        ):
            assert error_of(call)[0] == "InvalidParameterException"
        users = api().search_users_by_image(CollectionId=collection, Image=tiny, QualityFilter="HIGH")
        assert "SMALL_BOUNDING_BOX" in users["UnsearchedFaces"][0]["Reasons"]

    def test_index_filters_by_default_and_max_faces_keeps_the_largest(
        self, api: Callable[..., Any], collection: str, photos: Photos
    ) -> None:
        page = Image.new("RGB", (700, 400), (120, 120, 120))
        page.paste(resized(photos("obama.jpg"), 380), (0, 0))
        page.paste(resized(photos("biden.jpg"), 200), (400, 0))
        page.paste(resized(photos("biden.jpg"), 40), (620, 0))
        answer = api().index_faces(CollectionId=collection, Image=image(encoded(page, "PNG")), MaxFaces=1)
        assert len(answer["FaceRecords"]) == 1
        reasons = [reason for face in answer["UnindexedFaces"] for reason in face["Reasons"]]
        assert "EXCEEDS_MAX_FACES" in reasons


class TestPages:
    def test_of_every_listing(self, api: Callable[..., Any], deployment: Deployment) -> None:
        acme = api("globex")
        gallery = build_gallery(deployment.aws.settings, deployment.aws.client)
        version = acme.create_collection(CollectionId="pages-0")["FaceModelVersion"]
        for number in range(1, 5):
            acme.create_collection(CollectionId=f"pages-{number}")
        gallery.index(CollectionRef("globex", "pages-0"), _faces(90, version))
        for number in range(5):
            acme.create_user(CollectionId="pages-0", UserId=f"u{number}")
        for operation, members, sizes, more in (
            ("list_collections", "CollectionIds", [2, 2, 1], {}),
            ("list_users", "Users", [2, 2, 1], {"CollectionId": "pages-0"}),
            ("list_faces", "Faces", [40, 40, 10], {"CollectionId": "pages-0"}),
        ):
            pages = acme.get_paginator(operation).paginate(PaginationConfig={"PageSize": sizes[0]}, **more)
            assert [len(page[members]) for page in pages] == sizes
        token = acme.list_users(CollectionId="pages-0", MaxResults=2)["NextToken"]
        code, _, _ = error_of(lambda: acme.list_faces(CollectionId="pages-0", NextToken=token))
        assert code == "InvalidPaginationTokenException"
        # 80 candidates where the request names no number.
        face_id = acme.list_faces(CollectionId="pages-0", MaxResults=1)["Faces"][0]["FaceId"]
        for limit, count in ({}, 80), ({"MaxFaces": 85}, 85):
            answer = acme.search_faces(CollectionId="pages-0", FaceId=face_id, **limit)
            assert len(answer["FaceMatches"]) == count


def _faces(count: int, model: str) -> list[NewFace]:
    template = np.zeros(128, np.float32)
    template[0] = 1
    return [NewFace(id=str(uuid.uuid4()), model=model, template=template) for _ in range(count)]


class TestErrors:
    """Each row of the page's table of errors."""

    def test_every_row(
        self, api: Callable[..., Any], collection: str, deployment: Deployment, photos: Photos
    ) -> None:
        acme, obama = api(), image(photos("obama.jpg"))
        s3, bucket = deployment.aws.client("s3"), deployment.aws.settings.uploads_bucket
        s3.put_object(Bucket=bucket, Key="acme/large.jpg", Body=bytes(15 * 1024 * 1024 + 1))
        s3.put_object(Bucket=bucket, Key="globex/a.jpg", Body=photos("obama.jpg"))
        s3.put_object(Bucket=bucket, Key="acme/cold.jpg", Body=photos("obama.jpg"), StorageClass="GLACIER")
        acme.create_user(CollectionId=collection, UserId="u")
        acme.create_user(CollectionId=collection, UserId="v")
        gallery = build_gallery(deployment.aws.settings, deployment.aws.client)
        version = acme.describe_collection(CollectionId=collection)["FaceModelVersion"]
        faces = gallery.index(CollectionRef("acme", collection), _faces(103, version))
        ids = [face.id for face in faces]
        acme.associate_faces(CollectionId=collection, UserId="u", FaceIds=ids[:100])
        once = {"CollectionId": collection, "UserId": "v", "ClientRequestToken": "once"}
        acme.associate_faces(FaceIds=ids[101:102], **once)
        keys = build_access_keys(
            deployment.aws.settings, deployment.aws.settings.tenants_table, deployment.aws.client
        )
        tenant = build_tenants(deployment.aws.settings, deployment.aws.client).get("acme")
        assert tenant
        key = keys.make(tenant)
        blank = image(encoded(Image.new("RGB", (200, 200))))

        def stored(name: str) -> dict[str, Any]:
            return {"S3Object": {"Bucket": bucket, "Name": name}}

        def detect(given: dict[str, Any]) -> Callable[[], Any]:
            return lambda: acme.detect_faces(Image=given)

        rows: dict[str, list[Callable[[], Any]]] = {
            "no JSON, or a value of another type": [
                lambda: _with_body(api, b"{").list_collections(),
                lambda: _with_body(api, b'{"MaxResults": "many"}').list_collections(),
            ],
            "an operation that is missing": [lambda: acme.detect_labels(Image=obama)],
            "a violation of the model; no face where one is needed; a side under 80 pixels": [
                lambda: acme.create_collection(CollectionId="no blanks"),
                lambda: acme.search_faces_by_image(CollectionId=collection, Image=blank),
                detect(image(encoded(Image.new("RGB", (79, 200))))),
                lambda: _with_body(api, b'{"NoSuchMember": 1}').list_collections(),
            ],
            "an image that is not JPEG, PNG or WebP, or is broken or animated": [
                detect(image(encoded(Image.new("RGB", (90, 90)), "BMP"))),
                detect(image(photos("obama.jpg")[:-2000])),
                detect(image(_animated())),
            ],
            "bytes over 5 MB, an object over 15 MB, too many pixels; a request over "
            "10 MB, on one machine over 16 MiB": [
                detect(image(bytes(5 * 1024 * 1024 + 1))),
                detect(stored("acme/large.jpg")),
                detect(image(encoded(Image.new("L", (8001, 8000)), "PNG"))),
            ],
            "an object that does not exist, is not yours, is archived, or is encrypted with a key that cannot be "
            "used; the message of the last two says what to do": [
                detect(stored("acme/none.jpg")),
                detect(stored("globex/a.jpg")),
                detect(stored("acme/cold.jpg")),
            ],
            "a tenant sends more requests than its `tenant_rate`": [
                # One request in ten seconds: of three, one is too many even where two windows meet.
                lambda: [one.list_collections() for one in [deployment.api(tenant_rate=0.1)()] * 3]
            ],
            "no such collection, user or job": [
                lambda: acme.list_faces(CollectionId="none"),
                lambda: acme.delete_user(CollectionId=collection, UserId="none"),
            ],
            "the collection exists": [lambda: acme.create_collection(CollectionId=collection)],
            "the user exists": [lambda: acme.create_user(CollectionId=collection, UserId="u")],
            "more than 100 faces for a user; more than 200 tags for a collection": [
                lambda: acme.associate_faces(CollectionId=collection, UserId="u", FaceIds=ids[100:101]),
                lambda: [
                    acme.tag_resource(
                        ResourceArn=acme.describe_collection(CollectionId=collection)["CollectionARN"],
                        Tags={f"{half}-{number}": "" for number in range(150)},
                    )
                    for half in range(2)
                ],
            ],
            "an idempotency token for another request; so for a job on video": [
                lambda: acme.associate_faces(FaceIds=ids[102:], **once)
            ],
            "a token of another listing": [
                lambda: acme.list_faces(CollectionId=collection, NextToken="bm9uc2Vuc2U")
            ],
            "a signature with a key that is wrong, expired, or for another service or region": [
                lambda: deployment.api_with_key(key.id, "another").list_collections()
            ],
            "a signature that leaves something open": [
                lambda: _with_header(deployment.api_with_key(key.id, key.secret)).list_collections()
            ],
            "a signature of a key that was never made": [
                lambda: deployment.api_with_key("ABEY" + 16 * "A", key.secret).list_collections()
            ],
            "a moratorium, an unregistered caller, flags that cannot be relied on": [
                lambda: api("springfield-police").compare_faces(SourceImage=obama, TargetImage=obama),
                lambda: api("nobody").list_collections(),
                lambda: api("gone").list_collections(),
                lambda: deployment.api(flags="file:/nowhere.json")().detect_faces(Image=obama),
            ],
            "a model that is missing on the deployment, or damaged; the message names it": [
                lambda: deployment.api(models=str(deployment._folder))().detect_faces(Image=obama),
            ],
            "others keep changing the collection; AWS throttles; no worker is free for 25 s on one machine; the "
            "registry or the ledger's queue is out of reach": [
                lambda: deployment.api(ledger_queue="none")().detect_faces(Image=obama),
                lambda: deployment.api(clients=_throttled(deployment))().detect_faces(
                    Image=stored("acme/a.jpg")
                ),
            ],
        }
        documented = {happens: error for happens, (error,) in table("happens").items()}
        assert set(rows) == set(documented)
        for happens, calls in rows.items():
            expected = documented[happens]
            for call in calls:
                code, status, message = error_of(call)
                assert (code, status) == (expected, 500 if expected == "ThrottlingException" else 400), (
                    happens,
                    message,
                )
                if expected == "UnknownOperationException":
                    assert "DetectLabels" in message
                    assert "docs/rekognition.md" in message
                if expected == "ResourceNotReadyException":
                    assert "yunet-2023mar" in message
                    assert "abeyance models fetch" in message

    def test_a_missing_attribute_model_is_said_too(
        self, deployment: Deployment, photos: Photos, tmp_path: Path
    ) -> None:
        from abeyance.vision.models.store import models_directory

        for name in ("yunet-2023mar.onnx", "yunet-2023mar.receipt.json"):
            (tmp_path / name).write_bytes((models_directory() / name).read_bytes())
        acme = deployment.api(models=str(tmp_path))()
        assert acme.detect_faces(Image=image(photos("obama.jpg")))["FaceDetails"]
        code, status, message = error_of(
            lambda: acme.detect_faces(Image=image(photos("obama.jpg")), Attributes=["GENDER"])
        )
        assert (code, status) == ("ResourceNotReadyException", 400)
        assert "abeyance models fetch" in message


def _with_body(api: Callable[..., Any], body: bytes) -> Any:
    """A client that sends ``body`` whatever it is asked."""
    made = api()
    made.meta.events.register("before-call.rekognition", lambda params, **_: params.update(body=body))
    return made


def _with_header(made: Any) -> Any:
    """A client whose requests get a header of Amazon's after they were signed."""
    made.meta.events.register_first(
        "before-send.rekognition", lambda request, **_: request.headers.__setitem__("X-Amz-Other", "1")
    )
    return made


def _animated() -> bytes:
    frames = [Image.new("RGB", (100, 100), colour) for colour in ("red", "blue")]
    return encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])


def _throttled(deployment: Deployment) -> Callable[[str], Any]:
    """AWS clients whose S3 is asked too often."""
    import boto3

    s3 = boto3.client(
        "s3",
        endpoint_url=deployment.aws.endpoint,
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",
    )

    def refuse(**_: Any) -> Any:
        raise ClientError({"Error": {"Code": "SlowDown", "Message": ""}}, "GetObject")

    s3.meta.events.register("before-call.s3.GetObject", refuse)
    return lambda service: s3 if service == "s3" else deployment.aws.client(service)


class TestImages:
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
    def test_formats(self, api: Callable[..., Any], photos: Photos, kind: str) -> None:
        body = encoded(resized(photos("obama.jpg"), 500), kind)
        assert len(api().detect_faces(Image=image(body))["FaceDetails"]) == 1

    def test_orientation_is_applied(self, api: Callable[..., Any], photos: Photos) -> None:
        upright = resized(photos("obama.jpg"), 500)
        exif = Image.Exif()
        exif[0x0112] = 6
        turned = encoded(upright.rotate(90, expand=True), exif=exif)
        answer = api().detect_faces(Image=image(turned))
        assert "OrientationCorrection" not in answer
        (detail,) = answer["FaceDetails"]
        (expected,) = api().detect_faces(Image=image(encoded(upright)))["FaceDetails"]
        for side in ("Left", "Top", "Width", "Height"):
            assert detail["BoundingBox"][side] == pytest.approx(expected["BoundingBox"][side], abs=0.02)

    def test_an_object_of_ones_own(
        self, api: Callable[..., Any], deployment: Deployment, photos: Photos
    ) -> None:
        bucket = deployment.aws.settings.uploads_bucket
        deployment.aws.client("s3").put_object(
            Bucket=bucket, Key="acme/faces/a.jpg", Body=photos("obama.jpg")
        )
        answer = api().detect_faces(Image={"S3Object": {"Bucket": bucket, "Name": "acme/faces/a.jpg"}})
        assert len(answer["FaceDetails"]) == 1
        assert "total;dur=" in answer["ResponseMetadata"]["HTTPHeaders"]["server-timing"]

    def test_a_photo_gives_its_hundred_largest_faces(
        self, api: Callable[..., Any], collection: str, photos: Photos
    ) -> None:
        face = resized(photos("biden.jpg"), 130)
        page = Image.new("RGB", (11 * face.width, 10 * face.height))
        for place in range(110):
            page.paste(face, (place % 11 * face.width, place // 11 * face.height))
        answer = api().detect_faces(Image=image(encoded(page, quality=95)))
        assert len(answer["FaceDetails"]) == 100


def flag(**more: Any) -> dict[str, Any]:
    return {
        "enabled": True,
        "effect": "restrict",
        "actions": ["compare", "search"],
        "sectors": ["commercial"],
        "jurisdictions": ["all"],
        "starts": "2020-06-10T00:00:00Z",
        "on_expiry": "hold",
        "reason": "Only with care.",
        "source": "test",
        **more,
    }


class TestMoratoria:
    def test_a_halt_gives_its_reason_and_is_on_the_ledger(
        self, deployment: Deployment, photos: Photos
    ) -> None:
        deployment.decisions()
        api = deployment.api({"stop": flag(effect="halt", exempt_purposes=["missing_children"])})
        images = {"SourceImage": image(photos("obama.jpg")), "TargetImage": image(photos("obama2.jpg"))}
        with pytest.raises(ClientError, match=r"Only with care\.") as caught:
            api().compare_faces(**images)
        (record,) = deployment.decisions()
        assert record["body"]["request"] == caught.value.response["ResponseMetadata"]["RequestId"]
        assert record["body"]["operation"] == "CompareFaces"
        # The purpose travels in a header, and managing one's own collections is never halted.
        assert api(purpose="missing_children").compare_faces(**images)["FaceMatches"]
        api().create_collection(CollectionId="halted")
        api().delete_collection(CollectionId="halted")

    def test_a_restriction_raises_the_threshold_and_says_so(
        self, deployment: Deployment, photos: Photos
    ) -> None:
        images = {"SourceImage": image(photos("obama.jpg")), "TargetImage": image(photos("obama2.jpg"))}
        answer = deployment.api({"care": flag(min_similarity=100)})().compare_faces(**images)
        assert answer["FaceMatches"] == []
        headers = answer["ResponseMetadata"]["HTTPHeaders"]
        assert (headers["x-abeyance-similarity-threshold"], headers["x-abeyance-flags"]) == ("100", "care")

    def test_review_cannot_be_skipped(self, deployment: Deployment, photos: Photos) -> None:
        api = deployment.api({"care": flag(human_review=2)})
        call = lambda: api().compare_faces(  # noqa: E731
            SourceImage=image(photos("obama.jpg")), TargetImage=image(photos("obama2.jpg"))
        )
        code, _, message = error_of(call)
        assert code == "AccessDeniedException"
        assert "2 independent reviewers" in message

    def test_actions_need_a_registration(self, api: Callable[..., Any], photos: Photos) -> None:
        api("globex").create_collection(CollectionId="plain")
        for call in (
            lambda: api("globex").get_face_template(CollectionId="plain", FaceId=str(uuid.uuid4())),
            lambda: api("globex").search_faces_by_template(
                CollectionId="plain", Template=[1.0], FaceModelVersion="m"
            ),
        ):
            assert error_of(call)[0] == "AccessDeniedException"
        api("globex").delete_collection(CollectionId="plain")
