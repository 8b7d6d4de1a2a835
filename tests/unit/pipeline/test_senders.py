"""Who may send what to the ledger past the bus."""

from __future__ import annotations

from typing import Any

import pytest

from abeyance.ledger.errors import Inadmissible
from abeyance.pipeline.senders import DIRECT_TYPES, Senders

SENDERS = Senders("AROAAPI=api AROACONSOLE=console AROAFLAGS=flags AROAOTHER=detect")
EVENT = {"detail-type": "Upload Permitted", "detail": {}}


@pytest.mark.parametrize(
    ("sender", "kind"),
    [
        ("AROAAPI:abeyance-api", "decision"),
        ("AROAAPI:abeyance-api", "management"),
        ("AROACONSOLE:abeyance-console", "review.judged"),
        ("AROACONSOLE:x", "person.erased"),
        ("AROAFLAGS:x", "moratorium.approved"),
    ],
)
def test_a_role_sends_its_own_types(sender: str, kind: str) -> None:
    SENDERS.check(sender, {"type": kind})


@pytest.mark.parametrize(
    ("sender", "envelope", "why"),
    [
        ("AROAAPI:x", {"type": "moratorium.approved"}, "not its own"),
        ("AROAAPI:x", {"type": "decisions"}, "not its own"),
        ("AROAAPI:x", {"type": "decision.x"}, "not its own"),
        ("AROACONSOLE:x", {"type": "review"}, "not its own"),
        ("AROAFLAGS:x", {"type": "moratorium"}, "not its own"),
        ("AROAFLAGS:x", {"type": ["moratorium.x"]}, "not its own"),
        ("AROAFLAGS:x", {}, "not its own"),
        ("AROAOTHER:x", {"type": "decision"}, "not its own"),
        ("AROASTRANGER:x", {"type": "decision"}, "none of the deployment's roles"),
        ("AIDAUSER", {"type": "decision"}, "none of the deployment's roles"),
        ("", {"type": "decision"}, "none of the deployment's roles"),
        ("x:AROAAPI", {"type": "decision"}, "none of the deployment's roles"),
        ("AROAAPI:x", EVENT, "past the bus"),
        ("AROAAPI:x", {**EVENT, "type": "decision"}, "past the bus"),
    ],
)
def test_nobody_sends_anything_else(sender: str, envelope: dict[str, Any], why: str) -> None:
    with pytest.raises(Inadmissible, match=why) as refused:
        SENDERS.check(sender, envelope)
    assert "approved" not in str(refused.value)


def test_events_come_by_the_bus() -> None:
    """EventBridge sends as a service; the queue's policy lets nobody else do so."""
    SENDERS.check("AIDAEVENTBRIDGE", EVENT)


def test_on_one_machine_nobody_attests_a_sender() -> None:
    for envelope in ({"type": "anything"}, EVENT):
        Senders("").check("", envelope)


def test_no_role_has_the_types_of_another() -> None:
    kinds = [kind for some in DIRECT_TYPES.values() for kind in some]
    for kind in kinds:
        assert [other for other in kinds if other.startswith(kind)] == [kind]
