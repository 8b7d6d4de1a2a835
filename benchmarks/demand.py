"""The demand of one photo on every stage: processor time, calls of AWS, units of DynamoDB, on the real handlers.

The stages run in this process against moto, and only the processor time of our own thread is counted, not moto's. AWS's
latencies cannot be measured here; the model in :mod:`abeyance.cost` adds them to each call.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import platform
import tempfile
import time
import timeit
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import numpy as np

from abeyance.cost.demand import Demand, StageDemand
from abeyance.cost.stations import ENTRIES
from abeyance.ledger.batches import PREFIX, decode_start
from abeyance.ledger.sequencer import Sequencer
from abeyance.pipeline import topology
from benchmarks.counting import READ, WRITTEN, CallCounter, Calls, Invoke, Key, size_of

#: Messages of a full batch of the ledger here; Lambda hands over what has 6 MB.
LEDGER_MESSAGES = 2000
#: Bytes beside a message's body in Lambda's event: identifiers, the receipt handle, attributes.
_ENVELOPE_BYTES = 850
#: A tenant that may do everything, and the collection of the measured photos.
_TENANT, _COLLECTION = "acme", "demand"


def measure(photos: Sequence[bytes], rounds: int = 3) -> Demand:
    """Put ``photos`` through every stage, in single messages and in full batches, and count.

    ``rounds`` times for the clock, and once more for the calls. Takes some 0.3 s a photo and round.
    """
    times: dict[Key, list[float]] = defaultdict(list)

    def timed(key: Key, invoke: Invoke) -> dict[str, Any]:
        start = time.thread_time()
        answer = invoke()
        times[key].append(time.thread_time() - start)
        return answer

    bodies: list[int] = []
    serial: list[float] = []
    with local_stages() as (aws, stages), mock.patch.object(Sequencer, "append", _timed_append(serial)):
        for number in range(rounds):
            for full in (False, True):
                pass_through(aws, stages, photos, f"time-{number}-{full}", full, timed, bodies=bodies)
        counting = CallCounter(aws)
        for full in (False, True):
            pass_through(aws, stages, photos, f"count-{full}", full, counting.run, bodies=bodies)
        faces, left = _left(aws, len(photos) * 2 * (rounds + 1))
        embed_ms = _embedding_ms()
    software = f"{platform.machine()}, Python {platform.python_version()}"
    return Demand(
        measured=f"{datetime.now(UTC):%Y-%m-%d}, {len(photos)} photos, {rounds} rounds, {software}",
        faces=round(faces, 3),
        stages={stage.name: _stage(stage, times, counting.calls) for stage in topology.PHOTO_STAGES},
        embed_ms=round(embed_ms, 3),
        message_bytes=round(_ENVELOPE_BYTES + float(np.mean(bodies))),
        serial_ms=round(1000 * min(serial), 3),
        left=left,
        event_bytes=round(counting.event_bytes / (2 * len(photos))),
    )


def _stage(
    stage: topology.Stage,
    times: Mapping[Key, Sequence[float]],
    calls: Mapping[Key, Sequence[Calls]],
) -> StageDemand:
    """Split the effort of single messages and full batches into the parts of an invocation and of a message."""
    size = _full_batch(stage)
    if (stage.name, False) not in times:  # review: an indexed photo does not get there
        return StageDemand(
            invocation_ms=0, message_ms=0, invocation_calls={}, message_calls={}, write_units=0, read_units=0
        )
    # The fastest quarter: on a shared machine, slower runs were disturbed.
    one, many = (1000 * float(np.percentile(times[stage.name, full], 25)) for full in (False, True))
    single, whole = (_mean(calls[stage.name, full]) for full in (False, True))
    message = (many - one) / (size - 1) if size > 1 else one
    message = min(max(message, 0.0), one)
    units = {name: whole.pop(name, 0.0) / size for name in (WRITTEN, READ)}
    per_message = {
        name: (whole.get(name, 0.0) - single.get(name, 0.0)) / (size - 1) if size > 1 else single[name]
        for name in whole | single
        if name not in units
    }
    return StageDemand(
        invocation_ms=round(one - message, 3),
        message_ms=round(message, 3),
        invocation_calls=_tidy({name: single.get(name, 0.0) - part for name, part in per_message.items()}),
        message_calls=_tidy(per_message),
        write_units=round(units[WRITTEN], 4),
        read_units=round(units[READ], 4),
    )


def _mean(found: Sequence[Calls]) -> dict[str, float]:
    return {name: count / len(found) for name, count in sum(found, Calls()).items()}


def _tidy(counts: Mapping[str, float]) -> dict[str, float]:
    return {name: round(count, 2) for name, count in sorted(counts.items()) if count > 0.005}


class _LastError(logging.Handler):
    """The last error in the stages' log; their answers have the ids of messages only."""

    text = "nothing was logged"

    def emit(self, record: logging.LogRecord) -> None:
        if error := getattr(record, "error", getattr(record, "because", "")):
            self.text = f"{error} at {', '.join(getattr(record, 'trace', [])[-2:])}"


