"""Registrations and principals."""

from __future__ import annotations

from typing import Any

import pytest

from abeyance.moratorium.tenants import Tenant, canonical_principal

from .conftest import tenant

ROLE = "arn:aws:iam::123456789012:role/Gate"


@pytest.mark.parametrize(
    ("given", "canonical"),
    [
        (ROLE, ROLE),
        ("arn:aws:iam::123456789012:role/team/inner/Gate", ROLE),
        ("arn:aws:sts::123456789012:assumed-role/Gate/session", ROLE),
        ("arn:aws:sts::123456789012:assumed-role/Gate/jane@example.org", ROLE),
        (
            "arn:aws-us-gov:sts::123456789012:assumed-role/Gate/s",
            "arn:aws-us-gov:iam::123456789012:role/Gate",
        ),
        ("arn:aws:iam::123456789012:user/team/jane", "arn:aws:iam::123456789012:user/team/jane"),
        ("arn:aws:iam::123456789012:root", "arn:aws:iam::123456789012:root"),
        ("AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE"),
        ("springfield-police", "springfield-police"),
    ],
)
def test_one_spelling_for_each_caller(given: str, canonical: str) -> None:
    assert canonical_principal(given) == canonical
    assert canonical_principal(canonical) == canonical


@pytest.mark.parametrize(
    "given",
    [
        "",
        None,
        7,
        "arn:aws:s3:::bucket",
        "arn:aws:iam::12:role/Gate",
        "arn:aws:sts::123456789012:assumed-role/Gate",
        "arn:aws:sts::123456789012:assumed-role//session",
        "arn:aws:iam::123456789012:role/",
        "two words",
        "a:b",
        "a/b",
        "name\n",
        "principal#x",
        "x" * 300,
    ],
)
def test_what_is_no_principal_is_refused(given: Any) -> None:
    with pytest.raises(ValueError, match=r"princip|ARN"):
        canonical_principal(given)


def test_roles_of_other_accounts_and_names_differ() -> None:
    spellings = [
        "arn:aws:sts::123456789012:assumed-role/Gate/s",
        "arn:aws:sts::210987654321:assumed-role/Gate/s",
        "arn:aws:sts::123456789012:assumed-role/gate/s",
        "arn:aws:iam::123456789012:user/Gate",
    ]
    assert len({canonical_principal(spelling) for spelling in spellings}) == 4


@pytest.mark.parametrize(
    "change",
    [
        {"tenant_id": "A"},
        {"tenant_id": "-acme"},
        {"tenant_id": "acme#1"},
        {"sector": "police"},
        {"sector": "all"},
        {"sector": None},
        {"jurisdiction": "all"},
        {"jurisdiction": "US-ZZ"},
        {"jurisdiction": None},
        {"actions": "search"},
        {"actions": ["search"]},
        {"actions": ("all",)},
        {"actions": ("search", "search")},
        {"purposes": "access_control"},
        {"purposes": ("Access Control",)},
        {"principals": "acme"},
        {"principals": ("arn:aws:sts::123456789012:assumed-role/Gate/s",)},
        {"status": "retired"},
    ],
    ids=str,
)
def test_a_tenant_is_well_formed_or_is_not(change: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        tenant(**change)


def test_place_moves_a_tenant_for_a_what_if() -> None:
    assert isinstance(tenant().place("DE"), Tenant)
    assert tenant().place("DE").jurisdiction == "DE"
    with pytest.raises(ValueError, match="jurisdiction"):
        tenant().place("XX")
