"""The embedder on a SageMaker endpoint that scales to no instance at all."""

from __future__ import annotations

from aws_cdk import ArnFormat, Duration, Stack
from aws_cdk import aws_applicationautoscaling as scaling
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sagemaker as sagemaker

from constructs import Construct
from infra.config import Config
from infra.constructs.image import EmbedderImage


class SageMakerEmbedder(Construct):
    """An endpoint with one inference component, which SageMaker can scale to zero.

    The queue in front of it is that of the stage *recognize*. Without an instance, an invocation is an error, its
    messages return to the queue, and the alarm that counts such errors starts the first instance.
    """

    def __init__(self, scope: Construct, construct_id: str, config: Config, image: EmbedderImage) -> None:
        super().__init__(scope, construct_id)
        self._config = config
        name = f"{config.name}-embedder"
        role = iam.Role(
            self,
            "Role",
            description="Permissions of the embedding endpoint: pull its image, write its log",
            assumed_by=iam.ServicePrincipal("sagemaker.amazonaws.com"),
        )
        stack = Stack.of(self)
        log_group = stack.format_arn(
            service="logs",
            resource="log-group",
            resource_name=f"/aws/sagemaker/InferenceComponents/{name}*",
            arn_format=ArnFormat.COLON_RESOURCE_NAME,
        )
        write_log = iam.PolicyStatement(
            sid="Logs",
            actions=["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"],
            resources=[log_group],
        )
        policy = iam.Policy(self, "Policy", statements=[write_log], roles=[role])
        pull = image.repository.grant_pull(role)
        model = sagemaker.CfnModel(
            self,
            "Model",
            execution_role_arn=role.role_arn,
            enable_network_isolation=True,
            primary_container=sagemaker.CfnModel.ContainerDefinitionProperty(
                image=image.uri, environment={"ABEYANCE_EMBEDDER_MODEL": config.embedder_model}
            ),
        )
        model.node.add_dependency(policy)
        variant = "gpu"
        endpoint_config = sagemaker.CfnEndpointConfig(
            self,
            "Config",
            execution_role_arn=role.role_arn,
            production_variants=[
                sagemaker.CfnEndpointConfig.ProductionVariantProperty(
                    variant_name=variant,
                    instance_type=f"ml.{config.gpu_instance}",
                    initial_instance_count=1,
                    managed_instance_scaling={
                        "status": "ENABLED",
                        "minInstanceCount": 0,
                        "maxInstanceCount": config.max_gpus,
                    },
                    routing_config={"routingStrategy": "LEAST_OUTSTANDING_REQUESTS"},
                )
            ],
        )
        endpoint_config.node.add_dependency(policy)
        pull.apply_before(model, endpoint_config)
        endpoint = sagemaker.CfnEndpoint(
            self,
            "Endpoint",
            endpoint_name=name,
            endpoint_config_name=endpoint_config.attr_endpoint_config_name,
        )
        component = sagemaker.CfnInferenceComponent(
            self,
            "Component",
            inference_component_name=name,
            endpoint_name=endpoint.attr_endpoint_name,
            variant_name=variant,
            specification={
                "modelName": model.attr_model_name,
                "computeResourceRequirements": {
                    "numberOfAcceleratorDevicesRequired": 1,
                    "minMemoryRequiredInMb": 4096,
                },
            },
            runtime_config={"copyCount": 1},
        )
        self._scale(name, component)
        #: The setting by which functions find the endpoint, and the ARNs that they may invoke.
        self.setting = f"sagemaker:{name}/{name}"
        self.arns = [
            stack.format_arn(service="sagemaker", resource="endpoint", resource_name=name),
            stack.format_arn(service="sagemaker", resource="inference-component", resource_name=name),
        ]

    def _scale(self, name: str, component: sagemaker.CfnInferenceComponent) -> None:
        target = scaling.ScalableTarget(
            self,
            "Copies",
            service_namespace=scaling.ServiceNamespace.SAGEMAKER,
            resource_id=f"inference-component/{name}",
            scalable_dimension="sagemaker:inference-component:DesiredCopyCount",
            min_capacity=0,
            max_capacity=self._config.max_gpus,
        )
        target.node.add_dependency(component)
        target.scale_to_track_metric(
            "Busy",
            target_value=20,
            predefined_metric=scaling.PredefinedMetric.SAGEMAKER_INFERENCE_COMPONENT_CONCURRENT_REQUESTS_PER_COPY_HIGH_RESOLUTION,
            scale_in_cooldown=Duration.minutes(10),
            scale_out_cooldown=Duration.minutes(2),
        )
        refused = cloudwatch.Metric(
            namespace="AWS/SageMaker",
            metric_name="NoCapacityInvocationFailures",
            dimensions_map={"InferenceComponentName": name},
            statistic="Maximum",
            period=Duration.minutes(1),
        )
        target.scale_on_metric(
            "FromZero",
            metric=refused,
            adjustment_type=scaling.AdjustmentType.CHANGE_IN_CAPACITY,
            scaling_steps=[
                scaling.ScalingInterval(lower=1, change=1),
                scaling.ScalingInterval(upper=0, change=0),
            ],
            cooldown=Duration.minutes(5),
            evaluation_periods=1,
        )
