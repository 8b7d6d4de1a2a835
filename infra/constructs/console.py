"""The console: a user pool for its users, an HTTP API for its pages, the key of its sessions.

::

    State: user pool, groups, sign-in page          Flow: HTTP API -> function console -> function flags
                    ^                                          |
                    +------------- app client <----------------+ (its callback is the API's address)
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from aws_cdk import Duration, RemovalPolicy, Stack
from aws_cdk import aws_apigatewayv2 as apigateway
from aws_cdk import aws_apigatewayv2_integrations as integrations
from aws_cdk import aws_cognito as cognito
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_

from abeyance.console.roles import Role
from constructs import Construct
from infra import functions
from infra.config import ROOT, Config
from infra.constructs.logs import log_group
from infra.constructs.secret import generated_secret

_ABOUT = {
    Role.REVIEWER: "Judges comparisons",
    Role.OFFICER: "Proposes and approves moratoria, erases people",
    Role.AUDITOR: "Reads decisions, moratoria and galleries",
}


class People(Construct):
    """A Cognito user pool with a group for each role. Nobody signs up; an administrator invites.

    It outlives deployments, because its subjects identify people in the rule of two and on the ledger.
    """

    def __init__(self, scope: Construct, construct_id: str, config: Config, removal: RemovalPolicy) -> None:
        super().__init__(scope, construct_id)
        self.pool = cognito.UserPool(
            self,
            "Pool",
            user_pool_name=config.name,
            self_sign_up_enabled=False,
            sign_in_aliases=cognito.SignInAliases(email=True),
            sign_in_case_sensitive=False,
            standard_attributes=cognito.StandardAttributes(
                email=cognito.StandardAttribute(required=True, mutable=True),
                # Shown at the head of their pages.
                fullname=cognito.StandardAttribute(required=True, mutable=True),
            ),
            password_policy=cognito.PasswordPolicy(
                min_length=14,
                require_lowercase=True,
                require_uppercase=True,
                require_digits=True,
                require_symbols=True,
                temp_password_validity=Duration.days(3),
            ),
            mfa=cognito.Mfa.REQUIRED,
            # No SMS: numbers can be taken over, and sending needs one more role.
            mfa_second_factor=cognito.MfaSecondFactor(otp=True, sms=False),
            account_recovery=cognito.AccountRecovery.EMAIL_ONLY,
            # Refuses passwords that are known to be stolen, and suspicious sign-ins.
            feature_plan=cognito.FeaturePlan.PLUS,
            standard_threat_protection_mode=cognito.StandardThreatProtectionMode.FULL_FUNCTION,
            deletion_protection=removal is RemovalPolicy.RETAIN,
            removal_policy=removal,
        )
        for role, about in _ABOUT.items():
            cognito.UserPoolGroup(
                self,
                "".join(part.capitalize() for part in role.split("_")),
                user_pool=self.pool,
                group_name=str(role),
                description=about,
            )
        self.pool.add_domain(
            "SignIn",
            # Must be unique in the region.
            cognito_domain=cognito.CognitoDomainOptions(
                domain_prefix=f"{config.name}-{Stack.of(self).account}"
            ),
        )

    @property
    def issuer(self) -> str:
        """The issuer in its tokens and its discovery document."""
        return f"https://{self.pool.user_pool_provider_name}"


class Console(Construct):
    """The console's HTTP API, made first because the function needs its address; :meth:`serve` adds the function."""

    def __init__(
        self, scope: Construct, construct_id: str, config: Config, *, people: People | None, key: kms.IKey
    ) -> None:
        super().__init__(scope, construct_id)
        self._config = config
        self._api = apigateway.HttpApi(
            self,
            "Http",
            api_name=f"{config.name}-console",
            description="The console of this deployment",
            create_default_stage=False,
        )
        self._stage()
        self.url = f"{self._api.api_endpoint}/console"
        about = "Signs the console's sessions. Another value ends them all"
        session_key = generated_secret(self, "SessionKey", about, key, RemovalPolicy.DESTROY)
        #: ARNs of what the function reads; the user pool is asked for its client's secret.
        self.secrets = [session_key]
        self.user_pool = ""
        self.environment = {"ABEYANCE_CONSOLE_KEY": f"secret:{session_key}"}
        if people:
            client = self._client(people)
            self.user_pool = people.pool.user_pool_arn
            issuer, client_id = people.issuer, client.user_pool_client_id
            self.environment["ABEYANCE_CONSOLE_CLIENT_SECRET"] = (
                f"cognito:{people.pool.user_pool_id}/{client_id}"
            )
        else:
            issuer, client_id = config.console_issuer, config.console_client_id
            if config.console_client_secret:
                self.secrets.append(config.console_client_secret)
                self.environment["ABEYANCE_CONSOLE_CLIENT_SECRET"] = f"secret:{config.console_client_secret}"
        self.environment["ABEYANCE_CONSOLE_IDENTITY"] = f"oidc:{issuer} {client_id} {self.url}"
        #: The setting by which the change service verifies the same tokens.
        self.changes_sign_in = f"oidc:{issuer} {client_id}"
        if config.accuracy_report:
            self.environment["ABEYANCE_ACCURACY_REPORT"] = "/var/task/accuracy.html"

    def serve(self, function: lambda_.IFunction) -> None:
        """Route the console's paths to the function, and no others."""
        integration = integrations.HttpLambdaIntegration(
            "Function", function, payload_format_version=apigateway.PayloadFormatVersion.VERSION_2_0
        )
        for path in ("/console", "/console/{page+}"):
            self._api.add_routes(
                path=path,
                # The application refuses the methods that a page does not have.
                methods=[apigateway.HttpMethod.ANY],
                integration=integration,
            )

    def _stage(self) -> None:
        access = log_group(self, "Access", self._config)
        apigateway.CfnStage(
            self,
            "Live",
            api_id=self._api.api_id,
            stage_name="$default",
            auto_deploy=True,
            # More than people can click.
            default_route_settings={
                "throttlingRateLimit": 20,
                "throttlingBurstLimit": 50,
                "detailedMetricsEnabled": True,
            },
            access_log_settings=apigateway.CfnStage.AccessLogSettingsProperty(
                destination_arn=access.log_group_arn,
                # Without caller, address and path, which names collections.
                format='{"request":"$context.requestId","time":"$context.requestTimeEpoch",'
                '"method":"$context.httpMethod","status":"$context.status",'
                '"latency":"$context.responseLatency","bytes":"$context.responseLength",'
                '"error":"$context.error.responseType"}',
            ),
        )

    def _client(self, people: People) -> cognito.UserPoolClient:
        """Return the console's registration with Cognito.

        The change service verifies an officer's ID token again for each change, so it says how long a sign-in lasts
        for that.
        """
        return cognito.UserPoolClient(
            self,
            "Client",
            user_pool=people.pool,
            generate_secret=True,
            o_auth=cognito.OAuthSettings(
                flows=cognito.OAuthFlows(authorization_code_grant=True),
                scopes=[cognito.OAuthScope.OPENID, cognito.OAuthScope.PROFILE],
                callback_urls=[f"{self.url}/signin/callback"],
            ),
            supported_identity_providers=[cognito.UserPoolClientIdentityProvider.COGNITO],
            prevent_user_existence_errors=True,
            enable_token_revocation=True,
            access_token_validity=Duration.minutes(5),
            id_token_validity=Duration.minutes(30),
            refresh_token_validity=Duration.hours(1),
        )


def code(config: Config) -> Path:
    """Return the function's folder: ``functions/console``, with the accuracy report beside the handler if given."""
    own = functions.CONSOLE.folder
    if not config.accuracy_report:
        return own
    report = Path(config.accuracy_report).read_bytes()
    digest = hashlib.sha256((own / "handler.py").read_bytes() + report).hexdigest()
    folder = ROOT / ".cache" / "console" / digest[:24]
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(own / "handler.py", folder / "handler.py")
    (folder / "accuracy.html").write_bytes(report)
    return folder