_errors = _LastError()


@contextmanager
def local_stages() -> Iterator[tuple[Any, dict[str, Callable[[Any], Any]]]]:
    """Start local AWS, and build every stage in this process."""
    from abeyance.aws.clients import client
    from abeyance.aws.dynamodb import DynamoTable
    from abeyance.deployment import build
    from abeyance.deployment.settings import DeploymentSettings
    from abeyance.local.aws import LocalAws, environment
    from abeyance.local.tenants import TENANTS
    from abeyance.moratorium.presets import new_deployment
    from abeyance.moratorium.tenants import TenantTable

    logging.getLogger("abeyance").addHandler(_errors)
    with tempfile.TemporaryDirectory(prefix="abeyance-demand-") as folder, mock.patch.dict(os.environ):
        flags = Path(folder) / "flags.json"
        flags.write_text(json.dumps(new_deployment()))
        aws = LocalAws(settings=DeploymentSettings.of(flags=f"file:{flags}", ledger_parallel=1))
        aws.start()
        client.cache_clear()
        os.environ.update(environment(aws.endpoint) | aws.settings.to_environment())
        try:
            registry = TenantTable(DynamoTable(aws.client("dynamodb"), aws.settings.tenants_table))
            for tenant in TENANTS:
                registry.add(tenant)
            stages: dict[str, Callable[[Any], Any]] = {
                topology.GATE.name: build.build_gate(),
                topology.DETECT.name: build.build_detect(),
                topology.RECOGNIZE.name: build.build_recognize(),
                topology.REVIEW.name: build.build_review(),
                topology.LEDGER.name: build.build_record(),
            }
            yield aws, stages
        finally:
            logging.getLogger("abeyance").removeHandler(_errors)
            client.cache_clear()
            aws.stop()


def pass_through(
    aws: Any,
    stages: Mapping[str, Callable[[Any], Any]],
    photos: Sequence[bytes],
    name: str,
    full: bool,
    run: Callable[[Key, Invoke], dict[str, Any]],
    action: str = "index",
    bodies: list[int] | None = None,
) -> None:
    """Upload ``photos`` and let each stage in turn work off its queue, in single messages or in full batches.

    The bytes of the ledger's messages, as they stand in Lambda's event, are added to ``bodies``, if there is a list.
    """
    from abeyance.pipeline.batch import answer

    s3, sqs = aws.client("s3"), aws.client("sqs")
    for number, photo in enumerate(photos):
        key = f"{_TENANT}/{action}/{_COLLECTION}/{name}-{number}.jpg"
        s3.put_object(Bucket=aws.settings.uploads_bucket, Key=key, Body=photo)
    for stage in topology.PHOTO_STAGES:
        url = sqs.get_queue_url(QueueName=stage.queue)["QueueUrl"]
        ledger = stage is topology.LEDGER
        size = _full_batch(stage) if full else 1
        while messages := _received(sqs, url, size):
            records = [
                {"messageId": one["MessageId"], "body": one["Body"], "attributes": one["Attributes"]}
                for one in messages
            ]
            if ledger:
                if bodies is not None:
                    bodies += [len(json.dumps(record["body"])) for record in records]
                records = _many(records, size)
            invoke = functools.partial(answer, {"Records": records}, stages[stage.name])
            # An incomplete batch is not counted.
            told = run((stage.name, full), invoke) if len(records) == size else invoke()
            if failed := told["batchItemFailures"]:
                raise RuntimeError(f"{stage.name} failed on {len(failed)} messages: {_errors.text}")
            for one in messages:
                sqs.delete_message(QueueUrl=url, ReceiptHandle=one["ReceiptHandle"])


