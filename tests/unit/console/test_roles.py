"""The table of rights as a test, so that a change of it is noticed."""

from __future__ import annotations

import pytest

from abeyance.console.errors import RequestRefused
from abeyance.console.identity import LOCAL_PEOPLE, LoopbackPicker, SignInDisabled, identity_provider
from abeyance.console.roles import RIGHTS, Person, Right, Role


def test_each_role_has_only_its_rights() -> None:
    assert RIGHTS[Role.REVIEWER] == {Right.JUDGE}
    assert Right.JUDGE not in RIGHTS[Role.OFFICER] | RIGHTS[Role.AUDITOR]
    assert Right.READ_LEDGER not in RIGHTS[Role.OFFICER]
    changing = {Right.CHANGE_POLICY, Right.ERASE, Right.CURATE, Right.JUDGE}
    assert not RIGHTS[Role.AUDITOR] & changing
    assert set().union(*RIGHTS.values()) == set(Right)


def test_there_are_two_local_people_of_each_role_that_needs_two() -> None:
    for role, number in ((Role.REVIEWER, 2), (Role.OFFICER, 2), (Role.AUDITOR, 1)):
        assert len({one.principal for one in LOCAL_PEOPLE if role in one.roles}) >= number


def test_a_person_without_a_role_has_no_right() -> None:
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
def test_the_picker_accepts_this_machine_under_its_own_name_only(address: str, host: str, good: bool) -> None:
    if good:
        LoopbackPicker().guard(address, host)
    else:
        with pytest.raises(RequestRefused):
            LoopbackPicker().guard(address, host)


def test_the_picker_knows_the_local_people_and_a_disabled_sign_in_nobody() -> None:
    assert LoopbackPicker().finish({"person": "ada@local"}, {}).roles == (Role.REVIEWER,)
    with pytest.raises(RequestRefused):
        LoopbackPicker().finish({"person": "root@local"}, {})
    with pytest.raises(RequestRefused):
        SignInDisabled().finish({"person": "ada@local"}, {})


OIDC = "oidc:https://id.example abeyance https://faces.example/console"


@pytest.mark.parametrize(
    ("setting", "kind"), [("nobody", "closed"), ("loopback", "picker"), (OIDC, "redirect")]
)
def test_the_setting_chooses_the_provider(setting: str, kind: str) -> None:
    """The client secret is not read before somebody signs in."""

    def secret() -> str:
        raise AssertionError("nobody has signed in")

    assert identity_provider(setting, secret).kind == kind


@pytest.mark.parametrize("setting", ["", "anybody", "oidc:https://id.example", "oidc:", f"{OIDC} more"])
def test_an_incomplete_setting_is_refused(setting: str) -> None:
    with pytest.raises(ValueError, match="ABEYANCE_CONSOLE_IDENTITY"):
        identity_provider(setting, str)
