"""The public page: a private bucket that only CloudFront reads, and the key that signs certificates.

https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/private-content-restricting-access-to-s3.html
"""

from __future__ import annotations

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_cloudfront as cloudfront
from aws_cdk import aws_cloudfront_origins as origins
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3

from constructs import Construct
from infra import named
from infra.config import Config

#: Time for which CloudFront answers from its copy: the page is to be of today, and cheap under attention.
_CACHED = Duration.minutes(5)


class PublicPage(Construct):
    """A static site: what ``abeyance certify page`` writes, uploaded as it is. It holds nothing that is not public."""

    def __init__(self, scope: Construct, construct_id: str, config: Config, removal: RemovalPolicy) -> None:
        super().__init__(scope, construct_id)
        logs = s3.Bucket(
            self,
            "AccessLogs",
            encryption=s3.BucketEncryption.S3_MANAGED,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            enforce_ssl=True,
            # CloudFront's standard logs are delivered by an ACL.
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_PREFERRED,
            lifecycle_rules=[s3.LifecycleRule(expiration=Duration.days(config.log_days))],
            removal_policy=removal,
        )
        self.bucket = s3.Bucket(
            self,
            "Bucket",
            encryption=s3.BucketEncryption.S3_MANAGED,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            # What was published once can be shown again.
            versioned=True,
            server_access_logs_bucket=logs,
            server_access_logs_prefix="public/",
            removal_policy=removal,
        )
        writers = config.operators.split()
        if writers:
            verbs = ["s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion"]
            self.bucket.add_to_resource_policy(
                named.deny_others("OnlyTheNamed", verbs, self.bucket.arn_for_objects("*"), writers)
            )
        headers = cloudfront.ResponseHeadersPolicy(
            self,
            "Headers",
            security_headers_behavior=cloudfront.ResponseSecurityHeadersBehavior(
                content_type_options=cloudfront.ResponseHeadersContentTypeOptions(override=True),
                frame_options=cloudfront.ResponseHeadersFrameOptions(
                    frame_option=cloudfront.HeadersFrameOption.DENY, override=True
                ),
                referrer_policy=cloudfront.ResponseHeadersReferrerPolicy(
                    referrer_policy=cloudfront.HeadersReferrerPolicy.NO_REFERRER, override=True
                ),
                strict_transport_security=cloudfront.ResponseHeadersStrictTransportSecurity(
                    access_control_max_age=Duration.days(365), include_subdomains=True, override=True
                ),
            ),
        )
        cache = cloudfront.CachePolicy(
            self, "Cache", default_ttl=_CACHED, max_ttl=_CACHED, min_ttl=Duration.seconds(0)
        )
        self.distribution = cloudfront.Distribution(
            self,
            "Distribution",
            comment=f"{config.name}: what is in force, and certificates",
            default_root_object="index.html",
            default_behavior=cloudfront.BehaviorOptions(
                origin=origins.S3BucketOrigin.with_origin_access_control(self.bucket),
                allowed_methods=cloudfront.AllowedMethods.ALLOW_GET_HEAD,
                viewer_protocol_policy=cloudfront.ViewerProtocolPolicy.REDIRECT_TO_HTTPS,
                cache_policy=cache,
                response_headers_policy=headers,
                compress=True,
            ),
            http_version=cloudfront.HttpVersion.HTTP2_AND_3,
            minimum_protocol_version=cloudfront.SecurityPolicyProtocol.TLS_V1_2_2021,
            log_bucket=logs,
            log_file_prefix="cloudfront/",
        )


class CertificateKey(Construct):
    """The Ed25519 key that signs certificates: another one than the ledger's, and only the operators may use it."""

    def __init__(self, scope: Construct, construct_id: str, config: Config, removal: RemovalPolicy) -> None:
        super().__init__(scope, construct_id)
        self.key = kms.Key(
            self,
            "Key",
            description=f"{config.name}: signs certificates",
            key_spec=kms.KeySpec.ECC_NIST_P256,
            key_usage=kms.KeyUsage.SIGN_VERIFY,
            removal_policy=removal,
            pending_window=Duration.days(7 if config.removal == "destroy" else 30),
        )
        resource = self.key.node.default_child
        assert isinstance(resource, kms.CfnKey)
        # The construct library has no name for it yet.
        resource.add_property_override("KeySpec", "ECC_NIST_EDWARDS25519")
        if signers := config.operators.split():
            self.key.add_to_resource_policy(
                named.deny_others("OnlyOperatorsSign", ["kms:Sign"], "*", signers)
            )
