"""Checks of Lambda's limits, and of keys in KMS."""

from __future__ import annotations

from abeyance.ledger.checkpoint import LogCheckpoint
from abeyance.ledger.signatures import check as signed_by
from abeyance.ledger.signers import KmsSigner
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


@check("kms.ed25519")
def _ed25519(account: Account) -> None:
    kms = account.client("kms")
    how = {"KeySpec": "ECC_NIST_EDWARDS25519", "KeyUsage": "SIGN_VERIFY"}
    key = kms.create_key(Description=account.name, **how)["KeyMetadata"]["KeyId"]
    account.left.append(f"key {key}, scheduled for deletion in 7 days")
    try:
        signer = KmsSigner(kms, key)
        note = LogCheckpoint("abeyance/check", 1, bytes(32))
        made = note.signed_with(signer.verifier(note.origin), signer.sign)
        good, bad = signed_by(made, [signer.verifier(note.origin)])
        expect(good == [note.origin] and not bad, "the signature is not that of Ed25519")
        expect(signer.signed(made), "KMS does not verify its own signature")
    finally:
        kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
