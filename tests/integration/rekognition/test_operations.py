"""Every operation through a real boto3 client over HTTP; the client checks each request and response by the model."""

from __future__ import annotations

import datetime
import io
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from PIL import Image

Photos = Callable[[str], bytes]


@pytest.fixture
def faces(api: Any) -> Iterator[str]:
    """A collection of its own."""
    name = f"faces-{uuid.uuid4().hex[:8]}"
    api.client().create_collection(CollectionId=name)
    yield name
    api.client().delete_collection(CollectionId=name)


def index(api: Any, collection: str, photo: bytes, **more: Any) -> str:
    answer = api.client().index_faces(CollectionId=collection, Image={"Bytes": photo}, **more)
    (record,) = answer["FaceRecords"]
    return str(record["Face"]["FaceId"])


def plain(side: int = 200) -> bytes:
    """A photo of nothing."""
    body = io.BytesIO()
    Image.new("RGB", (side, side), (120, 140, 160)).save(body, "JPEG")
    return body.getvalue()


def side_by_side(*photos: bytes) -> bytes:
    """Several photos as one, the same height."""
    images = [Image.open(io.BytesIO(photo)).convert("RGB") for photo in photos]
    images = [image.resize((image.width * 500 // image.height, 500)) for image in images]
    whole = Image.new("RGB", (sum(image.width for image in images), 500))
    for number, image in enumerate(images):
        whole.paste(image, (sum(before.width for before in images[:number]), 0))
    body = io.BytesIO()
    whole.save(body, "JPEG", quality=95)
    return body.getvalue()


def crowd(photo: bytes, columns: int, rows: int) -> bytes:
    """The same face many times."""
    face = Image.open(io.BytesIO(photo)).convert("RGB")
    face.thumbnail((130, 130))
    whole = Image.new("RGB", (columns * face.width, rows * face.height))
    for place in range(columns * rows):
        whole.paste(face, (place % columns * face.width, place // columns * face.height))
    body = io.BytesIO()
    whole.save(body, "JPEG", quality=95)
    return body.getvalue()


class TestCollections:
    def test_life(self, api: Any) -> None:
        client = api.client()
        # The answer's time stamp is rounded to milliseconds.
        before = datetime.datetime.now(datetime.UTC) - datetime.timedelta(milliseconds=1)
        made = client.create_collection(CollectionId="life", Tags={"team": "ünit 1"})
        after = datetime.datetime.now(datetime.UTC) + datetime.timedelta(milliseconds=1)
        assert made["StatusCode"] == 200
        assert made["CollectionArn"] == "aws:rekognition:us-east-1:123456789012:collection/life"
        described = client.describe_collection(CollectionId="life")
        assert (described["FaceCount"], described["UserCount"]) == (0, 0)
        assert described["FaceModelVersion"] == made["FaceModelVersion"]
        assert before <= described["CreationTimestamp"] <= after
        with pytest.raises(client.exceptions.ResourceAlreadyExistsException):
            client.create_collection(CollectionId="life")
        assert client.delete_collection(CollectionId="life")["StatusCode"] == 200
        for operation in (client.delete_collection, client.describe_collection, client.list_faces):
            with pytest.raises(client.exceptions.ResourceNotFoundException):
                operation(CollectionId="life")

    def test_pages(self, api: Any) -> None:
        client = api.client("globex")
        names = [f"page-{number}" for number in range(5)]
        for name in names:
            client.create_collection(CollectionId=name)
        pages = list(client.get_paginator("list_collections").paginate(PaginationConfig={"PageSize": 2}))
        assert [len(page["CollectionIds"]) for page in pages] == [2, 2, 1]
        assert [name for page in pages for name in page["CollectionIds"]] == names
        assert all(len(page["FaceModelVersions"]) == len(page["CollectionIds"]) for page in pages)
        with pytest.raises(client.exceptions.InvalidPaginationTokenException):
            client.list_collections(NextToken="bm9uc2Vuc2U")
        for name in names:
            client.delete_collection(CollectionId=name)


class TestDetect:
    def test_describes_a_face(self, api: Any, photos: Photos) -> None:
        (face,) = api.client().detect_faces(Image={"Bytes": photos("obama.jpg")})["FaceDetails"]
        assert set(face) == {"BoundingBox", "Landmarks", "Pose", "Quality", "Confidence"}
        points = {point["Type"]: (point["X"], point["Y"]) for point in face["Landmarks"]}
        assert set(points) == {"eyeLeft", "eyeRight", "nose", "mouthLeft", "mouthRight"}
        # As the viewer sees it: the left eye is on the left of the photo.
        assert points["eyeLeft"][0] < points["nose"][0] < points["eyeRight"][0]
        assert points["eyeLeft"][1] < points["nose"][1] < points["mouthLeft"][1]
        box = face["BoundingBox"]
        assert box["Left"] < points["nose"][0] < box["Left"] + box["Width"]
        assert face["Confidence"] > 80

    def test_no_face_is_no_error(self, api: Any) -> None:
        assert api.client().detect_faces(Image={"Bytes": plain()})["FaceDetails"] == []

    def test_attributes_may_be_asked_for(self, api: Any, photos: Photos) -> None:
        image = {"Bytes": photos("obama.jpg")}
        answer = api.client().detect_faces(Image=image, Attributes=["ALL", "DEFAULT"])
        assert len(answer["FaceDetails"]) == 1
        client = api.client("detector-only")
        assert client.detect_faces(Image=image, Attributes=["DEFAULT"])["FaceDetails"]
        with pytest.raises(client.exceptions.AccessDeniedException, match="not registered"):
            client.detect_faces(Image=image, Attributes=["SMILE"])

    def test_numbers_have_single_precision(self, api: Any, photos: Photos) -> None:
        import numpy as np

        (face,) = api.client().detect_faces(Image={"Bytes": photos("biden.jpg")})["FaceDetails"]
        for number in (*face["BoundingBox"].values(), *face["Pose"].values(), face["Confidence"]):
            assert float(np.float32(number)) == number


class TestCompare:
    def test_same_and_other(self, api: Any, photos: Photos) -> None:
        target = side_by_side(photos("obama2.jpg"), photos("biden.jpg"))
        answer = api.client().compare_faces(
            SourceImage={"Bytes": photos("obama.jpg")}, TargetImage={"Bytes": target}
        )
        (match,), (other,) = answer["FaceMatches"], answer["UnmatchedFaces"]
        assert match["Similarity"] >= 80
        assert match["Face"]["BoundingBox"]["Left"] < other["BoundingBox"]["Left"]
        assert set(answer["SourceImageFace"]) == {"BoundingBox", "Confidence"}

    def test_threshold(self, api: Any, photos: Photos) -> None:
        images = {
            "SourceImage": {"Bytes": photos("obama.jpg")},
            "TargetImage": {"Bytes": side_by_side(photos("obama2.jpg"), photos("biden.jpg"))},
        }
        everybody = api.client().compare_faces(SimilarityThreshold=0, **images)
        assert len(everybody["FaceMatches"]) == 2
        similarities = [match["Similarity"] for match in everybody["FaceMatches"]]
        assert similarities == sorted(similarities, reverse=True)
        nobody = api.client().compare_faces(SimilarityThreshold=100, **images)
        assert len(nobody["UnmatchedFaces"]) == 2

    def test_no_face_in_either(self, api: Any, photos: Photos) -> None:
        client = api.client()
        for source, target in ((plain(), photos("obama.jpg")), (photos("obama.jpg"), plain())):
            with pytest.raises(client.exceptions.InvalidParameterException, match="no faces"):
                client.compare_faces(SourceImage={"Bytes": source}, TargetImage={"Bytes": target})


class TestIndex:
    def test_adds_what_it_found(self, api: Any, faces: str, photos: Photos) -> None:
        client = api.client()
        answer = client.index_faces(
            CollectionId=faces,
            Image={"Bytes": photos("obama.jpg")},
            ExternalImageId="staff:7",
            DetectionAttributes=[],
        )
        (record,) = answer["FaceRecords"]
        assert record["Face"]["ExternalImageId"] == "staff:7"
        assert record["Face"]["BoundingBox"] == record["FaceDetail"]["BoundingBox"]
        assert answer["UnindexedFaces"] == []
        assert client.describe_collection(CollectionId=faces)["FaceCount"] == 1
        (listed,) = client.list_faces(CollectionId=faces)["Faces"]
        assert listed == record["Face"]

    def test_again_adds_nothing(self, api: Any, faces: str, photos: Photos) -> None:
        first = index(api, faces, photos("obama.jpg"), ExternalImageId="a")
        assert index(api, faces, photos("obama.jpg"), ExternalImageId="a") == first
        other = index(api, faces, photos("obama.jpg"), ExternalImageId="b")
        assert other != first
        listed = api.client().list_faces(CollectionId=faces)["Faces"]
        assert {face["FaceId"] for face in listed} == {first, other}
        assert len({face["ImageId"] for face in listed}) == 1

    def test_may_come_back_after_deletion(self, api: Any, faces: str, photos: Photos) -> None:
        face = index(api, faces, photos("obama.jpg"))
        api.client().delete_faces(CollectionId=faces, FaceIds=[face])
        assert index(api, faces, photos("obama.jpg")) == face
        assert api.client().describe_collection(CollectionId=faces)["FaceCount"] == 1

    def test_max_faces_keeps_the_largest(self, api: Any, faces: str, photos: Photos) -> None:
        crowd = side_by_side(photos("obama.jpg"), photos("biden.jpg"), photos("obama2.jpg"))
        answer = api.client().index_faces(CollectionId=faces, Image={"Bytes": crowd}, MaxFaces=1)
        (kept,), left = answer["FaceRecords"], answer["UnindexedFaces"]
        assert [face["Reasons"] for face in left] == [["EXCEEDS_MAX_FACES"]] * 2

        def area(face: Any) -> float:
            return float(face["BoundingBox"]["Width"] * face["BoundingBox"]["Height"])

        assert area(kept["Face"]) >= max(area(face["FaceDetail"]) for face in left)

    def test_quality_filter_says_why(self, api: Any, faces: str, photos: Photos) -> None:
        small = io.BytesIO()
        image = Image.open(io.BytesIO(photos("obama.jpg")))
        image.thumbnail((100, 150))
        image.save(small, "PNG")
        answer = api.client().index_faces(
            CollectionId=faces, Image={"Bytes": small.getvalue()}, QualityFilter="HIGH"
        )
        assert answer["FaceRecords"] == []
        assert "SMALL_BOUNDING_BOX" in answer["UnindexedFaces"][0]["Reasons"]
        assert index(api, faces, small.getvalue(), QualityFilter="NONE")

    def test_nothing_to_index(self, api: Any, faces: str) -> None:
        answer = api.client().index_faces(CollectionId=faces, Image={"Bytes": plain()})
        assert (answer["FaceRecords"], answer["UnindexedFaces"]) == ([], [])

    def test_needs_the_collection(self, api: Any, photos: Photos) -> None:
        client = api.client()
        with pytest.raises(client.exceptions.ResourceNotFoundException):
            client.index_faces(CollectionId="nowhere", Image={"Bytes": photos("obama.jpg")})

    @pytest.mark.parametrize(
        ("image", "error"),
        [
            (b"GIF89a nothing", "InvalidImageFormatException"),
            (b"\xff\xd8\xff\xe0 broken", "InvalidImageFormatException"),
            (plain(40), "InvalidParameterException"),
        ],
    )
    def test_bad_images(self, api: Any, faces: str, image: bytes, error: str) -> None:
        client = api.client()
        with pytest.raises(getattr(client.exceptions, error)):
            client.index_faces(CollectionId=faces, Image={"Bytes": image})


class TestObjects:
    def test_image_from_s3(self, api: Any, faces: str, photos: Photos) -> None:
        s3 = api.aws.client("s3")
        s3.put_bucket_versioning(Bucket="uploads", VersioningConfiguration={"Status": "Enabled"})
        first = s3.put_object(Bucket="uploads", Key="acme/people/one", Body=photos("obama.jpg"))["VersionId"]
        s3.put_object(Bucket="uploads", Key="acme/people/one", Body=plain())
        where = {"Bucket": "uploads", "Name": "acme/people/one"}
        detect = api.client().detect_faces
        assert detect(Image={"S3Object": where})["FaceDetails"] == []
        assert len(detect(Image={"S3Object": {**where, "Version": first}})["FaceDetails"]) == 1
        answer = api.client().index_faces(CollectionId=faces, Image={"S3Object": {**where, "Version": first}})
        assert answer["FaceRecords"][0]["Face"]["FaceId"] == index(api, faces, photos("obama.jpg"))

    def test_what_cannot_be_read(self, api: Any) -> None:
        client = api.client()
        api.aws.client("s3").put_object(Bucket="uploads", Key="acme/big", Body=bytes(15 * 1024 * 1024 + 1))
        with pytest.raises(client.exceptions.ImageTooLargeException):
            client.detect_faces(Image={"S3Object": {"Bucket": "uploads", "Name": "acme/big"}})
        for where in (
            {"Bucket": "uploads", "Name": "acme/nothing"},
            {"Bucket": "uploads", "Name": "acme/big", "Version": "nonsense"},
            {"Bucket": "no-such-bucket", "Name": "acme/big"},
        ):
            with pytest.raises(client.exceptions.InvalidS3ObjectException):
                client.detect_faces(Image={"S3Object": where})

    @pytest.mark.parametrize(
        "image", [{}, {"S3Object": {"Name": "acme/x"}}, {"S3Object": {"Bucket": "uploads"}}]
    )
    def test_incomplete(self, api: Any, image: dict[str, Any]) -> None:
        client = api.client()
        with pytest.raises(client.exceptions.InvalidParameterException):
            client.detect_faces(Image=image)

    def test_both(self, api: Any) -> None:
        client = api.client()
        both = {"Bytes": plain(), "S3Object": {"Bucket": "uploads", "Name": "acme/x"}}
        with pytest.raises(client.exceptions.InvalidParameterException):
            client.detect_faces(Image=both)


class TestSearch:
    def test_by_image(self, api: Any, faces: str, photos: Photos) -> None:
        obama = index(api, faces, photos("obama.jpg"), ExternalImageId="obama")
        index(api, faces, photos("biden.jpg"), ExternalImageId="biden")
        client = api.client()
        answer = client.search_faces_by_image(CollectionId=faces, Image={"Bytes": photos("obama2.jpg")})
        (match,) = answer["FaceMatches"]
        assert (match["Face"]["FaceId"], match["Face"]["ExternalImageId"]) == (obama, "obama")
        assert 80 <= match["Similarity"] <= 100
        assert answer["SearchedFaceConfidence"] > 80
        both = client.search_faces_by_image(
            CollectionId=faces, Image={"Bytes": photos("obama2.jpg")}, FaceMatchThreshold=0
        )
        assert [m["Face"]["ExternalImageId"] for m in both["FaceMatches"]] == ["obama", "biden"]
        one = client.search_faces_by_image(
            CollectionId=faces, Image={"Bytes": photos("obama2.jpg")}, FaceMatchThreshold=0, MaxFaces=1
        )
        assert len(one["FaceMatches"]) == 1

    def test_by_face_leaves_itself_out(self, api: Any, faces: str, photos: Photos) -> None:
        first = index(api, faces, photos("obama.jpg"))
        second = index(api, faces, photos("obama2.jpg"))
        client = api.client()
        answer = client.search_faces(CollectionId=faces, FaceId=first)
        assert answer["SearchedFaceId"] == first
        assert [match["Face"]["FaceId"] for match in answer["FaceMatches"]] == [second]
        with pytest.raises(client.exceptions.InvalidParameterException, match="was not found"):
            client.search_faces(CollectionId=faces, FaceId=str(uuid.uuid4()))

    def test_no_face_is_an_error(self, api: Any, faces: str) -> None:
        client = api.client()
        with pytest.raises(client.exceptions.InvalidParameterException, match="no faces"):
            client.search_faces_by_image(CollectionId=faces, Image={"Bytes": plain()})

    def test_sees_what_was_deleted(self, api: Any, faces: str, photos: Photos) -> None:
        face = index(api, faces, photos("obama.jpg"))
        client = api.client()
        deleted = client.delete_faces(CollectionId=faces, FaceIds=[face, str(uuid.uuid4())])
        assert deleted["DeletedFaces"] == [face]
        assert deleted["UnsuccessfulFaceDeletions"][0]["Reasons"] == ["FACE_NOT_FOUND"]
        answer = client.search_faces_by_image(CollectionId=faces, Image={"Bytes": photos("obama.jpg")})
        assert answer["FaceMatches"] == []


class TestListFaces:
    def test_pages_and_filters(self, api: Any, faces: str, photos: Photos) -> None:
        ids = sorted(index(api, faces, photos("biden.jpg"), ExternalImageId=f"n{n}") for n in range(5))
        client = api.client()
        pages = list(
            client.get_paginator("list_faces").paginate(CollectionId=faces, PaginationConfig={"PageSize": 2})
        )
        assert [len(page["Faces"]) for page in pages] == [2, 2, 1]
        assert [face["FaceId"] for page in pages for face in page["Faces"]] == ids
        some = client.list_faces(
            CollectionId=faces, FaceIds=[ids[3], ids[1], str(uuid.uuid4())], MaxResults=1
        )
        assert [face["FaceId"] for face in some["Faces"]] == [ids[1]]
        named = [ids[3], ids[1], ids[4]]
        first = client.list_faces(CollectionId=faces, FaceIds=named, MaxResults=2)
        rest = client.list_faces(
            CollectionId=faces, FaceIds=named, MaxResults=2, NextToken=first["NextToken"]
        )
        assert [face["FaceId"] for face in (*first["Faces"], *rest["Faces"])] == sorted(named)
        assert "NextToken" not in rest
        with pytest.raises(client.exceptions.InvalidPaginationTokenException):
            client.list_faces(CollectionId=faces, FaceIds=ids, NextToken=first["NextToken"])
        client.create_user(CollectionId=faces, UserId="u")
        client.associate_faces(CollectionId=faces, UserId="u", FaceIds=ids[:2])
        mine = client.list_faces(CollectionId=faces, UserId="u")["Faces"]
        assert [face["FaceId"] for face in mine] == ids[:2]
        assert {face["UserId"] for face in mine} == {"u"}
        assert client.list_faces(CollectionId=faces, UserId="u", FaceIds=[ids[4]])["Faces"] == []
        with pytest.raises(client.exceptions.InvalidPaginationTokenException):
            client.list_faces(CollectionId=faces, NextToken=client.list_collections()["FaceModelVersions"][0])


class TestTags:
    def test_life(self, api: Any) -> None:
        client = api.client()
        made = client.create_collection(CollectionId="tagged", Tags={"team": "ünit 1", "cost": ""})
        arn = client.describe_collection(CollectionId="tagged")["CollectionARN"]

        def tags(arn: str = arn) -> dict[str, str]:
            return dict(client.list_tags_for_resource(ResourceArn=arn)["Tags"])

        assert tags() == tags(made["CollectionArn"]) == {"team": "ünit 1", "cost": ""}
        client.tag_resource(ResourceArn=arn, Tags={"team": "unit 2", "a/b": "c=d"})
        client.tag_resource(ResourceArn=arn, Tags={})
        client.untag_resource(ResourceArn=arn, TagKeys=["cost", "never there"])
        assert tags() == {"team": "unit 2", "a/b": "c=d"}
        client.untag_resource(ResourceArn=arn, TagKeys=["team", "a/b"])
        assert tags() == {}
        client.tag_resource(ResourceArn=arn, Tags={f"k{n}": "v" for n in range(200)})
        client.tag_resource(ResourceArn=arn, Tags={"k7": "w"})
        with pytest.raises(client.exceptions.ServiceQuotaExceededException):
            client.tag_resource(ResourceArn=arn, Tags={"k200": "v"})
        assert tags()["k7"] == "w"
        assert len(tags()) == 200
        # Another collection of the same name has tags of its own, none.
        client.delete_collection(CollectionId="tagged")
        client.create_collection(CollectionId="tagged")
        assert tags() == {}
        client.delete_collection(CollectionId="tagged")
        with pytest.raises(client.exceptions.ResourceNotFoundException):
            tags()

    @pytest.mark.parametrize(
        ("arn", "error"),
        [
            ("arn:aws:rekognition:us-east-1:123456789012:streamprocessor/x", "InvalidParameterException"),
            ("a text that is no ARN", "InvalidParameterException"),
            ("arn:aws:rekognition:us-east-1:123456789012:collection/ß", "InvalidParameterException"),
            ("arn:aws:rekognition:eu-west-1:123456789012:collection/{}", "ResourceNotFoundException"),
            ("arn:aws:rekognition:us-east-1:999999999999:collection/{}", "ResourceNotFoundException"),
            ("arn:arn:aws:rekognition:us-east-1:123456789012:collection/{}", "ResourceNotFoundException"),
        ],
    )
    def test_of_something_else(self, api: Any, faces: str, arn: str, error: str) -> None:
        client = api.client()
        with pytest.raises(getattr(client.exceptions, error)):
            client.list_tags_for_resource(ResourceArn=arn.format(faces))
        with pytest.raises(getattr(client.exceptions, error)):
            client.tag_resource(ResourceArn=arn.format(faces), Tags={"a": "b"})


class TestUsers:
    def test_life(self, api: Any, faces: str, photos: Photos) -> None:
        client = api.client()
        obama, obama2 = index(api, faces, photos("obama.jpg")), index(api, faces, photos("obama2.jpg"))
        biden = index(api, faces, photos("biden.jpg"))
        client.create_user(CollectionId=faces, UserId="barack")
        with pytest.raises(client.exceptions.ConflictException):
            client.create_user(CollectionId=faces, UserId="barack")
        client.create_user(CollectionId=faces, UserId="joe")
        listed = client.list_users(CollectionId=faces, MaxResults=1)
        assert listed["Users"] == [{"UserId": "barack", "UserStatus": "CREATED"}]
        (second,) = client.list_users(CollectionId=faces, NextToken=listed["NextToken"])["Users"]
        assert second["UserId"] == "joe"

        made = client.associate_faces(CollectionId=faces, UserId="barack", FaceIds=[obama])
        assert made["AssociatedFaces"] == [{"FaceId": obama}]
        assert made["UserStatus"] == "ACTIVE"
        more = client.associate_faces(
            CollectionId=faces,
            UserId="barack",
            FaceIds=[obama, obama2, biden, str(uuid.uuid4())],
            UserMatchThreshold=60,
        )
        assert more["AssociatedFaces"] == [{"FaceId": obama2}]
        refused = {face["FaceId"]: face for face in more["UnsuccessfulFaceAssociations"]}
        assert refused[biden]["Reasons"] == ["LOW_MATCH_CONFIDENCE"]
        assert refused[biden]["Confidence"] < 60
        client.associate_faces(CollectionId=faces, UserId="joe", FaceIds=[biden])
        other = client.associate_faces(
            CollectionId=faces, UserId="barack", FaceIds=[biden], UserMatchThreshold=0
        )
        (why,) = other["UnsuccessfulFaceAssociations"]
        assert (why["Reasons"], why["UserId"]) == (["ASSOCIATED_TO_A_DIFFERENT_USER"], "joe")

        by_image = client.search_users_by_image(CollectionId=faces, Image={"Bytes": photos("obama2.jpg")})
        (match,) = by_image["UserMatches"]
        assert match["User"] == {"UserId": "barack", "UserStatus": "ACTIVE"}
        assert by_image["SearchedFace"]["FaceDetail"]["BoundingBox"]
        assert by_image["UnsearchedFaces"] == []
        by_face = client.search_users(CollectionId=faces, FaceId=biden)
        assert [m["User"]["UserId"] for m in by_face["UserMatches"]] == ["joe"]
        assert by_face["SearchedFace"] == {"FaceId": biden}
        by_user = client.search_users(CollectionId=faces, UserId="joe", UserMatchThreshold=0, MaxUsers=500)
        assert [m["User"]["UserId"] for m in by_user["UserMatches"]] == ["barack"]
        assert by_user["SearchedUser"] == {"UserId": "joe"}

        kept = client.delete_faces(CollectionId=faces, FaceIds=[obama])
        (why,) = kept["UnsuccessfulFaceDeletions"]
        assert (why["Reasons"], why["UserId"]) == (["ASSOCIATED_TO_AN_EXISTING_USER"], "barack")
        gone = client.disassociate_faces(CollectionId=faces, UserId="barack", FaceIds=[obama, biden])
        assert gone["DisassociatedFaces"] == [{"FaceId": obama}]
        (why,) = gone["UnsuccessfulFaceDisassociations"]
        assert why["Reasons"] == ["ASSOCIATED_TO_A_DIFFERENT_USER"]
        assert client.delete_faces(CollectionId=faces, FaceIds=[obama])["DeletedFaces"] == [obama]
        client.delete_user(CollectionId=faces, UserId="joe")
        assert client.describe_collection(CollectionId=faces)["UserCount"] == 1
        with pytest.raises(client.exceptions.ResourceNotFoundException):
            client.delete_user(CollectionId=faces, UserId="joe")

    def test_tokens(self, api: Any, faces: str, photos: Photos) -> None:
        client = api.client()
        face, other = index(api, faces, photos("obama.jpg")), index(api, faces, photos("obama2.jpg"))
        client.create_user(CollectionId=faces, UserId="u")
        request = {"CollectionId": faces, "UserId": "u", "ClientRequestToken": "once"}
        first = client.associate_faces(FaceIds=[face], **request)
        again = client.associate_faces(FaceIds=[face], **request)
        assert again["AssociatedFaces"] == first["AssociatedFaces"]
        with pytest.raises(client.exceptions.IdempotentParameterMismatchException):
            client.associate_faces(FaceIds=[other], **request)

    def test_a_token_creates_one_user_once(self, api: Any, faces: str) -> None:
        client = api.client()

        def users() -> list[str]:
            return [user["UserId"] for user in client.list_users(CollectionId=faces)["Users"]]

        request = {"CollectionId": faces, "ClientRequestToken": "once"}
        client.create_user(UserId="barack", **request)
        client.create_user(UserId="barack", **request)
        for other in ("joe", "barack2"):
            with pytest.raises(client.exceptions.IdempotentParameterMismatchException):
                client.create_user(UserId=other, **request)
        assert users() == ["barack"]
        client.delete_user(UserId="barack", **request)
        # A late retry of the first request.
        client.create_user(UserId="barack", **request)
        assert users() == []
        client.create_user(CollectionId=faces, UserId="barack", ClientRequestToken="again")
        assert users() == ["barack"]

    def test_nobody_in_the_photo(self, api: Any, faces: str) -> None:
        answer = api.client().search_users_by_image(CollectionId=faces, Image={"Bytes": plain()})
        assert answer["UserMatches"] == answer["UnsearchedFaces"] == []
        assert "SearchedFace" not in answer

    def test_others_in_the_photo(self, api: Any, faces: str, photos: Photos) -> None:
        crowd = side_by_side(photos("obama.jpg"), photos("biden.jpg"))
        answer = api.client().search_users_by_image(CollectionId=faces, Image={"Bytes": crowd})
        assert [face["Reasons"] for face in answer["UnsearchedFaces"]] == [["FACE_NOT_LARGEST"]]

    def test_what_to_search_for(self, api: Any, faces: str, photos: Photos) -> None:
        client = api.client()
        for wrong in ({}, {"UserId": "u", "FaceId": str(uuid.uuid4())}):
            with pytest.raises(client.exceptions.InvalidParameterException):
                client.search_users(CollectionId=faces, **wrong)
        for missing in ({"UserId": "u"}, {"FaceId": str(uuid.uuid4())}):
            with pytest.raises(client.exceptions.ResourceNotFoundException):
                client.search_users(CollectionId=faces, **missing)

    def test_one_hundred_faces(self, api: Any, faces: str, photos: Photos) -> None:
        """A photo gives its hundred largest faces, and a user has a hundred at most."""
        client = api.client()
        client.create_user(CollectionId=faces, UserId="many")
        found = client.index_faces(
            CollectionId=faces,
            Image={"Bytes": crowd(photos("biden.jpg"), 11, 10)},
            QualityFilter="NONE",
            MaxFaces=200,
        )
        assert len(found["FaceRecords"]) == 100
        ids = [record["Face"]["FaceId"] for record in found["FaceRecords"]]
        answer = client.associate_faces(CollectionId=faces, UserId="many", FaceIds=ids)
        assert len(answer["AssociatedFaces"]) == 100
        one_more = index(api, faces, photos("biden.jpg"))
        with pytest.raises(client.exceptions.ServiceQuotaExceededException):
            client.associate_faces(CollectionId=faces, UserId="many", FaceIds=[one_more])


def test_no_other_operation_is_here(api: Any, photos: Photos) -> None:
    from botocore.exceptions import ClientError

    client = api.aws.client("rekognition", "acme")
    with pytest.raises(ClientError) as caught:
        client.detect_labels(Image={"Bytes": photos("obama.jpg")})
    assert caught.value.response["Error"]["Code"] == "UnknownOperationException"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
