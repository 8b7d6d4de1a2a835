"""The embedder on ECS: GPU instances of the account's own, which scale with the queue in front, down to none."""

from __future__ import annotations

from aws_cdk import Duration, Stack
from aws_cdk import aws_applicationautoscaling as scaling
from aws_cdk import aws_autoscaling as autoscaling
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_elasticloadbalancingv2 as elb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs

from abeyance.pipeline import topology
from constructs import Construct
from infra.config import Config
from infra.constructs.image import EmbedderImage
from infra.constructs.logs import retention

PORT = 8080
_SUBNETS = ec2.SubnetSelection(subnet_type=ec2.SubnetType.PRIVATE_ISOLATED)
#: Minutes without a message after which no instance is kept.
_QUIET_MINUTES = 15
#: Services that functions and instances call; the network has no way to the internet.
_INTERFACES = {
    "Events": ec2.InterfaceVpcEndpointAwsService.EVENTBRIDGE,
    "Flags": ec2.InterfaceVpcEndpointAwsService.APPCONFIGDATA,
    "Queues": ec2.InterfaceVpcEndpointAwsService.SQS,
    "Secrets": ec2.InterfaceVpcEndpointAwsService.SECRETS_MANAGER,
    "Logs": ec2.InterfaceVpcEndpointAwsService.CLOUDWATCH_LOGS,
    "Images": ec2.InterfaceVpcEndpointAwsService.ECR_DOCKER,
    "Registry": ec2.InterfaceVpcEndpointAwsService.ECR,
    "Ecs": ec2.InterfaceVpcEndpointAwsService.ECS,
    "EcsAgent": ec2.InterfaceVpcEndpointAwsService.ECS_AGENT,
    "EcsTelemetry": ec2.InterfaceVpcEndpointAwsService.ECS_TELEMETRY,
}


