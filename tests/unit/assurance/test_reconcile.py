"""Reconciliation, pure: every kind of gap, and nothing that is none."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from abeyance.assurance.reconcile import (
    MAX_GAPS,
    GapKind,
    Reconciliation,
    Trace,
    TraceSource,
    reconcile,
    used_by,
)
from abeyance.assurance.traces import TraceError, of_cloudtrail
from abeyance.ledger.reading import LoggedEntry
from abeyance.moratorium.authorization_uses import USED

NOW = datetime(2026, 6, 10, 12, tzinfo=UTC)
SINCE = NOW - timedelta(days=1)
AT = "2026-06-10T10:00:00.000000Z"


def entry(number: int, kind: str, name: str, at: str = AT, **body: Any) -> LoggedEntry:
    return LoggedEntry(index=number, id=name, type=kind, time=at, body=body)


def record(name: str, at: str = AT) -> Trace:
    return Trace(source=TraceSource.RECORD, name=name, at=at, entry=name)


CHAIN = [
    entry(0, "Upload Permitted", "upload-permitted:a", upload="p"),
    entry(1, "Faces Detected", "faces-detected:a", upload="p", faces_count=2),
    entry(2, "Faces Indexed", "faces-indexed:a", upload="p", faces_count=2),
]
RECORDS = [record(one.id) for one in CHAIN]


def gaps(found: Reconciliation) -> list[tuple[GapKind, str]]:
    return [(gap.kind, gap.name) for gap in found.gaps]


def run(entries: list[LoggedEntry], traces: list[Trace], **options: Any) -> Reconciliation:
    return reconcile(entries, traces, since=SINCE, now=NOW, **options)


def test_a_whole_chain_has_no_gap() -> None:
    found = run(CHAIN, RECORDS)
    assert (found.ok, found.entries, found.traces) == (True, 3, {"record": 3})


@pytest.mark.parametrize(
    "source", [TraceSource.RESULT, TraceSource.REVIEW, TraceSource.FACE, TraceSource.RECORD]
)
def test_a_trace_without_its_entry_is_a_gap(source: TraceSource) -> None:
    lost = Trace(source=source, name="lost", at="2026-06-10T12:00:00+02:00", entry="faces-matched:b")
    assert gaps(run(CHAIN, [*RECORDS, lost])) == [(GapKind.NO_ENTRY, "lost")]


@pytest.mark.parametrize("at", ["2026-06-10T11:50:00Z", "2026-06-09T11:59:59Z", "2026-06-10T12:30:00Z"])
def test_what_is_on_its_way_or_older_is_no_gap(at: str) -> None:
    assert run(CHAIN, [*RECORDS, record("upload-halted:z", at)]).ok


def test_an_entry_without_a_record_is_a_gap() -> None:
    forged = entry(3, "Upload Halted", "upload-halted:x")
    assert gaps(run([*CHAIN, forged], RECORDS)) == [(GapKind.NO_RECORD, "upload-halted:x")]
    assert run([*CHAIN, forged], []).ok  # no records were compared


def test_an_outcome_needs_a_permit_that_may_be_older() -> None:
    assert gaps(run(CHAIN[1:], RECORDS[1:])) == [
        (GapKind.NOT_PERMITTED, "faces-detected:a"),
        (GapKind.NOT_PERMITTED, "faces-indexed:a"),
    ]
    before = entry(0, "Upload Permitted", "upload-permitted:a", "2026-06-09T11:00:00.000000Z")
    assert run([before, *CHAIN[1:]], RECORDS[1:]).ok


@pytest.mark.parametrize("operation", ["IndexFaces", "ImportFaces", "ReembedFaces"])
def test_a_face_of_the_api_needs_a_decision_shortly_before_it(operation: str) -> None:
    permit = {"outcome": "permit", "tenant": "acme"}
    decided = entry(0, "decision", "api:1:index", decision=permit, operation=operation, collection="staff")

    def face(at: str, tenant: str = "acme", collection: str = "staff") -> Trace:
        return Trace(source=TraceSource.FACE, name="f", at=at, tenant=tenant, collection=collection)

    assert run([decided], [face("2026-06-10T10:00:02Z")]).ok
    for other in (
        face("2026-06-10T10:06:00Z"),
        face("2026-06-10T09:59:00Z"),
        face("2026-06-10T10:00:02Z", tenant="other"),
        face("2026-06-10T10:00:02Z", collection="other"),
    ):
        assert gaps(run([decided], [other])) == [(GapKind.NO_ENTRY, "f")]
    denied = entry(
        0, "decision", "d", decision={**permit, "outcome": "deny"}, operation="IndexFaces", collection="staff"
    )
    assert not run([denied], [face("2026-06-10T10:00:02Z")]).ok


@pytest.mark.parametrize(("made", "ok"), [(0, True), (102, True), (103, False)])
def test_templates_are_accounted_for(made: int, ok: bool) -> None:
    call = entry(3, "decision", "api:1", decision={"outcome": "permit"}, operation="SearchFacesByImage")
    assert run([*CHAIN, call], RECORDS, templates=made).ok == ok


def test_many_gaps_are_counted_and_a_few_kept() -> None:
    found = run([], [record(f"upload-halted:{n}") for n in range(500)])
    assert (len(found.gaps), found.found) == (MAX_GAPS, 500)


_NO_KEY = {"eventName": "PutObject", "requestParameters": {"bucketName": "uploads"}}
_CALL = {"eventSource": "s3.amazonaws.com", **_NO_KEY}


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[]", b'{"Records":[1]}', b"\x1f\x8bdamage", json.dumps({"Records": [_CALL]}).encode()],
)
def test_what_is_no_log_of_cloudtrail_is_told(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "trail").write_bytes(data)
    with pytest.raises(TraceError, match="trail"):
        list(of_cloudtrail(tmp_path / "trail", "uploads", str))


def test_a_compressed_log_is_read(tmp_path: Path) -> None:
    call = {
        "eventSource": "s3.amazonaws.com",
        "eventName": "CompleteMultipartUpload",
        "eventTime": AT,
        "eventID": "1",
    }
    call |= {"requestParameters": {"bucketName": "uploads", "key": "k"}}
    (tmp_path / "trail").write_bytes(gzip.compress(json.dumps({"Records": [call]}).encode()))
    (found,) = of_cloudtrail(tmp_path / "trail", "uploads", lambda text: f"hidden {text}")
    assert found == Trace(source=TraceSource.OBJECT, name="1", at=AT, upload="hidden uploads/k")


# -- authorisations


def use(search: str, number: str = "26-1", at: str = AT) -> Trace:
    entry_id = f"authorized:{search}"
    return Trace(
        source=TraceSource.AUTHORIZATION, name=entry_id, at=at, entry=entry_id, used=used_by(search, number)
    )


def said(number: int, search: str, authorization: str = "26-1") -> LoggedEntry:
    return entry(number, USED, f"authorized:{search}", search=search, authorization=authorization)


def decided(number: int, search: str, authorization: str = "26-1", state: str = "used") -> LoggedEntry:
    named = {"state": state, "search": search, "number": authorization}
    return entry(
        number,
        "decision",
        f"api:{number}",
        decision={"outcome": "permit", "authorization": named},
        operation="x",
    )


def test_uses_and_entries_that_agree_have_no_gap() -> None:
    found = run([said(0, "api:1"), decided(1, "api:1"), decided(2, "api:1")], [use("api:1")])
    assert (found.ok, found.traces) == (True, {"authorization": 1})


def test_a_use_without_its_entry_or_of_another_number_is_a_gap() -> None:
    assert gaps(run([], [use("api:1")])) == [(GapKind.NO_ENTRY, "authorized:api:1")]
    found = run([said(0, "api:1", "26-2")], [use("api:1")])
    assert gaps(found) == [
        (GapKind.NO_ENTRY, "authorized:api:1"),
        (GapKind.NO_RECORD, "authorized:api:1"),
    ]


def test_an_entry_that_names_a_use_that_there_is_not_is_a_gap() -> None:
    entries = [
        said(0, "api:1"),
        decided(1, "api:2"),
        decided(2, "api:1", "26-2"),
        decided(3, "api:3", state="late"),
    ]
    assert gaps(run(entries, [use("api:1")])) == [(GapKind.NO_RECORD, "api:1"), (GapKind.NO_RECORD, "api:2")]
