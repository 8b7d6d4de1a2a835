"""The Rekognition API: one URL, signed requests only, one function behind it."""

from __future__ import annotations

from aws_cdk import aws_apigateway as apigateway
from aws_cdk import aws_lambda as lambda_

from constructs import Construct
from infra.config import Config
from infra.constructs.logs import log_group


class Api(Construct):
    """The protocol's one route, ``POST /`` with JSON 1.1.

    API Gateway verifies signatures made for ``execute-api``; docs/deploy.md shows the one line by which an AWS SDK
    signs its Rekognition requests so.
    """

    def __init__(
        self, scope: Construct, construct_id: str, config: Config, function: lambda_.IFunction
    ) -> None:
        super().__init__(scope, construct_id)
        access = log_group(self, "Access", config)
        self.rest = apigateway.RestApi(
            self,
            "Rest",
            rest_api_name=config.name,
            description="The Rekognition API of this deployment",
            endpoint_types=[apigateway.EndpointType.REGIONAL],
            cloud_watch_role=False,
            deploy_options=apigateway.StageOptions(
                stage_name="live",
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
        self.rest.root.add_method(
            "POST",
            apigateway.LambdaIntegration(function, proxy=True, allow_test_invoke=False),
            authorization_type=apigateway.AuthorizationType.IAM,
        )
