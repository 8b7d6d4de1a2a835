"""Clients of the Rekognition API or of S3, each sending one request after the other."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
from _serve import SETTINGS, serve
from botocore.config import Config
from botocore.exceptions import ClientError, ReadTimeoutError

_photo = Path(SETTINGS["photo"]).read_bytes()
_numbers = itertools.count()
#: Refused requests are counted, not repeated.
_config = Config(retries={"total_max_attempts": 1}, read_timeout=60)
_access = {"aws_access_key_id": SETTINGS["tenant"], "aws_secret_access_key": "local"}
_clients = [
    boto3.client(
        "s3" if SETTINGS["uploads"] else "rekognition",
        endpoint_url=SETTINGS["endpoint"],
        region_name="us-east-1",
        config=_config,
        **_access,
    )
    for _ in range(SETTINGS["count"])
]
#: Seconds between two uploads of a client.
_UPLOAD_INTERVAL_S = 1.0


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Send requests for ``request["seconds"]``; return the seconds of each that was answered, and those refused."""
    end = time.monotonic() + request["seconds"]
    with ThreadPoolExecutor(len(_clients)) as pool:
        found = list(pool.map(lambda client: _send(client, end), _clients))
    return {
        "seconds": [s for times, _ in found for s in times],
        "refused": sum((refused for _, refused in found), Counter()),
    }


def _send(client: Any, end: float) -> tuple[list[float], Counter[str]]:
    seconds, refused = [], Counter[str]()
    while time.monotonic() < end:
        start = time.perf_counter()
        try:
            if SETTINGS["uploads"]:
                key = f"{SETTINGS['tenant']}/index/bench/{next(_numbers)}.jpg"
                client.put_object(Bucket=SETTINGS["uploads"], Key=key, Body=_photo)
                time.sleep(_UPLOAD_INTERVAL_S)
            else:
                client.detect_faces(Image={"Bytes": _photo}, Attributes=SETTINGS["attributes"])
        except ReadTimeoutError:
            refused["timeout"] += 1
        except ClientError as error:
            refused[error.response["Error"]["Code"]] += 1
            time.sleep(0.1)
        else:
            seconds.append(time.perf_counter() - start)
    return seconds, refused


serve(answer)
