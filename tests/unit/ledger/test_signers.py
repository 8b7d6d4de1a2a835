"""The log's own key, in KMS as its API answers, and on one machine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from abeyance.ledger.checkpoint import LogCheckpoint
from abeyance.ledger.errors import LedgerUnavailable
from abeyance.ledger.signatures import SIGN, check
from abeyance.ledger.signers import KmsSigner, LocalSigner

ORIGIN, KEY = "abeyance/one", "arn:aws:kms:eu-central-1:111122223333:key/k"
NOTE = LogCheckpoint(ORIGIN, 7, bytes(32))
#: What stands in KMS here: the same algorithm, with a key of this machine.
REAL = LocalSigner(b"in KMS")
#: RFC 8410, section 4.
DER = bytes.fromhex("302a300506032b6570032100")


@pytest.fixture
def kms() -> Iterator[tuple[KmsSigner, Stubber]]:
    client = boto3.client("kms", region_name="eu-central-1", aws_access_key_id="x", aws_secret_access_key="x")
    with Stubber(client) as stub:
        yield KmsSigner(client, KEY), stub
        stub.assert_no_pending_responses()


def public(stub: Stubber, data: bytes | None = None) -> None:
    key = DER + REAL.verifier(ORIGIN).public if data is None else data
    stub.add_response("get_public_key", {"KeyId": KEY, "PublicKey": key}, {"KeyId": KEY})


def asked(message: bytes, **more: Any) -> dict[str, Any]:
    """The request: the message itself and not its digest, for Ed25519 as of RFC 8032."""
    how = {"MessageType": "RAW", "SigningAlgorithm": "ED25519_SHA_512"}
    return {"KeyId": KEY, "Message": message, **how, **more}


def test_a_checkpoint_is_signed_and_anybody_verifies_it(kms: tuple[KmsSigner, Stubber]) -> None:
    signer, stub = kms
    message = NOTE.text.encode()
    public(stub)
    stub.add_response("sign", {"KeyId": KEY, "Signature": REAL.sign(message)}, asked(message))
    made = NOTE.signed_with(signer.verifier(ORIGIN), signer.sign)
    assert signer.verifier(ORIGIN) == REAL.verifier(ORIGIN)
    assert signer.verifier(ORIGIN).algorithm == SIGN
    assert check(made, [REAL.verifier(ORIGIN)]) == check(
        NOTE.signed_with(REAL.verifier(ORIGIN), REAL.sign), [REAL.verifier(ORIGIN)]
    )
    assert len(made.signatures) == 1


@pytest.mark.parametrize("valid", [True, False])
def test_its_own_signature_is_verified_by_kms(kms: tuple[KmsSigner, Stubber], valid: bool) -> None:
    signer, stub = kms
    made = NOTE.signed_with(REAL.verifier(ORIGIN), REAL.sign)
    public(stub)
    request = asked(NOTE.text.encode(), Signature=made.signatures[0].value)
    if valid:
        stub.add_response("verify", {"KeyId": KEY, "SignatureValid": True}, request)
    else:
        stub.add_client_error("verify", "KMSInvalidSignatureException", expected_params=request)
    assert signer.signed(made) is valid


def test_a_note_without_its_signature_or_with_two_is_not_signed(kms: tuple[KmsSigner, Stubber]) -> None:
    signer, stub = kms
    public(stub)
    stranger = LocalSigner(b"somebody else")
    assert not signer.signed(NOTE.signed_with(stranger.verifier(ORIGIN), stranger.sign))
    twice = NOTE.signed_with(REAL.verifier(ORIGIN), REAL.sign)
    twice = twice.signed_with(REAL.verifier(ORIGIN), lambda text: bytes(64))
    assert len(twice.signatures) == 2
    assert not signer.signed(twice)


@pytest.mark.parametrize("operation", ["get_public_key", "sign", "verify"])
def test_what_kms_refuses_is_unavailable_and_its_words_are_not_repeated(
    kms: tuple[KmsSigner, Stubber], operation: str
) -> None:
    signer, stub = kms
    if operation == "verify":
        public(stub)
    stub.add_client_error(operation, "ThrottlingException", "key of acme")
    made = NOTE.signed_with(REAL.verifier(ORIGIN), REAL.sign)
    work = {
        "get_public_key": lambda: signer.verifier(ORIGIN),
        "sign": lambda: signer.sign(b"x"),
        "verify": lambda: signer.signed(made),
    }
    with pytest.raises(LedgerUnavailable, match="KMS did not") as error:
        work[operation]()
    assert "acme" not in str(error.value)


@pytest.mark.parametrize(
    "key", [b"", bytes.fromhex("3059301306072a8648ce3d0201") + bytes(78), DER + bytes(31)]
)
def test_a_key_of_another_kind_is_refused(kms: tuple[KmsSigner, Stubber], key: bytes) -> None:
    signer, stub = kms
    public(stub, key)
    with pytest.raises(LedgerUnavailable, match="ECC_NIST_EDWARDS25519"):
        signer.verifier(ORIGIN)


def test_the_key_of_one_machine_follows_from_its_secret() -> None:
    made = NOTE.signed_with(REAL.verifier(ORIGIN), REAL.sign)
    assert REAL.signed(made)
    assert LocalSigner(b"in KMS").signed(made)
    assert not LocalSigner(b"another").signed(made)
