"""Checks of EventBridge."""

from __future__ import annotations

import json
from typing import Any

from infra.awschecks.account import Account, CannotCheck
from infra.awschecks.registry import check, expect, refused

_SOURCE = "abeyance.check"


def _bus(account: Account) -> str:
    def make() -> str:
        events = account.client("events")
        events.create_event_bus(Name=account.name)
        account.later(f"bus {account.name}", lambda: events.delete_event_bus(Name=account.name))
        return account.name

    return str(account.once("bus", make))


def _put_event(account: Account, detail: dict[str, Any]) -> None:
    entry = {
        "Source": _SOURCE,
        "DetailType": "Check",
        "Detail": json.dumps(detail),
        "EventBusName": _bus(account),
    }
    account.client("events").put_events(Entries=[entry])


def _routed(account: Account, suffix: str, detail: dict[str, Any], **target: Any) -> dict[str, Any]:
    queue = account.route(suffix, _bus(account), {"source": [_SOURCE]}, **target)
    for _ in range(6):
        _put_event(account, detail)
        if found := account.receive(queue, 1, 15):
            return found[0]
    raise CannotCheck("no event came in 90 s")


@check("events.whole_event")
def _whole_event(account: Account) -> None:
    detail = {"upload": {"tenant": "acme", "key": "<id> ä"}, "n": [1.5, None]}
    event = json.loads(_routed(account, "whole", detail)["Body"])
    expect(event["detail"] == detail, f"the detail is {event['detail']}")
    expect({"id", "time", "source", "detail-type"} <= event.keys(), f"it has {sorted(event)}")


@check("events.group_from_path")
def _group_from_path(account: Account) -> None:
    parameters = {"SqsParameters": {"MessageGroupId": "$.detail.upload.tenant"}}
    message = _routed(account, "path", {"upload": {"tenant": "acme"}}, **parameters)
    group = message["Attributes"].get("MessageGroupId")
    expect(group == "acme", f"the group is {group}")


@check("events.entry_size")
def _entry_size(account: Account) -> None:
    events, entry = (
        account.client("events"),
        {"Source": _SOURCE, "DetailType": "Check", "EventBusName": _bus(account)},
    )
    entries = [{**entry, "Detail": "{}"} for _ in range(11)]
    events.put_events(Entries=entries[:10])
    with refused():
        events.put_events(Entries=entries)
    with refused():
        events.put_events(Entries=[{**entry, "Detail": json.dumps({"x": "x" * (2 << 20)})}])
