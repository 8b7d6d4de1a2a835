"""The public page as it is deployed: off by default, private behind CloudFront, signed with a key of its own."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.infra.conftest import Synthesise, Templates

pytest.importorskip("aws_cdk", reason="pip install 'abeyance[infra]'")

from infra.config import Config

OPERATOR = "arn:aws:iam::111122223333:role/publisher"


@pytest.fixture(scope="module")
def resources(synthesise: Synthesise) -> dict[str, list[dict[str, Any]]]:
    """The public stack's resources by type."""
    found: dict[str, list[dict[str, Any]]] = {}
    template = synthesise(public_page="true", operators=OPERATOR)["AbeyancePublic"]
    for resource in template["Resources"].values():
        found.setdefault(resource["Type"], []).append(resource["Properties"])
    return found


def statements(policy: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one.get("Sid", one["Effect"]): one for one in policy["PolicyDocument"]["Statement"]}


def test_the_page_is_off_by_default(templates: Templates) -> None:
    assert "AbeyancePublic" not in templates
    assert "AWS::CloudFront::Distribution" not in json.dumps(templates)


def test_an_emulator_has_no_cloudfront() -> None:
    with pytest.raises(ValueError, match="public_page"):
        Config(public_page=True, emulator=True, models_directory="/models")


def test_only_this_distribution_reads_the_bucket_and_only_operators_write_it(
    resources: dict[str, list[dict[str, Any]]],
) -> None:
    for bucket in resources["AWS::S3::Bucket"]:
        assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    policies = [statements(one) for one in resources["AWS::S3::BucketPolicy"]]
    (policy,) = [one for one in policies if "OnlyTheNamed" in one]
    allowed = [one for one in policy.values() if one["Effect"] == "Allow"]
    (reading,) = allowed
    assert reading["Action"] == "s3:GetObject"
    assert reading["Principal"] == {"Service": "cloudfront.amazonaws.com"}
    assert "AWS:SourceArn" in json.dumps(reading["Condition"])
    assert policy["OnlyTheNamed"]["Condition"] == {"ArnNotEquals": {"aws:PrincipalArn": [OPERATOR]}}


def test_cloudfront_signs_its_reads_and_serves_over_tls_only(
    resources: dict[str, list[dict[str, Any]]],
) -> None:
    (control,) = resources["AWS::CloudFront::OriginAccessControl"]
    assert control["OriginAccessControlConfig"]["SigningBehavior"] == "always"
    (distribution,) = resources["AWS::CloudFront::Distribution"]
    config = distribution["DistributionConfig"]
    (origin,) = config["Origins"]
    assert origin["S3OriginConfig"] == {"OriginAccessIdentity": ""}
    assert "OriginAccessControlId" in origin
    behaviour = config["DefaultCacheBehavior"]
    assert behaviour["ViewerProtocolPolicy"] == "redirect-to-https"
    assert behaviour["AllowedMethods"] == ["GET", "HEAD"]
    assert config["DefaultRootObject"] == "index.html"


def test_certificates_have_a_key_of_their_own_that_operators_use(
    resources: dict[str, list[dict[str, Any]]],
) -> None:
    (key,) = resources["AWS::KMS::Key"]
    assert (key["KeySpec"], key["KeyUsage"]) == ("ECC_NIST_EDWARDS25519", "SIGN_VERIFY")
    (deny,) = [one for one in key["KeyPolicy"]["Statement"] if one["Effect"] == "Deny"]
    assert deny["Action"] == "kms:Sign"
    assert deny["Condition"] == {"ArnNotEquals": {"aws:PrincipalArn": [OPERATOR]}}
