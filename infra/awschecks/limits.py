"""Checks of Lambda's and KMS's limits."""

from __future__ import annotations

from infra.awschecks.account import Account
from infra.awschecks.registry import check, expect, refused


@check("lambda.unreserved")
def _unreserved(account: Account) -> None:
    limits = account.client("lambda").get_account_settings()["AccountLimit"]
    total, free = limits["ConcurrentExecutions"], limits["UnreservedConcurrentExecutions"]
    expect(free >= 100 + 108, f"{free} of {total} are unreserved: reserved_concurrency=100 needs 208")


@check("kms.deletion_waits")
def _deletion_waits(account: Account) -> None:
    kms = account.client("kms")
    key = kms.create_key(Description=account.name)["KeyMetadata"]["KeyId"]
    account.left.append(f"key {key}, scheduled for deletion in 7 days")
    try:
        with refused("ValidationException"):
            kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=6)
    finally:
        kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
