"""Builds what makes certificates, and the policy to check them with. As in :mod:`abeyance.deployment.build`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from abeyance.assurance.certificate import certificate_key_name
from abeyance.aws.clients import Clients, client
from abeyance.aws.timestamps import utc_now
from abeyance.deployment.parts import build_signer, read_secret
from abeyance.deployment.settings import DeploymentSettings
from abeyance.ledger.signers import KmsSigner, LocalSigner

if TYPE_CHECKING:
    from abeyance.assurance.certifier import Certifier
    from abeyance.ledger.objects import LogObjects
    from abeyance.ledger.signers import Signer


def build_certificate_signer(settings: DeploymentSettings, clients: Clients = client) -> Signer:
    """Return the key that signs certificates. Raises ``ValueError`` where a deployment has none."""
    kind, _, value = settings.certificate_key.partition(":")
    if kind == "kms" and value:
        return KmsSigner(clients("kms"), value)
    if not settings.certificate_key and settings.ledger_key.startswith("kms:"):
        raise ValueError(
            "set ABEYANCE_CERTIFICATE_KEY to kms:<ARN of an Ed25519 key> that is not the ledger's"
        )
    secret = read_secret(settings.certificate_key or settings.ledger_key, clients)
    return LocalSigner(b"certificates\n" + secret)


def build_certifier(
    settings: DeploymentSettings,
    objects: LogObjects,
    stored: int,
    clients: Clients = client,
    *,
    readers: int = 1,
) -> Certifier:
    """Return what makes certificates from a log of ``stored`` entries.

    Raises ``ValueError`` where a deployment has no key for them.
    """
    from abeyance.assurance.certifier import Certifier

    signer = build_certificate_signer(settings, clients)
    return Certifier(
        objects,
        stored,
        lambda origin: signer.verifier(certificate_key_name(origin)),
        signer.sign,
        utc_now,
        readers,
    )


def policy_text(settings: DeploymentSettings, origin: str, clients: Clients = client) -> str:
    """Return the policy to hand out: the keys of the log of this name and of its certificates, and the witnesses."""
    keys = {
        "log": build_signer(settings, clients).verifier(origin),
        "#abeyance: certificates": build_certificate_signer(settings, clients).verifier(
            certificate_key_name(origin)
        ),
    }
    text = settings.ledger_policy.strip() or "quorum none"
    own = [f"{word} {key}" for word, key in keys.items() if str(key) not in text]
    return "\n".join([*own, text]) + "\n"
