"""A photo in S3 becomes a match, or a reason why not: real photos, real models, real handlers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from tests.ledgers import entries_of, verify

from abeyance.deployment.parts import build_log_objects
from abeyance.gallery.errors import CollectionNotFound
from abeyance.gallery.model import CollectionRef
from abeyance.gallery.store import DynamoGallery
from abeyance.ledger.defects import LogVerdict
from abeyance.ledger.documents import DOCUMENT
from abeyance.ledger.entry import blob_key
from abeyance.local.system import LocalSystem
from abeyance.moratorium.decide import Decision, decide, rebuild
from abeyance.moratorium.document import parse
from abeyance.pipeline import topology

from .conftest import result, settled_events

#: One running system serves all tests of this file, so they stay together.

Upload = Callable[..., dict[str, Any]]


def gallery(system: LocalSystem) -> DynamoGallery:
    return DynamoGallery(
        system.client("dynamodb"), "abeyance-gallery", system.client("s3"), "abeyance-gallery"
    )


def test_one_photo_is_indexed_and_another_of_the_same_person_matches(
    system: LocalSystem, upload: Upload, portraits: dict[str, Path]
) -> None:
    indexed = upload("acme/index/presidents/obama.jpg", portraits["obama.jpg"].read_bytes())
    assert indexed["event"] == "Faces Indexed"
    assert [face["external_image_id"] for face in indexed["faces"]] == ["obama.jpg"]
    upload("acme/index/presidents/biden.jpg", portraits["biden.jpg"].read_bytes())

    found = upload("acme/search/presidents/who.jpg", portraits["obama2.jpg"].read_bytes())
    assert found["event"] == "Faces Matched"
    (face,) = found["faces"]
    best = face["matches"][0]
    assert best["external_image_id"] == "obama.jpg"
    assert best["face_id"] == indexed["faces"][0]["face_id"]
    assert best["similarity"] >= 80
    assert all(match["external_image_id"] != "biden.jpg" for match in face["matches"])
    box = face["face"]["box"]
    assert 0 <= box["left"] < box["left"] + box["width"] <= 1.05
    assert face["face"]["confidence"] > 70


def test_the_uploader_may_ask_for_more_or_for_less(
    system: LocalSystem, upload: Upload, portraits: dict[str, Path]
) -> None:
    upload(
        "acme/index/threshold/obama.jpg", portraits["obama.jpg"].read_bytes(), external_image_id="person:44"
    )
    upload("acme/index/threshold/biden.jpg", portraits["biden.jpg"].read_bytes())
    body = portraits["obama2.jpg"].read_bytes()
    everybody = upload("acme/search/threshold/all.jpg", body, face_match_threshold="0")
    assert {match["external_image_id"] for match in everybody["faces"][0]["matches"]} >= {"person:44"}
    nobody = upload("acme/search/threshold/none.jpg", body, face_match_threshold="100")
    assert nobody["event"] == "Faces Matched"
    assert nobody["faces"][0]["matches"] == []
    wrong = upload("acme/search/threshold/wrong.jpg", body, face_match_threshold="many")
    assert (wrong["event"], wrong["reason"]) == ("Upload Rejected", "INVALID_METADATA")


def test_analysis_makes_no_template(system: LocalSystem, upload: Upload, portraits: dict[str, Path]) -> None:
    found = upload("acme/analyze/any/obama.jpg", portraits["obama.jpg"].read_bytes())
    assert found["event"] == "Faces Analyzed"
    assert len(found["faces"]) == 1
    assert abs(found["faces"][0]["quality"]["roll"]) < 20


def test_a_search_in_a_collection_that_is_not_there(upload: Upload, portraits: dict[str, Path]) -> None:
    found = upload("acme/search/nowhere/a.jpg", portraits["obama.jpg"].read_bytes())
    assert (found["event"], found["reason"]) == ("Upload Rejected", "COLLECTION_NOT_FOUND")


def test_the_police_are_halted_before_a_pixel_is_read_and_missing_children_are_searched_for(
    system: LocalSystem, upload: Upload, portraits: dict[str, Path]
) -> None:
    body = portraits["obama.jpg"].read_bytes()
    halted = upload("springfield-police/index/arrests/a.jpg", body)
    assert halted["event"] == "Upload Halted"
    assert halted["decision"]["clause"] == "held" or halted["decision"]["clause"] == "halted"
    assert [part["key"] for part in halted["decision"]["flags"]] == ["police_halt"]
    # Whatever the halted upload claims for itself: the exemption names tenants, and the police are none of them.
    claimed = upload("springfield-police/search/arrests/b.jpg", body, purpose="missing_children")
    assert claimed["event"] == "Upload Halted"
    allowed = upload("icmec/index/missing/c.jpg", body, purpose="missing_children")
    assert allowed["event"] == "Faces Indexed"
    assert allowed["decision"]["clause"] == "exempted"
    chips = system.client("s3").list_objects_v2(Bucket="abeyance-chips").get("Contents", [])
    assert not [found for found in chips if found["Key"].startswith("springfield-police/")]


def test_unknown_tenants_actions_and_keys_are_refused(upload: Upload, portraits: dict[str, Path]) -> None:
    body = portraits["obama.jpg"].read_bytes()
    assert upload("nobody/search/staff/a.jpg", body)["decision"]["clause"] == "unknown_tenant"
    assert upload("acme/search/staff/a.jpg", body, purpose="marketing")["decision"]["clause"] == (
        "purpose_not_registered"
    )
    for key in ("acme/erase/staff/a.jpg", "a.jpg", "acme/index/a.jpg"):
        refused = upload(key, body)
        assert (refused["event"], refused["reason"]) == ("Upload Rejected", "KEY_NOT_UNDERSTOOD")


def test_deleting_the_photo_deletes_its_faces_its_chips_and_its_result(
    system: LocalSystem, upload: Upload, portraits: dict[str, Path]
) -> None:
    key = "acme/index/leaving/obama.jpg"
    upload(key, portraits["obama.jpg"].read_bytes())
    ref = CollectionRef("acme", "leaving")
    assert gallery(system).describe(ref).face_count == 1
    system.client("s3").delete_object(Bucket="uploads", Key=key)
    system.drain(60)
    assert gallery(system).describe(ref).face_count == 0
    assert result(system, key) is None
    found = upload(
        "acme/search/leaving/again.jpg", portraits["obama2.jpg"].read_bytes(), face_match_threshold="0"
    )
    assert found["faces"][0]["matches"] == []
    deleted = [entry for entry in entries_of(system.client) if entry.type == "Faces Deleted"]
    assert deleted[-1].body["count"] == 1


def test_deleting_one_version_for_good_deletes_its_own_faces_only(
    system: LocalSystem, upload: Upload, portraits: dict[str, Path]
) -> None:
    key = "acme/index/versions/who.jpg"
    found = upload(key, portraits["obama.jpg"].read_bytes())
    sqs = system.client("sqs")

    def deleted_for_good(version: str, sequencer: str) -> int:
        # What S3 sends of a bucket with versions; it is not the latest event on its key.
        detail = {
            "bucket": {"name": "uploads"},
            "object": {"key": key, "version-id": version, "etag": version, "sequencer": sequencer},
            "deletion-type": "Permanently Deleted",
        }
        envelope = {"detail-type": "Object Deleted", "source": "aws.s3", "detail": detail}
        url = sqs.get_queue_url(QueueName=topology.GATE.queue)["QueueUrl"]
        sqs.send_message(QueueUrl=url, MessageBody=json.dumps(envelope))
        system.drain(60)
        count: int = gallery(system).describe(CollectionRef("acme", "versions")).face_count
        return count

    assert deleted_for_good("another-version", "F" * 15) == 1
    assert deleted_for_good(found["upload"]["version"], "F" * 16) == 0


def test_a_new_photo_under_the_same_key_replaces_the_old_faces(
    system: LocalSystem, upload: Upload, portraits: dict[str, Path]
) -> None:
    key = "acme/index/replaced/who.jpg"
    first = upload(key, portraits["obama.jpg"].read_bytes())
    second = upload(key, portraits["biden.jpg"].read_bytes())
    assert first["faces"][0]["face_id"] != second["faces"][0]["face_id"]
    assert gallery(system).describe(CollectionRef("acme", "replaced")).face_count == 1
    found = upload("acme/search/replaced/a.jpg", portraits["obama2.jpg"].read_bytes())
    assert found["faces"][0]["matches"] == []


def test_a_flag_that_is_flipped_holds_for_the_next_photo(
    system: LocalSystem, upload: Upload, portraits: dict[str, Path]
) -> None:
    body = portraits["obama.jpg"].read_bytes()
    before = system.flags.read_text()
    document = json.loads(before)
    halt = document["values"]["police_halt"]
    halt["sectors"] = ["all"]
    del halt["exempt_tenants"], halt["exempt_purposes"]
    system.flags.write_text(json.dumps(document))
    try:
        flipped = upload("acme/index/flipped/a.jpg", body)
        assert flipped["event"] == "Upload Halted"
        assert flipped["decision"]["fault"] == ""
        system.flags.write_text(before[: len(before) // 2])
        broken = upload("acme/index/flipped/b.jpg", body)
        assert broken["event"] == "Upload Halted"
        assert broken["decision"]["fault"]
    finally:
        system.flags.write_text(before)
    assert upload("acme/index/flipped/c.jpg", body)["event"] == "Faces Indexed"


def test_a_search_finds_no_face_of_another_tenant(
    system: LocalSystem, upload: Upload, portraits: dict[str, Path]
) -> None:
    upload("acme/index/shared-name/obama.jpg", portraits["obama.jpg"].read_bytes())
    found = upload(
        "icmec/search/shared-name/a.jpg", portraits["obama2.jpg"].read_bytes(), purpose="missing_children"
    )
    assert (found["event"], found["reason"]) == ("Upload Rejected", "COLLECTION_NOT_FOUND")
    try:
        gallery(system).describe(CollectionRef("icmec", "shared-name"))
    except CollectionNotFound:
        return
    raise AssertionError("a search must not make a collection")


def test_everything_is_on_the_ledger_and_the_ledger_holds(system: LocalSystem) -> None:
    system.timekeeper.checkpoint()
    report = verify(system.client)
    assert report.verdict is LogVerdict.WHOLE, report
    entries = entries_of(system.client)
    settled = settled_events(system)
    told = Counter(entry.id for entry in entries)
    assert len(settled) > 20
    assert {event.id: told[event.id] for event in settled} == {event.id: 1 for event in settled}
    text = msgspec.json.encode(entries).decode()
    for personal in ("obama", "biden", ".jpg", "person:44"):
        assert personal not in text


def test_nothing_is_left_in_any_queue(system: LocalSystem) -> None:
    assert set(system.waiting().values()) == {0}


def test_the_start_or_end_of_a_moratorium_is_announced_once_and_recorded(system: LocalSystem) -> None:
    edge = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1, seconds=3)
    document = json.loads(system.flags.read_text())
    document["values"]["police_halt"]["ends"] = f"{edge:%Y-%m-%dT%H:%M:%SZ}"
    before = system.flags.read_text()
    system.flags.write_text(json.dumps(document))
    try:
        deadline = datetime.now(UTC) + timedelta(seconds=15)
        found: list[Any] = []
        while not found and datetime.now(UTC) < deadline:
            system.drain(30)
            found = [entry for entry in entries_of(system.client) if entry.type == "Moratorium Ending"]
    finally:
        system.flags.write_text(before)
    (entry,) = found
    assert entry.body["flag"] == "police_halt"
    assert entry.body["lead_seconds"] == 86400
    assert entry.body["held"] is True


def test_a_checkpoint_covers_the_ledger(system: LocalSystem) -> None:
    system.timekeeper.checkpoint()
    report = verify(system.client)
    assert report.verdict is LogVerdict.WHOLE, report
    assert report.signed == report.opened == report.size == len(entries_of(system.client))
    assert (report.conflicts, report.refused) == (0, 0)


def test_a_decision_is_made_again_from_the_log_alone(system: LocalSystem) -> None:
    """The document that decided is found by the digest that the decision names, and decides the same again."""
    entries = entries_of(system.client)
    objects = build_log_objects(system.settings, system.client)
    documents = {entry.body["flags"]: entry.body["document"] for entry in entries if entry.type == DOCUMENT}
    replayed = 0
    for entry in entries:
        if "decision" not in entry.body:
            continue
        before = msgspec.convert(entry.body["decision"], Decision)
        if before.fault or before.digest not in documents:
            continue  # a test wrote other flags for less than a second
        flags = parse(objects.get(blob_key(documents[before.digest])) or b"")
        after = decide(rebuild(before), flags, datetime.fromisoformat(before.as_of))
        assert (after.outcome, after.clause, after.flags) == (before.outcome, before.clause, before.flags)
        replayed += 1
    assert replayed > 20
