"""Callers of the Rekognition API: many IndexFaces at once, and clients that index, find, delete and do not find."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
from _serve import SETTINGS, serve
from botocore.config import Config
from botocore.exceptions import ClientError

_photos = [path.read_bytes() for path in sorted(Path(SETTINGS["folder"]).iterdir())]
#: As a program makes it: what the service tells to wait, the SDK sends again.
_client = boto3.client(
    "rekognition",
    endpoint_url=SETTINGS["endpoint"],
    region_name="us-east-1",
    **{"aws_access_key_id": SETTINGS["tenant"], "aws_secret_access_key": "local"},
    config=Config(max_pool_connections=SETTINGS["most"], read_timeout=120),
)


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Send ``at_once`` calls together, or let ``clients`` go on for ``seconds``; return what came of it."""
    if request.get("at_once"):
        return _together(request["at_once"], request["collection"])
    end = time.monotonic() + request["seconds"]
    with ThreadPoolExecutor(request["clients"]) as pool:
        found = list(
            pool.map(lambda number: _work(number, request["collection"], end), range(request["clients"]))
        )
    return {
        "seconds": [s for times, _, _ in found for s in times],
        "errors": sum((errors for _, errors, _ in found), Counter()),
        "stale": sum(stale for _, _, stale in found),
    }


def _together(count: int, collection: str) -> dict[str, Any]:
    barrier, errors = threading.Barrier(count), Counter[str]()

    def index(number: int) -> float:
        photo = _photos[number % len(_photos)]
        barrier.wait()
        start = time.perf_counter()
        try:
            _client.index_faces(
                CollectionId=collection, Image={"Bytes": photo}, ExternalImageId=f"photo-{number}"
            )
        except ClientError as error:
            errors[error.response["Error"]["Code"]] += 1
        return time.perf_counter() - start

    with ThreadPoolExecutor(count) as pool:
        return {"seconds": list(pool.map(index, range(count))), "errors": errors, "stale": 0}


def _work(number: int, collection: str, end: float) -> tuple[list[float], Counter[str], int]:
    """Index a face, find it, delete it, and find it no more, again and again."""
    seconds, errors, stale = [], Counter[str](), 0
    photo = {"Bytes": _photos[number % len(_photos)]}
    here = {"CollectionId": collection}

    def call(operation: Any, **parameters: Any) -> dict[str, Any]:
        start = time.perf_counter()
        answered: dict[str, Any] = operation(**here, **parameters)
        seconds.append(time.perf_counter() - start)
        return answered

    def found(face: str) -> bool:
        matches = call(_client.search_faces_by_image, Image=photo, MaxFaces=4096, FaceMatchThreshold=0)
        return face in [match["Face"]["FaceId"] for match in matches["FaceMatches"]]

    while time.monotonic() < end:
        try:
            indexed = call(_client.index_faces, Image=photo, ExternalImageId=f"client-{number}")
            face = indexed["FaceRecords"][0]["Face"]["FaceId"]
            stale += not found(face)
            call(_client.delete_faces, FaceIds=[face])
            stale += found(face)
        except ClientError as error:
            errors[error.response["Error"]["Code"]] += 1
    return seconds, errors, stale


serve(answer)
