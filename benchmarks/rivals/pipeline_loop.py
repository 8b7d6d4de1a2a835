"""A loop over boto3 with the same models, as one would write it without a pipeline. Run by Abeyance's own Python.

It keeps no record, decides nothing, writes no ledger and searches no gallery.
"""

from __future__ import annotations

from _serve import SETTINGS, THREADS, serve  # isort: skip
import json
import resource
import time
from pathlib import Path
from typing import Any

import boto3
import numpy as np

from abeyance.embedding.onnx import load_embedder
from abeyance.vision.alignment import align
from abeyance.vision.image import open_photo
from abeyance.vision.models.store import load_detector

_s3 = boto3.client("s3")
_detector = load_detector(threads=THREADS)
_embedder = load_embedder(threads=THREADS)
_bodies = [path.read_bytes() for path in sorted(Path(SETTINGS["folder"]).iterdir())]


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Process every photo once: with ``alone`` by the models only, else from upload to result; return the seconds."""
    seconds = []
    processor = _processor()
    for number, body in enumerate(_bodies):
        start = time.perf_counter()
        if request["alone"]:
            _templates(body)
        else:
            _upload_to_result(f"loop/{request['round']}/{number}", body)
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds, "processor": _processor() - processor}


def _upload_to_result(key: str, body: bytes) -> None:
    _s3.put_object(Bucket=SETTINGS["uploads"], Key=key, Body=body)
    stored = _s3.get_object(Bucket=SETTINGS["uploads"], Key=key)["Body"].read()
    faces, rows = _templates(stored)
    result = [
        {"box": list(face.box), "template": row.tolist()} for face, row in zip(faces, rows, strict=True)
    ]
    _s3.put_object(Bucket=SETTINGS["results"], Key=f"{key}.json", Body=json.dumps(result).encode())


def _templates(body: bytes) -> tuple[list[Any], Any]:
    photo = open_photo(body)
    faces = _detector.detect(photo)
    if not faces:
        return [], np.empty((0, 0))
    return faces, _embedder.embed(align(photo, np.stack([face.landmarks for face in faces])))


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


_templates(_bodies[0])
serve(answer)