class EcsEmbedder(Construct):
    """A service behind an internal load balancer in a network without a way out."""

    def __init__(self, scope: Construct, construct_id: str, config: Config, image: EmbedderImage) -> None:
        super().__init__(scope, construct_id)
        self._config = config
        self.vpc = self._network()
        #: The security group of the functions that may call.
        self.callers = ec2.SecurityGroup(
            self,
            "Callers",
            vpc=self.vpc,
            description="Functions that call the embedder",
            allow_all_outbound=True,
        )
        service = self._service(image)
        balancer = elb.ApplicationLoadBalancer(
            self,
            "Balancer",
            vpc=self.vpc,
            internet_facing=False,
            vpc_subnets=_SUBNETS,
            drop_invalid_header_fields=True,
            deletion_protection=config.removal == "retain",
        )
        listener = balancer.add_listener("Http", port=PORT, protocol=elb.ApplicationProtocol.HTTP, open=False)
        listener.add_targets(
            "Embedders",
            port=PORT,
            protocol=elb.ApplicationProtocol.HTTP,
            targets=[service],
            deregistration_delay=Duration.seconds(30),
            health_check=elb.HealthCheck(
                path="/ping", interval=Duration.seconds(10), healthy_threshold_count=2
            ),
        )
        balancer.connections.allow_from(self.callers, ec2.Port.tcp(PORT), "Functions that embed")
        self._scale(service)
        self.setting = f"http://{balancer.load_balancer_dns_name}:{PORT}"

    def _network(self) -> ec2.Vpc:
        vpc = ec2.Vpc(
            self,
            "Network",
            max_azs=2,
            nat_gateways=0,
            subnet_configuration=[
                ec2.SubnetConfiguration(name="isolated", subnet_type=ec2.SubnetType.PRIVATE_ISOLATED)
            ],
            restrict_default_security_group=False,
        )
        flow_log = logs.LogGroup(self, "FlowLog", retention=retention(self._config.log_days))
        vpc.add_flow_log("Flows", destination=ec2.FlowLogDestination.to_cloud_watch_logs(flow_log))
        vpc.add_gateway_endpoint("S3", service=ec2.GatewayVpcEndpointAwsService.S3)
        vpc.add_gateway_endpoint("DynamoDb", service=ec2.GatewayVpcEndpointAwsService.DYNAMODB)
        for name, service in _INTERFACES.items():
            vpc.add_interface_endpoint(name, service=service)
        return vpc

    def _service(self, image: EmbedderImage) -> ecs.Ec2Service:
        cluster = ecs.Cluster(
            self, "Cluster", vpc=self.vpc, container_insights_v2=ecs.ContainerInsights.ENABLED
        )
        template = ec2.LaunchTemplate(
            self,
            "Template",
            instance_type=ec2.InstanceType(self._config.gpu_instance),
            machine_image=ecs.EcsOptimizedImage.amazon_linux2(ecs.AmiHardwareType.GPU),
            require_imdsv2=True,
            http_put_response_hop_limit=1,
            user_data=ec2.UserData.for_linux(),
            role=iam.Role(
                self,
                "InstanceRole",
                description="Permissions of a GPU instance: join its cluster",
                assumed_by=iam.ServicePrincipal("ec2.amazonaws.com"),
            ),
            security_group=ec2.SecurityGroup(
                self, "Instances", vpc=self.vpc, description="GPU instances", allow_all_outbound=True
            ),
            block_devices=[
                ec2.BlockDevice(device_name="/dev/xvda", volume=ec2.BlockDeviceVolume.ebs(60, encrypted=True))
            ],
        )
        group = autoscaling.AutoScalingGroup(
            self,
            "Group",
            vpc=self.vpc,
            vpc_subnets=_SUBNETS,
            launch_template=template,
            min_capacity=0,
            max_capacity=self._config.max_gpus,
            new_instances_protected_from_scale_in=False,
        )
        provider = ecs.AsgCapacityProvider(
            self,
            "Capacity",
            auto_scaling_group=group,
            enable_managed_termination_protection=False,
        )
        cluster.add_asg_capacity_provider(provider)
        # The provider drains by itself (managed draining); the library's older way is a function with a wide role.
        for name in ("DrainECSHook", "LifecycleHookDrainHook"):
            group.node.try_remove_child(name)
        task = ecs.Ec2TaskDefinition(self, "Task", network_mode=ecs.NetworkMode.AWS_VPC)
        task.add_container(
            "embedder",
            image=image.container,
            memory_limit_mib=8192,
            gpu_count=1,
            environment={"ABEYANCE_EMBEDDER_MODEL": self._config.embedder_model},
            port_mappings=[ecs.PortMapping(container_port=PORT)],
            readonly_root_filesystem=True,
            stop_timeout=Duration.seconds(30),
            logging=ecs.LogDrivers.aws_logs(
                stream_prefix="embedder",
                log_group=logs.LogGroup(self, "Log", retention=retention(self._config.log_days)),
            ),
        )
        return ecs.Ec2Service(
            self,
            "Service",
            cluster=cluster,
            task_definition=task,
            desired_count=0,
            min_healthy_percent=0,
            capacity_provider_strategies=[
                ecs.CapacityProviderStrategy(capacity_provider=provider.capacity_provider_name, weight=1)
            ],
            circuit_breaker=ecs.DeploymentCircuitBreaker(rollback=True),
            vpc_subnets=_SUBNETS,
            enable_execute_command=False,
        )

    def _scale(self, service: ecs.Ec2Service) -> None:
        """Scale by the queue: out at once, and to no instance after :data:`_QUIET_MINUTES`.

        A queue whose consumers keep up has no visible messages when it is sampled, so received messages count as
        well; messages that were returned while nothing serves are in flight.
        """
        metrics = {
            "visible": ("ApproximateNumberOfMessagesVisible", "Maximum"),
            "flying": ("ApproximateNumberOfMessagesNotVisible", "Maximum"),
            "received": ("NumberOfMessagesReceived", "Sum"),
        }
        wanted = cloudwatch.MathExpression(
            expression="visible + flying + received",
            using_metrics={
                name: cloudwatch.Metric(
                    namespace="AWS/SQS",
                    metric_name=metric,
                    dimensions_map={"QueueName": topology.RECOGNIZE.queue},
                    statistic=statistic,
                    region=Stack.of(self).region,
                )
                for name, (metric, statistic) in metrics.items()
            },
            period=Duration.minutes(1),
            label="Messages that wait for templates",
        )
        most = self._config.max_gpus
        tasks = service.auto_scale_task_count(min_capacity=0, max_capacity=most)
        tasks.scale_on_metric(
            "Waiting",
            metric=wanted,
            adjustment_type=scaling.AdjustmentType.EXACT_CAPACITY,
            scaling_steps=[
                scaling.ScalingInterval(lower=1, upper=1000, change=1),
                scaling.ScalingInterval(lower=1000, change=most),
            ],
            cooldown=Duration.minutes(_QUIET_MINUTES),
            evaluation_periods=1,
        )
        rest = scaling.StepScalingAction(
            self,
            "Rest",
            scaling_target=tasks.node.find_child("Target"),
            adjustment_type=scaling.AdjustmentType.EXACT_CAPACITY,
        )
        rest.add_adjustment(adjustment=0, upper_bound=0)
        quiet = cloudwatch.Alarm(
            self,
            "Quiet",
            alarm_description="No message waits for templates: scale to no instance",
            metric=wanted,
            comparison_operator=cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD,
            threshold=1,
            evaluation_periods=_QUIET_MINUTES,
            # SQS reports no metrics for a queue that was not used for hours.
            treat_missing_data=cloudwatch.TreatMissingData.BREACHING,
        )
        quiet.add_alarm_action(actions.ApplicationScalingAction(rest))
