"""The list of what is assumed of AWS is whole: its page, its checks, and the modules that it names."""

from __future__ import annotations

import importlib.util

import pytest
from infra.assumptions import ASSUMPTIONS, Assumption
from infra.awscheck import PAGE, page
from infra.awschecks import CHECKS
from infra.config import ROOT


def test_the_page_is_the_list() -> None:
    assert PAGE.read_text() == page(), "run: python -m infra.awscheck --write"


def test_each_has_a_check_or_a_reason() -> None:
    checked = [one.name for one in ASSUMPTIONS if not one.unchecked]
    assert sorted(CHECKS) == sorted(checked)
    assert len({one.name for one in ASSUMPTIONS}) == len(ASSUMPTIONS)


@pytest.mark.parametrize("one", ASSUMPTIONS, ids=lambda one: one.name)
def test_each_names_its_documentation_and_who_rests_on_it(one: Assumption) -> None:
    assert one.source.startswith("https://docs.aws.amazon.com/")
    assert one.used_by
    for user in one.used_by:
        if "/" in user:
            assert (ROOT / user).is_file(), user
        else:
            assert importlib.util.find_spec(user), user
