"""Reconciliation: what happened against the entries of the ledger, in both directions. Pure, in bounded memory.

A log proves that nothing on it was changed. It cannot prove that everything is on it. For that, whatever else keeps
traces of what happened is compared with it: the stages' records, results, faces in galleries, reviews, and what AWS
itself logs about the bucket. What has no entry, and an entry that has no record, is a gap.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

import msgspec

from abeyance.aws.timestamps import rfc3339
from abeyance.ledger.reading import LoggedEntry
from abeyance.moratorium.authorization_uses import USED
from abeyance.pipeline import events
from abeyance.pipeline.outbox import FINAL_EVENTS

#: Gaps that are kept; the others are only counted.
MAX_GAPS: Final = 100
#: Time in which an event is on its way to the ledger, and not missing yet.
GRACE: Final = timedelta(minutes=15)
#: Time that an upload may have waited between two stages.
LOOKBACK: Final = timedelta(days=1)
#: Time between the decision of the API and the last face that it adds.
_API_CALL: Final = timedelta(minutes=5)
#: The API's operations that add faces without an upload.
_ADDING: Final = ("IndexFaces", "ImportFaces", "ReembedFaces")
#: Most faces of one photo, of the API's operations.
_MAX_FACES: Final = 100
#: Outcomes that need a permit of the gate before them.
_AFTER_PERMIT: Final = (
    events.FacesDetected,
    *(kind for kind in FINAL_EVENTS if kind not in (events.UploadHalted, events.UploadRejected)),
)
#: Outcomes that a stage has a record of.
_RECORDED: Final = (
    events.UploadPermitted,
    events.VideoRequested,
    events.VideoOpened,
    events.SegmentExamined,
    events.FacesDetected,
    *FINAL_EVENTS,
)
_SCHEMA: Final = """
CREATE TABLE entries (id TEXT PRIMARY KEY, number INTEGER, type TEXT, time TEXT, upload TEXT,
  tenant TEXT, collection TEXT, operation TEXT, outcome TEXT, faces INTEGER, used TEXT) WITHOUT ROWID;
