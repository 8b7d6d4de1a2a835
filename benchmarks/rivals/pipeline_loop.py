"""A loop over boto3 with the same models, as one would write it without a pipeline. Run by Abeyance's own Python.

It keeps no record, decides nothing, writes no ledger and searches no gallery.
"""

from __future__ import annotations

from _abeyance import templates  # isort: skip
import json
import time
from pathlib import Path
from typing import Any

import boto3
from _serve import SETTINGS, serve

_s3 = boto3.client("s3")
_bodies = [path.read_bytes() for path in sorted(Path(SETTINGS["folder"]).iterdir())]


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Process every photo once: with ``alone`` by the models only, else from upload to result; return the seconds."""
    seconds = []
    processor = time.process_time()
    for number, body in enumerate(_bodies):
        start = time.perf_counter()
        if request["alone"]:
            templates(body)
        else:
            _upload_to_result(f"loop/{request['round']}/{number}", body)
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds, "processor": time.process_time() - processor}


def _upload_to_result(key: str, body: bytes) -> None:
    _s3.put_object(Bucket=SETTINGS["uploads"], Key=key, Body=body)
    stored = _s3.get_object(Bucket=SETTINGS["uploads"], Key=key)["Body"].read()
    result = [{"box": box, "template": template} for box, template in templates(stored)]
    _s3.put_object(Bucket=SETTINGS["results"], Key=f"{key}.json", Body=json.dumps(result).encode())


templates(_bodies[0])
serve(answer)
