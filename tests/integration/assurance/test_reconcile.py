"""Reconciliation of a running system: nothing is missing, and what is taken away or slipped in is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from abeyance.assurance.reconcile import GapKind, Reconciliation
from abeyance.assurance.reconciler import GAP
from abeyance.assurance.traces import of_cloudtrail
from abeyance.deployment.build import build_reconciler
from abeyance.deployment.parts import build_gallery, build_pseudonyms
from abeyance.gallery.model import CollectionRef, NewFace
from abeyance.local.system import LocalSystem

Upload = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def filled(system: LocalSystem, portraits: dict[str, Path]) -> LocalSystem:
    """Every kind of outcome, once."""
    s3, obama = system.client("s3"), portraits["obama.jpg"].read_bytes()
    s3.put_object(Bucket="uploads", Key="acme/index/staff/obama.jpg", Body=obama)
    system.drain(60)
    s3.put_object(
        Bucket="uploads", Key="acme/search/staff/who.jpg", Body=portraits["obama2.jpg"].read_bytes()
    )
    s3.put_object(Bucket="uploads", Key="acme/analyze/any/obama.jpg", Body=obama)
    s3.put_object(Bucket="uploads", Key="acme/search/staff/broken.jpg", Body=b"no photo")
    s3.put_object(Bucket="uploads", Key="nobody/search/staff/obama.jpg", Body=obama)
    s3.put_object(Bucket="uploads", Key="acme/index/staff/gone.jpg", Body=obama)
    system.drain(60)
    s3.delete_object(Bucket="uploads", Key="acme/index/staff/gone.jpg")
    system.drain(60)
    return system


def compare(system: LocalSystem, *more: Any, **options: Any) -> Reconciliation:
    since = datetime.now(UTC) - timedelta(hours=1)
    reconciler = build_reconciler(system.settings, system.client)
    return reconciler.compare(since, more, grace=timedelta(0), **options)


def gaps(found: Reconciliation) -> list[tuple[GapKind, str]]:
    return [(gap.kind, gap.name) for gap in found.gaps]


def test_everything_that_happened_is_on_the_ledger_and_the_other_way_round(filled: LocalSystem) -> None:
    found = compare(filled)
    assert found.gaps == ()
    assert found.ok
    assert found.entries > 12
    assert found.traces["record"] > 10
    assert found.traces["result"] >= 5
    assert found.traces["face"] >= 1


def test_a_result_without_an_entry_is_named(filled: LocalSystem) -> None:
    s3 = filled.client("s3")
    now = datetime.now(UTC).isoformat()
    forged = {"event": "Faces Matched", "id": "faces-matched:" + "0" * 32, "time": now}
    s3.put_object(Bucket="results", Key="acme/search/staff/forged.jpg.json", Body=json.dumps(forged).encode())
    s3.put_object(Bucket="results", Key="acme/search/staff/nonsense.json", Body=b"nonsense")
    found = compare(filled)
    assert (GapKind.NO_ENTRY, forged["id"]) in gaps(found)
    assert len(found.gaps) == 2
    assert all("nonsense" not in gap.name for gap in found.gaps)
    for key in ("forged.jpg", "nonsense"):
        s3.delete_object(Bucket="results", Key=f"acme/search/staff/{key}.json")


def test_a_face_that_was_slipped_into_a_gallery_is_named(filled: LocalSystem) -> None:
    gallery = build_gallery(filled.settings, filled.client)
    ref = CollectionRef("acme", "staff")
    collection = gallery.describe(ref)
    template = np.zeros(collection.dimension, np.float32)
    template[0] = 1
    face_id = "11111111-1111-4111-8111-111111111111"
    gallery.index(ref, [NewFace(id=face_id, model=collection.model, template=template)])
    assert gaps(compare(filled)) == [(GapKind.NO_ENTRY, face_id)]
    gallery.delete_faces(ref, [face_id])


def test_a_record_that_was_taken_away_is_named(filled: LocalSystem) -> None:
    dynamodb = filled.client("dynamodb")
    found = dynamodb.scan(TableName=filled.settings.uploads_table)["Items"]
    halted = next(item for item in found if "Upload Halted" in item.get("stage_gate", {}).get("S", ""))
    dynamodb.delete_item(TableName=filled.settings.uploads_table, Key={"object": halted["object"]})
    name = f"upload-halted:{halted['object']['S'].removeprefix('upload#')}"
    assert gaps(compare(filled)) == [(GapKind.NO_RECORD, name)]
    dynamodb.put_item(TableName=filled.settings.uploads_table, Item=halted)


def test_an_upload_that_only_aws_has_seen_is_named(filled: LocalSystem, tmp_path: Path) -> None:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def call(number: int, key: str, **more: Any) -> dict[str, Any]:
        asked = {"bucketName": "uploads", "key": key}
        base = {"eventSource": "s3.amazonaws.com", "eventName": "PutObject", "eventTime": now}
        return {**base, "eventID": f"event-{number}", "requestParameters": asked, **more}

    calls = [
        call(1, "acme/index/staff/obama.jpg"),
        call(2, "acme/index/staff/never-seen.jpg"),
        call(3, "acme/index/staff/failed.jpg", errorCode="AccessDenied"),
        call(4, "acme/index/staff/read.jpg", eventName="GetObject"),
    ]
    (tmp_path / "trail.json").write_text(json.dumps({"Records": calls}))
    pseudonym = build_pseudonyms(filled.settings, filled.client)
    found = compare(filled, *of_cloudtrail(tmp_path / "trail.json", "uploads", pseudonym))
    assert gaps(found) == [(GapKind.NO_ENTRY, "event-2")]


def test_more_templates_than_entries_account_for(filled: LocalSystem) -> None:
    assert compare(filled, templates=3).ok
    assert [gap.kind for gap in compare(filled, templates=10_000).gaps] == [GapKind.UNACCOUNTED]


def test_gaps_ring(filled: LocalSystem, caplog: pytest.LogCaptureFixture) -> None:
    reconciler = build_reconciler(filled.settings, filled.client)
    assert reconciler.ring(timedelta(0))["gaps"] == 0
    assert not [line for line in caplog.records if line.getMessage() == GAP]
    s3 = filled.client("s3")
    s3.put_object(Bucket="results", Key="acme/search/staff/nonsense.json", Body=b"nonsense")
    assert reconciler.ring(timedelta(0))["gaps"] == 1
    (line,) = [line for line in caplog.records if line.getMessage() == GAP]
    assert vars(line)["kind"] == "no_entry"
    assert reconciler.ring()["gaps"] == 0  # it may still be on its way
    s3.delete_object(Bucket="results", Key="acme/search/staff/nonsense.json")
