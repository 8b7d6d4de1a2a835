"""The stack of the public page, which is there only where ``public_page=true``."""

from __future__ import annotations

from typing import Any

from aws_cdk import CfnOutput, RemovalPolicy, Stack

from constructs import Construct
from infra.config import Config
from infra.constructs.public import CertificateKey, PublicPage


class PublicStack(Stack):
    """The public page and the key of certificates. Nothing of the system reads or writes them."""

    def __init__(self, scope: Construct, construct_id: str, config: Config, **properties: Any) -> None:
        super().__init__(
            scope,
            construct_id,
            termination_protection=config.removal == "retain",
            description="Abeyance: the public page and its certificates",
            **properties,
        )
        removal = RemovalPolicy.RETAIN if config.removal == "retain" else RemovalPolicy.DESTROY
        page = PublicPage(self, "Page", config, removal)
        key = CertificateKey(self, "CertificateKey", config, removal)
        CfnOutput(self, "PublicUrl", value=f"https://{page.distribution.distribution_domain_name}/")
        CfnOutput(self, "PublicBucket", value=page.bucket.bucket_name)
        CfnOutput(self, "CertificateKeySetting", value=f"kms:{key.key.key_arn}")
