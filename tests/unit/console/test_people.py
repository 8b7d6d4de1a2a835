"""Who may do what: the table as a test, so that a change of it is seen."""

from __future__ import annotations

import pytest

from abeyance.console.errors import Refused
from abeyance.console.identity import LOCAL_PEOPLE, Closed, LoopbackPicker
from abeyance.console.people import RIGHTS, Person, Right, Role


def test_roles_see_only_what_is_theirs() -> None:
    assert RIGHTS[Role.REVIEWER] == {Right.JUDGE}
    assert Right.JUDGE not in RIGHTS[Role.OFFICER] | RIGHTS[Role.AUDITOR]
    assert Right.READ_LEDGER not in RIGHTS[Role.OFFICER]
    changing = {Right.CHANGE_POLICY, Right.ERASE, Right.JUDGE}
    assert not RIGHTS[Role.AUDITOR] & changing
    assert set().union(*RIGHTS.values()) == set(Right)


def test_two_people_of_each_role_that_needs_two() -> None:
    for role, number in ((Role.REVIEWER, 2), (Role.OFFICER, 2), (Role.AUDITOR, 1)):
        assert len({one.principal for one in LOCAL_PEOPLE if role in one.roles}) >= number


def test_nobody_without_a_role_may_do_anything() -> None:
    nobody = Person(principal="x", name="X", roles=())
    assert not any(map(nobody.may, Right))


@pytest.mark.parametrize(
    ("address", "host", "good"),
    [
        ("127.0.0.1", "127.0.0.1:4566", True),
        ("127.0.0.1", "localhost", True),
        ("::1", "[::1]:4566", True),
        ("127.0.0.1", "LOCALHOST:4566", True),
        ("10.0.0.9", "127.0.0.1:4566", False),
        ("127.0.0.1", "evil.example:4566", False),
        ("127.0.0.1", "127.0.0.1.evil.example", False),
        ("127.0.0.1", "", False),
        ("", "localhost", False),
    ],
)
def test_the_picker_is_for_this_machine_under_its_own_name(address: str, host: str, good: bool) -> None:
    if good:
        LoopbackPicker().guard(address, host)
    else:
        with pytest.raises(Refused):
            LoopbackPicker().guard(address, host)


def test_the_picker_knows_its_people_and_a_closed_console_nobody() -> None:
    assert LoopbackPicker().finish({"person": "ada@local"}, {}).roles == (Role.REVIEWER,)
    with pytest.raises(Refused):
        LoopbackPicker().finish({"person": "root@local"}, {})
    with pytest.raises(Refused):
        Closed().finish({"person": "ada@local"}, {})
