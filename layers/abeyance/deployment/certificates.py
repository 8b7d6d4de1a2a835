"""Builds what makes certificates, and the policy to check them with. As in :mod:`abeyance.deployment.build`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    from abeyance.moratorium.document import FlagSet


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


def write_public_page(
    settings: DeploymentSettings,
    folder: Path,
    clients: Clients = client,
    *,
    objects: LogObjects | None = None,
    flags: FlagSet | None = None,
) -> dict[str, Any]:
    """Write the public page into a folder of certificates, from what is in force now, and return what it says.

    Parameters
    ----------
    objects
        The log; by default that of the deployment.
    flags
        What is in force; by default what the deployment hands out, with the brake.
    """
    from abeyance.assurance.status import write_public
    from abeyance.deployment.parts import build_log_objects, read_deployed_flags
    from abeyance.ledger.checkpoint import LATEST
    from abeyance.ledger.receipts import read_checkpoint

    log = build_log_objects(settings, clients) if objects is None else objects
    note = None if log.get(LATEST) is None else read_checkpoint(log)
    holding = read_deployed_flags(settings, clients) if flags is None else flags
    policy = "" if note is None else policy_text(settings, note.origin, clients)
    return write_public(folder, holding, utc_now(), note, policy)
