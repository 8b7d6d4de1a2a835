"""The event contract: schemas are current, identities are deterministic, the ledger is told nothing personal."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from abeyance.aws.objects import UNREADABLE
from abeyance.ledger.admissible import check_body
from abeyance.moratorium.decide import Clause, Decision
from abeyance.pipeline import events
from abeyance.pipeline.record import entry_body
from abeyance.pipeline.uploads import (
    KeyNotUnderstood,
    external_image_id,
    name_id,
    parse_key,
    parse_notification,
)
from abeyance.vision.errors import RejectReason

SCHEMAS = Path(__file__).parents[3] / "docs" / "events"
UPLOAD = events.Upload(
    bucket="uploads",
    key="acme/index/staff/Jane Doe.jpg",
    version="v1",
    sequencer="0A",
    tenant="acme",
    action="index",
    collection="staff",
    etag="v1",
    size=3,
)
DECISION = Decision(outcome="permit", clause=Clause.PERMITTED, reason="ok", tenant="acme", action="index")
FACE = events.DetectedFace(
    box=events.Box(0.1, 0.2, 0.3, 0.4),
    confidence=99.0,
    quality=events.Quality(brightness=50, sharpness=60, yaw=1, pitch=2, roll=3),
    landmarks=((0.1, 0.1),) * 5,
    chip=0,
)
VIDEO = events.Video(
    duration_ms=40_000, width=640, height=360, frame_rate=29.97, codec="h264", container="mov"
)
TIMES = events.PersonTimes(view_ms=1_500, appearances=(events.Appearance(1_000, 9_000),), samples=17)
COMMON = {"time": "2026-01-01T00:00:00.000Z", "upload": UPLOAD}
PERMITTED = events.UploadPermitted(
    id=events.UploadPermitted.identify(UPLOAD),
    decision=DECISION,
    purpose="access_control",
    external_image_id="Jane_Doe.jpg",
    **COMMON,
)
EXAMPLES: list[events.Event] = [
    PERMITTED,
    events.UploadHalted(id="h:1", decision=DECISION, **COMMON),
    events.UploadRejected(id="r:1", stage="detect", reason="NO_FACE", message="No face.", **COMMON),
    events.UploadWithdrawn(id="w:1", **COMMON),
    events.VideoRequested(id="vr:1", decision=DECISION, purpose="unspecified", **COMMON),
    events.VideoOpened(
        id="vo:1",
        permitted=PERMITTED,
        decision=DECISION,
        video=VIDEO,
        segments=((0, 30_000), (30_000, 40_000)),
        source=events.VideoSource(bucket="uploads", key=UPLOAD.key, version="v", etag="v", size=9),
        **COMMON,
    ),
    events.SegmentExamined.of_segment(
        UPLOAD, 1, decision=DECISION, start_ms=30_000, end_ms=40_000, outcome="EXAMINED", tracks=2
    ),
    events.FacesDetected(
        id="d:2",
        permitted=PERMITTED,
        width=640,
        height=360,
        chips="k",
        faces=(msgspec.structs.replace(FACE, times=TIMES),),
        video=events.VideoExamined(video=VIDEO, examined_ms=30_000, halt=DECISION),
        views=(0, 0),
        **COMMON,
    ),
    events.FacesDetected(
        id="d:1", permitted=PERMITTED, width=10, height=10, chips="k", faces=(FACE,), **COMMON
    ),
    events.RecognitionHalted(id="rh:1", decision=DECISION, **COMMON),
    events.FacesIndexed(
        id="i:1",
        decision=DECISION,
        model="m@1",
        faces=(events.IndexedFace(face_id="f", external_image_id="Jane_Doe.jpg", face=FACE),),
        **COMMON,
    ),
    events.FacesMatched(
        id="m:1",
        decision=DECISION,
        model="m@1",
        threshold=80,
        faces=(
            events.SearchedFace(
                face=FACE,
                matches=(events.Match(face_id="f", similarity=99.5, external_image_id="Jane_Doe.jpg"),),
            ),
        ),
        **COMMON,
    ),
    events.MatchesReleased(
        id="mr:1",
        decision=DECISION,
        model="m@1",
        threshold=80,
        faces=(events.SearchedFace(face=FACE, matches=()),),
        reviewers=2,
        withheld=1,
        **COMMON,
    ),
    events.MatchesWithheld(
        id="mw:1", decision=DECISION, reason="NOT_CONFIRMED", reviewers=1, withheld=3, **COMMON
    ),
    events.FacesAnalyzed(id="a:1", decision=DECISION, faces=(FACE,), **COMMON),
    events.AuthorizationLapsed(id="al:1", due="2026-01-02T00:00:00Z", count=1, **COMMON),
    events.FacesDeleted(id="x:1", count=2, **COMMON),
    events.EventRefused(
        id="e:1", stage="detect", claimed="Upload Permitted", reason="NOT_RECORDED", **COMMON
    ),
]


def test_there_is_an_example_of_every_event() -> None:
    assert {type(example) for example in EXAMPLES} == set(events.EVENTS)


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: event.detail_type)
def test_events_survive_the_bus_and_fit_their_published_schema(event: events.Event) -> None:
    detail = json.loads(msgspec.json.encode(event))
    assert events.parse(event.detail_type, detail) == event
    published = json.loads((SCHEMAS / f"{event.detail_type.lower().replace(' ', '-')}.json").read_text())
    Draft202012Validator(published).validate(detail)


def test_published_schemas_are_current() -> None:
    """Run ``python -m abeyance.pipeline.events docs/events`` after a change of the contract."""
    published = {path.name: json.loads(path.read_text()) for path in SCHEMAS.glob("*.json")}
    current = {f"{name.lower().replace(' ', '-')}.json": schema for name, schema in events.schemas().items()}
    assert published == current


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: event.detail_type)
def test_ledger_entries_hold_nothing_personal(event: events.Event) -> None:
    body = entry_body(event, b"sixteen bytes or more")
    check_body(body)
    text = json.dumps(body)
    assert "Jane" not in text
    assert UPLOAD.key not in text
    assert "landmarks" not in text


def test_an_upload_has_the_same_identity_at_every_delivery() -> None:
    again = msgspec.structs.replace(PERMITTED, time="2027-01-01T00:00:00.000Z")
    assert again.id == PERMITTED.id == events.UploadPermitted.identify(UPLOAD)
    later = msgspec.structs.replace(UPLOAD, sequencer="0B")
    assert events.UploadPermitted.identify(later) != PERMITTED.id
    assert later.photo == UPLOAD.photo


@pytest.mark.parametrize(
    "key",
    [
        "",
        "acme",
        "acme/index/staff",
        "acme/index/staff/",
        "acme/erase/staff/a.jpg",
        "Acme!/index/s/a",
        "acme/index/a b/c",
    ],
)
def test_a_key_without_tenant_action_and_collection_is_refused(key: str) -> None:
    with pytest.raises(KeyNotUnderstood):
        parse_key(msgspec.structs.replace(UPLOAD, key=key))


def test_a_key_gives_tenant_action_collection_and_name() -> None:
    upload = parse_key(
        parse_notification(
            {
                "detail-type": "Object Created",
                "detail": {
                    "bucket": {"name": "uploads"},
                    "object": {"key": "acme/search/staff/a/b c.jpg", "sequencer": "1"},
                },
            }
        ).upload
    )
    assert (upload.tenant, upload.action, upload.collection) == ("acme", "search", "staff")
    assert external_image_id(upload) == "utf8:b:20c.jpg"
    assert external_image_id(upload, "Zoë 1") == "utf8:Zo:C3:AB:201"


@pytest.mark.parametrize("name", ["a.jpg", "A:b_c-1.jpg", "x" * 255])
def test_a_name_that_rekognition_allows_stays(name: str) -> None:
    assert name_id(name) == name


LIKE_NAMES = st.one_of(
    st.text(min_size=1, max_size=300),
    st.text("aM:_. üö张/%", min_size=1, max_size=12),
    st.text("aö", min_size=1, max_size=6).map(name_id),
    st.text("ab", min_size=1, max_size=4).map(lambda text: f"sha256:{text}"),
)


@given(LIKE_NAMES, LIKE_NAMES)
def test_two_names_never_become_one(one: str, other: str) -> None:
    for name in (one, other):
        assert re.fullmatch(r"[a-zA-Z0-9_.\-:]{1,255}", name_id(name))
    assert (name_id(one) == name_id(other)) == (one == other)


def test_the_names_that_used_to_collide_are_different() -> None:
    names = [
        "张伟.jpg",
        "王芳.jpg",
        "__.jpg",
        "Müller.jpg",
        "Möller.jpg",
        "a" * 256,
        "a" * 257,
        "utf8:a",
        "utf8:utf8:a",
    ]
    assert len({name_id(name) for name in names}) == len(names)


def test_every_reason_of_a_rejection_is_documented() -> None:
    page = (SCHEMAS / "README.md").read_text(encoding="utf-8")
    source = "".join(
        (Path(events.__file__).parent / f"{stage}.py").read_text(encoding="utf-8")
        for stage in ("gate", "detect", "frames", "recognize")
    )
    used = set(re.findall(r'"([A-Z]+(?:_[A-Z]+)+)"', source)) | {reason for reason, _ in UNREADABLE.values()}
    assert {f"`{reason}`" for reason in used | set(RejectReason)} <= set(re.findall(r"`[A-Z_]+`", page))
