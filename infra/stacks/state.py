"""The stack that outlives every deployment: keys, buckets, tables, the secret."""

from __future__ import annotations

from typing import Any

from aws_cdk import RemovalPolicy, Stack

from constructs import Construct
from infra import named
from infra.config import Config
from infra.constructs import ledger
from infra.constructs.console import People
from infra.constructs.secret import generated_secret
from infra.constructs.storage import Buckets, Keys, Tables, add_vector_index


class StateStack(Stack):
    """Keys, buckets, tables and users. Destroying them destroys evidence, so by default everything is retained."""

    def __init__(self, scope: Construct, construct_id: str, config: Config, **properties: Any) -> None:
        super().__init__(
            scope,
            construct_id,
            termination_protection=config.removal == "retain",
            description="Abeyance: buckets, tables, keys",
            **properties,
        )
        removal = RemovalPolicy.RETAIN if config.removal == "retain" else RemovalPolicy.DESTROY
        self.keys = Keys(self, "Keys", config, removal)
        self.buckets = Buckets(self, "Buckets", config, self.keys, removal)
        sequencer, signer = (
            named.role_arns(self, config, (name,), operators=False) for name in ("ledger", "checkpoint")
        )
        self.tables = Tables(self, "Tables", config, self.keys, removal, sequencer)
        indexer = named.role_arns(self, config, ("index",), operators=True)
        ledger.write_once(config, self.buckets.by_setting["ledger_bucket"], sequencer, signer, indexer)
        self.vector_index = ""
        if config.vector_index:
            self.vector_index = add_vector_index(self.tables.by_setting["gallery_table"], config)
        #: ARN of the secret.
        self.pseudonym_key = generated_secret(
            self,
            "PseudonymKey",
            "Hides object keys in the ledger. Never rotate it: old entries would be lost to search",
            self.keys.by_name["records"],
            removal,
        )
        #: ARN of the key that signs checkpoints, and the setting that names it. An emulator has no such key.
        self.signing_key = ""
        if config.emulator:
            about = "Signs the ledger's checkpoints, where there is no Ed25519 in KMS"
            secret = generated_secret(self, "LedgerKey", about, self.keys.by_name["records"], removal)
            self.ledger_key, self.ledger_secrets = f"secret:{secret}", [secret]
        else:
            self.signing_key = ledger.SigningKey(self, "LedgerKey", config, removal, signer).key.key_arn
            self.ledger_key, self.ledger_secrets = f"kms:{self.signing_key}", []
        #: The console's users, unless another identity provider has them.
        self.people = (
            People(self, "People", config, removal) if config.console and not config.console_issuer else None
        )