CREATE INDEX uploads ON entries (upload);
CREATE INDEX calls ON entries (tenant, operation, time);
CREATE TABLE records (id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE uses (used TEXT PRIMARY KEY) WITHOUT ROWID;
"""


class GapKind(StrEnum):
    """The kind of a gap."""

    NO_ENTRY = "no_entry"  # something happened, and no entry says so
    NO_RECORD = "no_record"  # an entry says so, and the stage has no record of it
    NOT_PERMITTED = "not_permitted"  # an outcome without the gate's permit before it
    UNACCOUNTED = "unaccounted"  # more templates were made than entries account for


class TraceSource(StrEnum):
    """The store that has a trace of something that happened."""

    RECORD = "record"
    RESULT = "result"
    FACE = "face"
    REVIEW = "review"
    OBJECT = "object"
    AUTHORIZATION = "authorization"


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened, and the entry that it has to have.

    Attributes
    ----------
    source
        Where the trace was found.
    name
        Names it without a person's or a file's name: the id of an event, a face or a review.
    at
        When it happened, RFC 3339 in UTC.
    entry
        Id of its entry; else empty.
    upload
        Pseudonym of the object, of which an entry has to exist; else empty.
    tenant, collection
        Of a face that a call of the API added: a decision to index has to stand shortly before it; else empty.
    used
        Search and number of an authorisation that was used, as :func:`used_by` writes them; else empty.
    """

    source: TraceSource
    name: str
    at: str
    entry: str = ""
    upload: str = ""
    tenant: str = ""
    collection: str = ""
    used: str = ""


def used_by(search: str, number: str) -> str:
    """Return what the use of an authorisation and every entry about it have in common."""
    return f"{search} {number}"


class Gap(msgspec.Struct, frozen=True):
    """One gap; ``index`` is that of the entry where there is one."""

    kind: GapKind
    what: str
    name: str
    at: str = ""
    index: int | None = None


class Reconciliation(msgspec.Struct, frozen=True, kw_only=True):
    """The result.

    Attributes
    ----------
    since, until
        The time that was compared, RFC 3339. What is later may still be on its way.
    entries
        Entries of that time.
    traces
        Traces that were compared, by their source.
    gaps, found
        The first :data:`MAX_GAPS`, and how many there are.
    """

    since: str
    until: str
    entries: int
    traces: dict[str, int]
    gaps: tuple[Gap, ...]
    found: int

    @property
    def ok(self) -> bool:
        """True if there is no gap."""
        return not self.found


def reconcile(
    entries: Iterable[LoggedEntry],
    traces: Iterable[Trace],
    *,
    since: datetime,
    now: datetime,
    grace: timedelta = GRACE,
    templates: int | None = None,
) -> Reconciliation:
    """Compare entries with traces.

    Parameters
    ----------
    entries
        Of the ledger, from :data:`LOOKBACK` before ``since`` on, in any order.
    traces
        From every store that is to be compared. Records of stages, if there are any, have to be all of them.
    since, now, grace
        What happened from ``since`` until ``grace`` before ``now`` is compared. Both with a time zone.
    templates
        Templates that the embedder says it made in that time.

    Returns
    -------
    Reconciliation
        Whatever is found, with its name.
    """
    with _Comparison(rfc3339(since, "microseconds"), rfc3339(now - grace, "microseconds")) as comparison:
        comparison.add_entries(entries)
        for trace in traces:
            comparison.compare(trace)
        comparison.compare_entries()
        if templates is not None:
            comparison.compare_templates(templates)
        return comparison.result()


class _Comparison:
    """Entries and records in a temporary file, so that memory does not grow with them."""

    def __init__(self, since: str, until: str) -> None:
        self._since, self._until = since, until
        self._database = sqlite3.connect("")
        self._database.executescript(_SCHEMA)
        self._traces: dict[str, int] = dict.fromkeys(map(str, TraceSource), 0)
        self._gaps: list[Gap] = []
        self._found = 0

    def __enter__(self) -> _Comparison:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def add_entries(self, entries: Iterable[LoggedEntry]) -> None:
        """Take the entries, each id once."""
        self._database.executemany(
            "INSERT OR IGNORE INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", map(_row, entries)
        )

    def compare(self, trace: Trace) -> None:
        """Look for the entry of a trace of the time that is compared."""
        if trace.source is TraceSource.RECORD:
            self._database.execute("INSERT OR IGNORE INTO records VALUES (?)", (trace.entry,))
        if trace.used:
            self._database.execute("INSERT OR IGNORE INTO uses VALUES (?)", (trace.used,))
        at = _in_utc(trace.at)
        if not self._since <= at <= self._until:
            return
        self._traces[trace.source] += 1
        if not self._has_entry(trace, at):
            what = f"{_WHAT[trace.source]} has no entry on the ledger"
            self._add(Gap(GapKind.NO_ENTRY, what, trace.name, trace.at))

    def compare_entries(self) -> None:
        """Look for what every entry of that time needs: a record if records are compared, and a permit."""
        if self._traces[TraceSource.RECORD] or self._any("SELECT 1 FROM records"):
            kinds = ", ".join(f"'{kind.detail_type}'" for kind in _RECORDED)
            missing = f"type IN ({kinds}) AND id NOT IN (SELECT id FROM records)"  # noqa: S608 - our own names
            for name, number, time in self._window(missing):
                what = "an entry says what no stage has a record of"
                self._add(Gap(GapKind.NO_RECORD, what, name, time, number))
        for name, number, time in self._window("used != '' AND used NOT IN (SELECT used FROM uses)"):
            what = "an entry names the use of an authorisation that there is no record of"
            self._add(Gap(GapKind.NO_RECORD, what, name, time, number))
        kinds = ", ".join(f"'{kind.detail_type}'" for kind in _AFTER_PERMIT)
        # A job of the API has a decision of its own in the place of the gate's.
        permits = " OR ".join(
            f"'{permit}:' || substr(id, instr(id, ':') + 1) IN (SELECT id FROM entries)"  # noqa: S608 - our own names
            for permit in ("upload-permitted", "video-requested")
        )
        unpermitted = f"type IN ({kinds}) AND NOT ({permits})"
        for name, number, time in self._window(unpermitted):
            self._add(Gap(GapKind.NOT_PERMITTED, "an outcome has no permit of the gate", name, time, number))

    def compare_templates(self, made: int) -> None:
        """Compare the embedder's own count with the most that the entries account for."""
        detected = self._sum("coalesce(sum(faces), 0)", "type IN ('Faces Detected', 'Segment Examined')")
        calls = self._sum("count(*)", "operation != '' AND outcome = 'permit'")
        accounted = detected + calls * _MAX_FACES
        if made > accounted:
            what = f"{made} templates were made, and the entries account for at most {accounted}"
            self._add(Gap(GapKind.UNACCOUNTED, f"{what}; redeliveries make some twice", "embedder"))

    def result(self) -> Reconciliation:
        """Return the result."""
        return Reconciliation(
            since=self._since,
            until=self._until,
            entries=self._sum("count(*)", "1"),
            traces={source: count for source, count in self._traces.items() if count},
            gaps=tuple(self._gaps),
            found=self._found,
        )

    def _has_entry(self, trace: Trace, at: str) -> bool:
        if trace.used:
            return self._any("SELECT 1 FROM entries WHERE id = ? AND used = ?", trace.entry, trace.used)
        if trace.entry:
            return self._any("SELECT 1 FROM entries WHERE id = ?", trace.entry)
        if trace.upload:
            return self._any("SELECT 1 FROM entries WHERE upload = ?", trace.upload)
        earliest = rfc3339(datetime.fromisoformat(at) - _API_CALL, "microseconds")
        return any(
            self._any(
                "SELECT 1 FROM entries WHERE tenant = ? AND operation = ? AND time BETWEEN ? AND ? "
                "AND collection = ? AND outcome = 'permit'",
                *(trace.tenant, operation, earliest, at, trace.collection),
            )
            for operation in _ADDING
        )

    def _any(self, query: str, *values: str) -> bool:
        return self._database.execute(f"{query} LIMIT 1", values).fetchone() is not None

    def _sum(self, what: str, where: str) -> int:
        query = f"SELECT {what} FROM entries WHERE time BETWEEN ? AND ? AND {where}"  # noqa: S608 - our own names
        return int(self._database.execute(query, (self._since, self._until)).fetchone()[0])

    def _window(self, where: str) -> Iterator[tuple[str, int, str]]:
        query = f"SELECT id, number, time FROM entries WHERE time BETWEEN ? AND ? AND {where} ORDER BY number"  # noqa: S608
        yield from self._database.execute(query, (self._since, self._until))

    def _add(self, gap: Gap) -> None:
        self._found += 1
        if len(self._gaps) < MAX_GAPS:
            self._gaps.append(gap)


_WHAT: Final = {
    TraceSource.RECORD: "a stage's record",
    TraceSource.RESULT: "a result",
    TraceSource.FACE: "a face in a gallery",
    TraceSource.REVIEW: "a finished review",
    TraceSource.OBJECT: "an uploaded object",
    TraceSource.AUTHORIZATION: "the use of an authorisation",
}


def _row(entry: LoggedEntry) -> tuple[str | int, ...]:
    body = entry.body
    inner = body.get("decision")
    decided = inner if isinstance(inner, dict) else {}
    # Recognition makes templates of the best views of a video's people again.
    counts = [body.get(name) for name in ("faces_count", "views_count", "embedded")]
    named = entry.type == USED
    return (
        entry.id,
        entry.index,
        entry.type,
        entry.time,
        str(body.get("upload") or ""),
        str(decided.get("tenant") or body.get("tenant") or ""),
        str(body.get("collection") or body.get("collection_sha256") or ""),
        str(body.get("operation") or "") if decided else "",
        str(decided.get("outcome") or ""),
        sum(count for count in counts if isinstance(count, int)),
        _used(decided.get("authorization"))
        or (_used({**body, "number": body.get("authorization")}) if named else ""),
    )


def _used(found: Any) -> str:
    """Return the use of an authorisation that a decision, or the entry of the use, names; "" for none."""
    if not isinstance(found, dict) or found.get("state", "used") != "used" or not found.get("number"):
        return ""
    return used_by(str(found.get("search")), str(found["number"]))


def _in_utc(text: str) -> str:
    return rfc3339(datetime.fromisoformat(text), "microseconds")