def _timed_append(seconds: list[float]) -> Callable[..., Any]:
    """Return ``Sequencer.append`` that adds the seconds of processor time of an entry in a full batch to a list."""
    append = Sequencer.append

    def timed(self: Sequencer, entries: Sequence[Any], since: float) -> Any:
        start = time.thread_time()
        placed = append(self, entries, since)
        if len(entries) >= LEDGER_MESSAGES:
            seconds.append((time.thread_time() - start) / len(entries))
        return placed

    return timed


def _full_batch(stage: topology.Stage) -> int:
    return min(stage.batch_size, LEDGER_MESSAGES)


def _received(sqs: Any, url: str, most: int) -> list[Any]:
    """Return up to ``most`` messages of a queue; SQS gives ten at a time."""
    found: list[Any] = []
    while len(found) < most:
        some = sqs.receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=min(10, most - len(found)),
            AttributeNames=["All"],
            WaitTimeSeconds=0,
        ).get("Messages", [])
        if not some:
            break
        found += some
    return found


def _many(records: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Return as many messages as asked for, made from some: each an event of its own."""
    made = []
    for number in range(count):
        record = records[number % len(records)]
        envelope = json.loads(record["body"])
        envelope["detail"]["id"] = f"{number // len(records)}-{envelope['detail']['id']}"
        made.append({**record, "messageId": f"m{number}", "body": json.dumps(envelope)})
    return made if count > 1 else list(records)


def _left(aws: Any, photos: int) -> tuple[float, dict[str, float]]:
    """Return the faces of a photo, and the bytes of its records in tables and buckets, its own not counted."""
    dynamodb, s3, settings = aws.client("dynamodb"), aws.client("s3"), aws.settings
    items: dict[str, list[Any]] = {}
    left: dict[str, float] = {}
    for setting in ("uploads_table", "gallery_table"):
        pages = dynamodb.get_paginator("scan").paginate(TableName=getattr(settings, setting))
        items[setting] = [item for page in pages for item in page["Items"]]
        # DynamoDB counts a hundred bytes more for each stored item.
        left[setting] = round(sum(size_of(item) + 100 for item in items[setting]) / photos)
    for setting in ("chips_bucket", "results_bucket"):
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=getattr(settings, setting))
        left[setting] = round(sum(one["Size"] for page in pages for one in page.get("Contents", [])) / photos)
    left["ledger_bucket"] = round(ENTRIES * _entry_bytes(s3, settings.ledger_bucket))
    faces = sum(item["sk"]["S"].startswith("F#") for item in items["gallery_table"])
    return faces / photos, left


def _entry_bytes(s3: Any, bucket: str) -> float:
    """Return the bytes of an entry in the largest batch, as it was sequenced and once more in its bundles and tile."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=PREFIX)
    largest = max((one for page in pages for one in page["Contents"]), key=lambda one: int(one["Size"]))
    body = s3.get_object(Bucket=bucket, Key=largest["Key"])["Body"].read()
    return 2.0 * len(body) / decode_start(body).count


def _embedding_ms() -> float:
    """Return the milliseconds of a face in the embedder, in batches of the stage."""
    from abeyance.embedding.onnx import load_embedder

    embedder = load_embedder()
    chips = np.random.default_rng(9).integers(0, 256, (topology.RECOGNIZE.batch_size, 112, 112, 3), np.uint8)
    embedder.embed(chips)
    seconds = timeit.repeat(lambda: embedder.embed(chips), timer=time.thread_time, repeat=3, number=1)
    return 1000 * min(seconds) / len(chips)


def main() -> None:
    """Measure again and write ``layers/abeyance/cost/demand.json``."""
    from benchmarks.pipeline import sample_photos

    path = Path(__file__).parents[1] / "layers" / "abeyance" / "cost" / "demand.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(measure(sample_photos(20))), indent=2) + b"\n")


if __name__ == "__main__":
    main()
