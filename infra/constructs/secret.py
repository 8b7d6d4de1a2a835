"""Secrets that Secrets Manager generates."""

from __future__ import annotations

from aws_cdk import RemovalPolicy
from aws_cdk import aws_kms as kms
from aws_cdk import aws_secretsmanager as secretsmanager

from constructs import Construct


def generated_secret(
    scope: Construct, construct_id: str, description: str, key: kms.IKey, removal: RemovalPolicy
) -> str:
    """Add a secret of 64 random characters; return its ARN (``Ref`` would be only the name on an emulator)."""
    secret = secretsmanager.Secret(
        scope,
        construct_id,
        description=description,
        encryption_key=key,
        generate_secret_string=secretsmanager.SecretStringGenerator(
            password_length=64, exclude_punctuation=True
        ),
        removal_policy=removal,
    )
    resource = secret.node.default_child
    assert isinstance(resource, secretsmanager.CfnSecret)
    return resource.attr_id
