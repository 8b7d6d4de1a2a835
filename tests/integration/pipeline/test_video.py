"""Stored video by upload, and by four operations over HTTP, as boto3 and the AWS CLI call them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.validate import ParamValidator
from tests.videos import Clip, Shown, make

from abeyance.local.aws import environment
from abeyance.local.system import LocalSystem

from .conftest import settled_events

Upload = Callable[..., dict[str, Any]]
OBJECT = {"S3Object": {"Bucket": "uploads", "Name": "acme/films/clip.mp4"}}


def rekognition(system: LocalSystem, principal: str = "acme") -> Any:
    """A client that validates each request as botocore does, and each response likewise."""
    client = boto3.client(
        "rekognition",
        endpoint_url=system.endpoint,
        region_name="us-east-1",
        aws_access_key_id=principal,
        aws_secret_access_key="local",
    )

    def check(parsed: dict[str, Any], model: Any, **_: Any) -> None:
        if "Error" in parsed:
            return
        body = {name: value for name, value in parsed.items() if name != "ResponseMetadata"}
        report = ParamValidator().validate(body, model.output_shape)
        assert not report.has_errors(), report.generate_report()

    client.meta.events.register("after-call.rekognition", check)
    return client


@pytest.fixture(scope="module")
def films(system: LocalSystem, portraits: dict[str, Path]) -> LocalSystem:
    """The system with a video, and a collection that knows one of its two people."""
    shown = [
        Shown("obama", portraits["obama2.jpg"], 0.5, 5, 200, (0.3, 0.5), (0.4, 0.5)),
        Shown("biden", portraits["biden.jpg"], 2, 7, 180, (0.8, 0.5), (0.8, 0.5)),
    ]
    s3 = system.client("s3")
    s3.put_object(Bucket="uploads", Key="acme/films/clip.mp4", Body=make(Clip(8, shown, rate=10)))
    client = rekognition(system)
    client.create_collection(CollectionId="known")
    client.index_faces(
        CollectionId="known",
        Image={"Bytes": portraits["obama.jpg"].read_bytes()},
        ExternalImageId="obama",
    )
    return system


def ended(get: Callable[..., dict[str, Any]], job: str, **more: Any) -> dict[str, Any]:
    for _ in range(600):
        answer = get(JobId=job, **more)
        if answer["JobStatus"] != "IN_PROGRESS":
            return answer
        time.sleep(0.1)
    raise TimeoutError(job)


def test_a_search_finds_people_and_tells_its_topic(films: LocalSystem) -> None:
    client, sns, sqs = rekognition(films), films.client("sns"), films.client("sqs")
    topic = sns.create_topic(Name="ends")["TopicArn"]
    queue = sqs.create_queue(QueueName="ends")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    asked: dict[str, Any] = {
        "Video": OBJECT,
        "CollectionId": "known",
        "JobTag": "film-1",
        "ClientRequestToken": "once",
        "NotificationChannel": {"SNSTopicArn": topic, "RoleArn": "arn:aws:iam::123456789012:role/told"},
    }
    job = client.start_face_search(**asked)["JobId"]
    assert client.start_face_search(**asked)["JobId"] == job
    with pytest.raises(ClientError, match="IdempotentParameterMismatchException"):
        client.start_face_search(**{**asked, "JobTag": "film-2"})
    found = ended(client.get_face_search, job)
    assert (found["JobStatus"], found["JobTag"], found["Video"]) == ("SUCCEEDED", "film-1", OBJECT)
    assert found["VideoMetadata"]["FrameWidth"] == 640
    assert found["VideoMetadata"]["DurationMillis"] == pytest.approx(8_000, abs=200)
    times = [one["Timestamp"] for one in found["Persons"]]
    assert times == sorted(times)
    by_person: dict[int, list[dict[str, Any]]] = {}
    for one in found["Persons"]:
        by_person.setdefault(one["Person"]["Index"], []).append(one)
    assert len(by_person) == 2
    known, stranger = by_person[0], by_person[1]
    assert {m["Face"]["ExternalImageId"] for one in known for m in one["FaceMatches"]} == {"obama"}
    assert all(one["FaceMatches"] == [] for one in stranger)
    assert 500 <= known[0]["Timestamp"] <= 1_100
    assert 4_400 <= known[-1]["Timestamp"] <= 5_000

    films.drain(30)
    (message,) = sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=5)["Messages"]
    told = json.loads(json.loads(message["Body"])["Message"])
    assert told.pop("Timestamp") > 1_600_000_000_000
    assert told == {
        "JobId": job,
        "Status": "SUCCEEDED",
        "API": "StartFaceSearch",
        "JobTag": "film-1",
        "Video": {"S3ObjectName": "acme/films/clip.mp4", "S3Bucket": "uploads"},
    }

    by_index = client.get_face_search(JobId=job, SortBy="INDEX")["Persons"]
    assert [one["Person"]["Index"] for one in by_index] == sorted(one["Person"]["Index"] for one in by_index)
    pages, token = [], {}
    while True:
        page = client.get_face_search(JobId=job, MaxResults=7, **token)
        pages += page["Persons"]
        assert len(page["Persons"]) <= 7
        if "NextToken" not in page:
            break
        token = {"NextToken": page["NextToken"]}
    assert pages == found["Persons"]
    with pytest.raises(ClientError, match="InvalidPaginationTokenException"):
        client.get_face_search(JobId=job, NextToken="AAAAAA")


def test_faces_are_detected_without_templates_and_with_attributes_where_asked(films: LocalSystem) -> None:
    client = rekognition(films)
    plain = client.start_face_detection(Video=OBJECT)["JobId"]
    more = client.start_face_detection(Video=OBJECT, FaceAttributes="ALL")["JobId"]
    faces = ended(client.get_face_detection, plain)["Faces"]
    assert max(sum(f["Timestamp"] == one["Timestamp"] for f in faces) for one in faces) >= 2
    assert all("AgeRange" not in one["Face"] for one in faces)
    assert {len(one["Face"]["Landmarks"]) for one in faces} == {5}
    assert any("AgeRange" in one["Face"] for one in ended(client.get_face_detection, more)["Faces"])
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        client.get_face_search(JobId=plain)


def test_others_jobs_and_videos_are_not_there(films: LocalSystem) -> None:
    client, other = rekognition(films), rekognition(films, "icmec")
    job = client.start_face_detection(Video=OBJECT)["JobId"]
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        other.get_face_detection(JobId=job)
    theirs = {"S3Object": {"Bucket": "uploads", "Name": "icmec/films/clip.mp4"}}
    for video in (theirs, {"S3Object": {"Bucket": "abeyance-gallery", "Name": "acme/a.mp4"}}):
        with pytest.raises(ClientError, match="InvalidS3ObjectException"):
            client.start_face_detection(Video=video)
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        client.start_face_search(Video=OBJECT, CollectionId="unknown")
    with pytest.raises(ClientError, match="InvalidParameterException"):
        client.start_face_detection(Video={"S3Object": {"Bucket": "uploads"}})
    with pytest.raises(ClientError, match="AccessDeniedException"):
        rekognition(films, "springfield-police").start_face_search(
            Video={"S3Object": {"Bucket": "uploads", "Name": "springfield-police/a.mp4"}},
            CollectionId="known",
        )


def test_a_bad_video_fails_with_its_reason(films: LocalSystem) -> None:
    films.client("s3").put_object(Bucket="uploads", Key="acme/films/bad.mp4", Body=b"\0\0\0\x18ftypmp42" * 9)
    client = rekognition(films)
    video = {"S3Object": {"Bucket": "uploads", "Name": "acme/films/bad.mp4"}}
    found = ended(client.get_face_detection, client.start_face_detection(Video=video)["JobId"])
    assert found["JobStatus"] == "FAILED"
    assert found["StatusMessage"].startswith("CORRUPT: ")
    assert found["Faces"] == []


def test_the_aws_cli_runs_a_job(films: LocalSystem) -> None:
    def aws(*arguments: str) -> dict[str, Any]:
        command = ["aws", "rekognition", *arguments, "--output", "json"]
        done = subprocess.run(
            command,
            env={**os.environ, **environment(films.endpoint, "acme")},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    job = aws("start-face-detection", "--video", json.dumps(OBJECT))["JobId"]
    films.drain(30)
    assert aws("get-face-detection", "--job-id", job)["JobStatus"] == "SUCCEEDED"
    command = [sys.executable, "-m", "abeyance", "jobs", "watch", job, "--json"]
    done = subprocess.run(
        command,
        env={**os.environ, **environment(films.endpoint), **films.settings.to_environment()},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    watched = json.loads(done.stdout)
    assert (watched["status"], watched["examined"], watched["segments"]) == ("SUCCEEDED", 1, 1)
    assert watched["people"] >= 2


@pytest.fixture(scope="module")
def clip(portraits: dict[str, Path]) -> bytes:
    """36 s: one man, then a second beside him; a cut; the first again."""
    shown = [
        Shown("obama", portraits["obama2.jpg"], 1, 9, 200, (0.3, 0.5), (0.5, 0.5)),
        Shown("biden", portraits["biden.jpg"], 5, 14, 180, (0.8, 0.5), (0.8, 0.5)),
        Shown("obama", portraits["obama2.jpg"], 24, 35, 160),
    ]
    return make(Clip(36, shown, cuts_s=[20], rate=10), gop=50)


def test_a_video_is_searched_and_lists_people_with_their_times_and_matches(
    system: LocalSystem, upload: Upload, portraits: dict[str, Path], clip: bytes
) -> None:
    upload("acme/index/video/obama.jpg", portraits["obama.jpg"].read_bytes())
    found = upload("acme/search/video/clip.mp4", clip)
    assert found["event"] == "Faces Matched"
    assert found["video"]["video"]["duration_ms"] == pytest.approx(36_000, abs=200)
    assert found["video"]["examined_ms"] == found["video"]["video"]["duration_ms"]
    first, second = found["faces"]
    assert [match["external_image_id"] for match in first["matches"]] == ["obama.jpg"]
    assert second["matches"] == []
    seen = [(span["first_ms"], span["last_ms"]) for span in first["face"]["times"]["appearances"]]
    assert len(seen) == 2
    for (start, end), (begin, finish) in zip(seen, [(1_000, 9_000), (24_000, 35_000)], strict=True):
        assert begin <= start <= begin + 600
        assert finish - 600 <= end <= finish
    kinds = Counter(
        type(event).__name__ for event in settled_events(system) if "video/clip" in event.upload.key
    )
    assert kinds == {
        "UploadPermitted": 1,
        "VideoOpened": 1,
        "SegmentExamined": 2,
        "FacesDetected": 1,
        "FacesMatched": 1,
    }
