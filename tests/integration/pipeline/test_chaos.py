"""Twice, in any order, with a crash: the gallery and the results are those of one clean run."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from tests.ledgers import entries_of, sign, verify

from abeyance.gallery.model import CollectionRef
from abeyance.gallery.store import DynamoGallery
from abeyance.ledger.defects import LogVerdict
from abeyance.local.demo import prepare
from abeyance.local.samples import as_png, fetch_samples
from abeyance.local.system import LocalSystem
from abeyance.local.tenants import TENANTS, register

from .conftest import result, settled_events

Uploads = list[tuple[str, bytes]]


@pytest.fixture(scope="module")
def uploads(request: pytest.FixtureRequest) -> tuple[Uploads, Uploads]:
    """Photos to index and photos to search for, ``--uploads`` in all."""
    prepare()
    paths = sorted(path for name, path in fetch_samples("csu-scrapshots").items() if name.endswith(".pgm"))
    total = request.config.getoption("--uploads")
    index, search = [], []
    for number in range(total):
        path = paths[number % len(paths)]
        item = f"{number:04}-{path.stem}.png", as_png(path)
        (index if number % 2 else search).append(item)
    return (
        [(f"acme/index/chaos/{name}", body) for name, body in index],
        [(f"acme/search/chaos/{name}", body) for name, body in search],
    )


def run(phases: tuple[Uploads, Uploads], *, twice: bool, seed: int) -> dict[str, Any]:
    """Upload everything and return what is left of it."""
    order = random.Random(seed)
    with LocalSystem() as system:
        register(system, TENANTS)
        for phase in phases:
            sent = phase * 2 if twice else list(phase)
            if twice:
                order.shuffle(sent)
            murders = threading.Thread(target=kill_each_in_turn, args=(system,)) if twice else None
            if murders:
                murders.start()
            s3 = system.client("s3")
            for key, body in sent:
                s3.put_object(Bucket="uploads", Key=key, Body=body)
            if murders:
                murders.join()
            system.drain(900)
        ref = CollectionRef("acme", "chaos")
        gallery = DynamoGallery(
            system.client("dynamodb"), "abeyance-gallery", system.client("s3"), "abeyance-gallery"
        )
        faces, token = {}, ""
        while True:
            page = gallery.list_faces(ref, token=token)
            faces |= {face.id: (face.external_image_id, face.box, face.image_id) for face in page.items}
            token = page.next_token
            if not token:
                break
        templates = gallery.templates(ref, sorted(faces))
        told = {entry.id for entry in entries_of(system.client)}
        assert [event.id for event in settled_events(system) if event.id not in told] == []
        sign(system.client)
        report = verify(system.client)
        assert report.verdict is LogVerdict.WHOLE, report
        assert (report.conflicts, report.repeated) == (0, 0)
        results = {key: outcome(result(system, key)) for phase in phases for key, _ in phase}
        return {
            "faces": faces,
            "count": gallery.describe(ref).face_count,
            "templates": {face: template.tobytes() for face, template in templates.items()},
            "results": results,
            "waiting": system.waiting(),
        }


def outcome(document: dict[str, Any] | None) -> Any:
    """Return a result without its times and sequencers."""
    assert document is not None
    kept = {"event", "reason", "faces", "model", "threshold", "unindexed"}
    return {name: value for name, value in document.items() if name in kept}


def kill_each_in_turn(system: LocalSystem) -> None:
    """End one process of every stage while it works, as Lambda's host may at any time."""
    for name in ("gate", "detect", "recognize", "ledger"):
        time.sleep(1.5)
        os.kill(system.pollers[name].workers[0].pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_runs_in_random_order_with_crashes_leave_the_same_as_one(
    uploads: tuple[Uploads, Uploads], tmp_path: Path
) -> None:
    clean = run(uploads, twice=False, seed=0)
    stormy = run(uploads, twice=True, seed=1)
    assert clean["waiting"] == stormy["waiting"]
    assert set(stormy["waiting"].values()) == {0}
    assert stormy["faces"] == clean["faces"]
    assert stormy["count"] == clean["count"] == len(clean["faces"]) > 0
    assert stormy["templates"] == clean["templates"]
    differing = [key for key in clean["results"] if clean["results"][key] != stormy["results"][key]]
    assert differing == []
