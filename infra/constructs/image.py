"""The embedder's image: one that exists in ECR, or one built from this repository on the machine that deploys."""

from __future__ import annotations

from aws_cdk import Stack
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_ecr_assets as assets
from aws_cdk import aws_ecs as ecs

from constructs import Construct
from infra.config import ROOT, Config


class EmbedderImage(Construct):
    """The image of the embedder, the same for SageMaker and for ECS."""

    def __init__(self, scope: Construct, construct_id: str, config: Config) -> None:
        super().__init__(scope, construct_id)
        if config.embedder_image:
            registry, _, tagged = config.embedder_image.partition("/")
            name, _, tag = tagged.rpartition(":")
            account, region = registry.split(".")[0], registry.split(".")[3]
            self.repository: ecr.IRepository = ecr.Repository.from_repository_attributes(
                self,
                "Repository",
                repository_name=name,
                repository_arn=Stack.of(self).format_arn(
                    service="ecr", account=account, region=region, resource="repository", resource_name=name
                ),
            )
            self.uri = config.embedder_image
            self.container: ecs.ContainerImage = ecs.ContainerImage.from_ecr_repository(self.repository, tag)
        else:
            built = assets.DockerImageAsset(
                self,
                "Built",
                directory=str(ROOT),
                file="functions/embedder/Dockerfile",
                build_args={"DEVICE": "gpu", "MODELS": config.embedder_model},
                platform=assets.Platform.LINUX_AMD64,
                exclude=["*", "!functions/embedder", "!layers/abeyance", "!layers/models"],
            )
            self.repository = built.repository
            self.uri = built.image_uri
            self.container = ecs.ContainerImage.from_docker_image_asset(built)
