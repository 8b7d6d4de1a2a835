"""Builds the clients of those who move collections: of this deployment's API, and of Amazon's own service."""

from __future__ import annotations

import os
from typing import Any


def build_rekognition_client(purpose: str = "") -> Any:
    """Return a client of the Rekognition API at ``AWS_ENDPOINT_URL_REKOGNITION`` or ``AWS_ENDPOINT_URL``.

    Raises ``LookupError`` where neither is set: Amazon's own service is never asked by mistake.
    """
    from botocore.config import Config

    from abeyance.rekognition.client import client as rekognition_client

    url = os.environ.get("AWS_ENDPOINT_URL_REKOGNITION") or os.environ.get("AWS_ENDPOINT_URL")
    if not url:
        raise LookupError(
            "set AWS_ENDPOINT_URL_REKOGNITION to the deployment's RekognitionKeysUrl or RekognitionUrl"
        )
    patient = Config(read_timeout=60, retries={"mode": "standard", "total_max_attempts": 10})
    return rekognition_client(url, purpose=purpose, config=patient)


def build_source_clients(profile: str = "", region: str = "", endpoint: str = "") -> tuple[Any, Any]:
    """Return clients of Amazon Rekognition and S3 with a profile, whatever endpoint the environment sets for ours."""
    import boto3
    from botocore.config import Config

    session = boto3.Session(profile_name=profile or None, region_name=region or None)
    config = Config(
        ignore_configured_endpoint_urls=True, retries={"mode": "standard", "total_max_attempts": 10}
    )
    rekognition, s3 = (
        session.client(service, endpoint_url=endpoint or None, config=config)
        for service in ("rekognition", "s3")
    )
    return rekognition, s3
