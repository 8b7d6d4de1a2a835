"""The starts and ends of moratoria as events that are announced in advance.

For every ``starts`` and ``ends`` there is an event at the edge itself and one each at the lead times before
it. The set is a pure function of the document and a window, and each event's id of what it announces;
sending one twice is therefore recognisable, and a change of an end brings new ids while a change of words
does not.

Two ports bring them about: in AWS one-time EventBridge schedules (``SchedulerSchedule``), kept in step with
the document by ``synchronize``; on one machine a loop that asks ``boundaries`` for the time since it last
asked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Protocol

import msgspec
from msgspec import Struct

from abeyance.aws.timestamps import later
from abeyance.moratorium.document import Flag, FlagSet, instant, instant_text

#: How long before an edge it is announced, besides at the edge itself.
LEAD_TIMES: Final = (timedelta(days=30), timedelta(days=7), timedelta(days=1))


class BoundaryType(StrEnum):
    """The ``detail-type`` of the event."""

    STARTING = "Moratorium Starting"
    ENDING = "Moratorium Ending"
    ENDED = "Moratorium Ended"


class Boundary(Struct, frozen=True, kw_only=True):
    """One announcement.

    Attributes
    ----------
    id : str
        32 hex digits, the same for the same announcement.
    at : str
        When to send it; UTC, RFC 3339.
    boundary : str
        The moment that it announces.
    lead_seconds : int
        ``boundary`` less ``at``; 0 at the edge itself.
    held : bool
        Whether the moratorium stays in force past its end until somebody acts.
    """

    id: str
    type: BoundaryType
    at: str
    flag: str
    boundary: str
    lead_seconds: int
    held: bool
    effect: str
    reason: str
    source: str


def boundaries(
    flags: FlagSet, after: datetime, until: datetime, *, leads: Iterable[timedelta] = LEAD_TIMES
) -> list[Boundary]:
    """Return every announcement due in ``after`` < at <= ``until`` (aware), by time and then by id.

    Half open on that side, so that windows laid end to end announce everything once.
    """
    steps = (*sorted(set(leads), reverse=True), timedelta(0))
    found = [
        boundary
        for flag in flags.flags
        for kind, edge in _edges(flag)
        for lead in steps
        # Not edge - lead: near the ends of the calendar there is no such date.
        if edge - until <= lead < edge - after
        for boundary in (_boundary(flag, kind, edge, lead),)
    ]
    return sorted(found, key=lambda boundary: (boundary.at, boundary.id))


def _edges(flag: Flag) -> Iterable[tuple[BoundaryType, datetime]]:
    yield BoundaryType.STARTING, flag.starts
    if flag.ends is not None:
        yield BoundaryType.ENDING, flag.ends


def _boundary(flag: Flag, kind: BoundaryType, edge: datetime, lead: timedelta) -> Boundary:
    if kind is BoundaryType.ENDING and not lead:
        kind = BoundaryType.ENDED
    seconds = int(lead.total_seconds())
    name = f"{flag.key}|{kind}|{instant_text(edge)}|{seconds}|{flag.hold}"
    return Boundary(
        id=hashlib.sha256(name.encode()).hexdigest()[:32],
        type=kind,
        at=instant_text(edge - lead),
        flag=flag.key,
        boundary=instant_text(edge),
        lead_seconds=seconds,
        held=flag.hold and kind is not BoundaryType.STARTING,
        effect=str(flag.effect),
        reason=flag.reason,
        source=flag.source,
    )


class BoundarySchedule(Protocol):
    """The port of a schedule in which announcements wait for their time."""

    def ids(self) -> set[str]:
        """Return the ids of all that wait."""
        ...

    def put(self, boundary: Boundary, /) -> None:
        """Add one; one that waits already stays as it is."""
        ...

    def remove(self, boundary_id: str, /) -> None:
        """Remove one; none of that id is no error."""
        ...


def synchronize(
    schedule: BoundarySchedule, flags: FlagSet, now: datetime, *, horizon: timedelta = timedelta(days=366)
) -> tuple[int, int]:
    """Make ``schedule`` hold exactly the announcements from now to the horizon; returns how many came and
    went.

    Call it whenever a document comes into force, and now and then (a year has more than one day).
    """
    wanted = {boundary.id: boundary for boundary in boundaries(flags, now, later(now, horizon))}
    waiting = schedule.ids()
    for boundary_id in waiting - wanted.keys():
        schedule.remove(boundary_id)
    for boundary_id in wanted.keys() - waiting:
        schedule.put(wanted[boundary_id])
    return len(wanted.keys() - waiting), len(waiting - wanted.keys())


class SchedulerSchedule:
    """EventBridge Scheduler: one schedule for one announcement, deleted by the service once it has fired.

    Parameters
    ----------
    client : boto3 ``scheduler`` client
    group : str
        A schedule group of its own: every schedule in it that is not wanted is removed.
    bus : str
        ARN of the event bus.
    role : str
        ARN of the role that may put events on it.
    """

    def __init__(
        self,
        client: Any,
        *,
        group: str,
        bus: str,
        role: str,
    ) -> None:
        self._client = client
        self._group = group
        self._bus = bus
        self._role = role

    def ids(self) -> set[str]:
        pages = self._client.get_paginator("list_schedules").paginate(GroupName=self._group)
        return {entry["Name"] for page in pages for entry in page["Schedules"]}

    def put(self, boundary: Boundary, /) -> None:
        at = instant(boundary.at)
        try:
            self._client.create_schedule(
                Name=boundary.id,
                GroupName=self._group,
                ClientToken=boundary.id,
                ScheduleExpression=f"at({at:%Y-%m-%dT%H:%M:%S})",
                ScheduleExpressionTimezone="UTC",
                FlexibleTimeWindow={"Mode": "OFF"},
                ActionAfterCompletion="DELETE",
                Target={
                    "Arn": self._bus,
                    "RoleArn": self._role,
                    "Input": msgspec.json.encode(boundary).decode(),
                    "EventBridgeParameters": {"DetailType": str(boundary.type), "Source": "abeyance"},
                },
            )
        except self._client.exceptions.ConflictException:
            return

    def remove(self, boundary_id: str, /) -> None:
        try:
            self._client.delete_schedule(Name=boundary_id, GroupName=self._group)
        except self._client.exceptions.ResourceNotFoundException:
            return
