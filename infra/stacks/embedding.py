"""The stack of the GPU, whose endpoint is replaced more often than the rest."""

from __future__ import annotations

from typing import Any

from aws_cdk import Stack

from constructs import Construct
from infra.config import Config
from infra.constructs.ecs import EcsEmbedder
from infra.constructs.image import EmbedderImage
from infra.constructs.sagemaker import SageMakerEmbedder


class EmbeddingStack(Stack):
    """The endpoint that makes templates, where ``embedder`` is not ``local``."""

    def __init__(self, scope: Construct, construct_id: str, config: Config, **properties: Any) -> None:
        super().__init__(scope, construct_id, description="Abeyance: templates on a GPU", **properties)
        # W3005: the library states some dependencies of a service twice.
        self.add_metadata("cfn-lint", {"config": {"ignore_checks": ["W3005"]}})
        image = EmbedderImage(self, "Image", config)
        self.ecs: EcsEmbedder | None = None
        self.sagemaker: SageMakerEmbedder | None = None
        if config.embedder == "ecs":
            self.ecs = EcsEmbedder(self, "Ecs", config, image)
        else:
            self.sagemaker = SageMakerEmbedder(self, "SageMaker", config, image)

    @property
    def setting(self) -> str:
        """The setting ``embedder``, by which functions find the endpoint."""
        made = self.ecs or self.sagemaker
        assert made is not None
        return made.setting
