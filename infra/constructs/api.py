"""The Rekognition API: one URL, signed requests only, one function behind it."""

from __future__ import annotations

from aws_cdk import Duration, Stack
from aws_cdk import aws_apigateway as apigateway
from aws_cdk import aws_lambda as lambda_

from abeyance.rekognition import cors, wire
from abeyance.rekognition.errors import SLOW_DOWN, TOO_LARGE, ApiError
from constructs import Construct
from infra.config import Config
from infra.constructs.logs import log_group

_STAGE = "live"


class Api(Construct):
    """The protocol's one route, ``POST /`` with JSON 1.1.

    API Gateway verifies signatures made for ``execute-api``; docs/deploy.md shows the one line by which an AWS SDK
    signs its Rekognition requests so. The change service is at ``POST /changes``; :meth:`serve` adds both functions.
    """

    def __init__(self, scope: Construct, construct_id: str, config: Config) -> None:
        super().__init__(scope, construct_id)
        self._emulator = config.emulator
        access = log_group(self, "Access", config)
        self.rest = apigateway.RestApi(
            self,
            "Rest",
            rest_api_name=config.name,
            description="The Rekognition API of this deployment",
            endpoint_types=[apigateway.EndpointType.REGIONAL],
            cloud_watch_role=False,
            deploy_options=apigateway.StageOptions(
                stage_name=_STAGE,
                access_log_destination=apigateway.LogGroupLogDestination(access),
                # Without caller and address: the ledger has the decisions and for whom they were.
                access_log_format=apigateway.AccessLogFormat.custom(
                    '{"request":"$context.requestId","time":"$context.requestTimeEpoch",'
                    '"status":"$context.status","latency":"$context.responseLatency",'
                    '"bytes":"$context.responseLength","error":"$context.error.responseType"}'
                ),
                throttling_rate_limit=100,
                throttling_burst_limit=200,
                tracing_enabled=False,
                metrics_enabled=True,
            ),
        )

        self._origins = sorted(cors.parse_origins(config.cors_origins))
        if self._origins:
            self._allow_pages(self.rest.root)
        # What API Gateway refuses by itself, in the service's words, so that SDKs raise or try again as they should.
        self._answer(
            "TooLarge", apigateway.ResponseType.REQUEST_TOO_LARGE, "ImageTooLargeException", TOO_LARGE
        )
        self._answer("Throttled", apigateway.ResponseType.THROTTLED, "ThrottlingException", SLOW_DOWN)

    def _answer(self, name: str, kind: apigateway.ResponseType, error: str, message: str) -> None:
        """Answer what the gateway refuses with an error of the service."""
        body = wire.write_error(ApiError(error, message), "$context.requestId").decode()
        headers = {"Content-Type": f"'{wire.CONTENT_TYPE}'", "x-amzn-ErrorType": f"'{error}'"}
        if self._origins:
            # A gateway response knows no choice: of several origins, whoever asks is answered, and nobody learns more
            # than that a request was refused.
            one = f"'{self._origins[0]}'" if len(self._origins) == 1 else "method.request.header.Origin"
            headers["Access-Control-Allow-Origin"] = one
            headers["Access-Control-Expose-Headers"] = f"'{','.join(cors.EXPOSED_HEADERS)}'"
            headers["Vary"] = "'Origin'"
        self.rest.add_gateway_response(
            name,
            type=kind,
            status_code=str(ApiError(error, message).status),
            response_headers=headers,
            templates={"application/json": body},
        )

    def serve(self, api: lambda_.IFunction, changes: lambda_.IFunction) -> None:
        """Route requests to the functions, all for signed callers only.

        At ``/keys`` callers sign as AWS SDKs do for Rekognition, with a key of the deployment; the function verifies.
        """
        for resource, function in ((self.rest.root, api), (self.rest.root.add_resource("changes"), changes)):
            resource.add_method(
                "POST",
                apigateway.LambdaIntegration(function, proxy=True, allow_test_invoke=False),
                authorization_type=apigateway.AuthorizationType.IAM,
            )
        keys = self.rest.root.add_resource("keys")
        keys.add_method(
            "POST",
            apigateway.LambdaIntegration(api, proxy=True, allow_test_invoke=False),
            authorization_type=apigateway.AuthorizationType.NONE,
        )
        if self._origins:
            self._allow_pages(keys)

    def _allow_pages(self, resource: apigateway.IResource) -> None:
        # Without a signature: a browser asks before it sends one.
        resource.add_cors_preflight(
            allow_origins=self._origins,
            allow_methods=["POST"],
            allow_headers=list(cors.ALLOWED_HEADERS),
            max_age=Duration.seconds(cors.MAX_AGE_S),
        )

    @property
    def keys_url(self) -> str:
        """The URL for callers with a key of the deployment."""
        return f"{self.rest.url}keys"

    @property
    def changes_url(self) -> str:
        """The URL of the change service, made of the API's id so that functions can have it before the stage exists."""
        if self._emulator:
            # Its gateway has no host names; the function finds the path at its endpoint.
            return f"/_aws/execute-api/{self.rest.rest_api_id}/{_STAGE}/changes"
        stack = Stack.of(self)
        host = f"{self.rest.rest_api_id}.execute-api.{stack.region}.{stack.url_suffix}"
        return f"https://{host}/{_STAGE}/changes"

    @property
    def changes_arn(self) -> str:
        """The ARN by which IAM allows to ask the change service."""
        return Stack.of(self).format_arn(
            service="execute-api", resource=self.rest.rest_api_id, resource_name=f"{_STAGE}/POST/changes"
        )
