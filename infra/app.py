"""The CDK app, which the CDK's command line runs (cdk.json) for ``make synth`` and ``make deploy``."""

from __future__ import annotations

from infra import nodejs

nodejs.use()

import aws_cdk as cdk  # noqa: E402
from cdk_nag import AwsSolutionsChecks  # noqa: E402

from infra import nag  # noqa: E402
from infra.config import Config  # noqa: E402
from infra.stacks.flow import FlowStack  # noqa: E402
from infra.stacks.state import StateStack  # noqa: E402


def build(app: cdk.App) -> None:
    """Add every stack of the deployment that the app's context describes."""
    config = Config.from_context(app.node.try_get_context)
    environment = cdk.Environment(account=config.account or None, region=config.region or None)
    prefix = config.name.capitalize()
    # An emulator has only the roles of the functions, so there the caller's own credentials publish.
    publisher = cdk.CliCredentialsStackSynthesizer if config.emulator else cdk.DefaultStackSynthesizer
    state = StateStack(app, f"{prefix}State", config, env=environment, synthesizer=publisher())
    embedding = None
    if config.embedder != "local":
        from infra.stacks.embedding import EmbeddingStack

        embedding = EmbeddingStack(app, f"{prefix}Embedding", config, env=environment)
    FlowStack(
        app,
        f"{prefix}Flow",
        config,
        state=state,
        embedding=embedding,
        env=environment,
        synthesizer=publisher(),
    )
    if config.public_page:
        from infra.stacks.public import PublicStack

        PublicStack(app, f"{prefix}Public", config, env=environment)
    cdk.Tags.of(app).add("application", config.name)


def main() -> None:
    """Synthesise, and check the result by cdk-nag's AwsSolutions rules."""
    app = cdk.App()
    build(app)
    if app.node.try_get_context("nag") != "false":
        nag.acknowledge(app, app.node.try_get_context("tenant_buckets") or "")
        cdk.Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    app.synth()


if __name__ == "__main__":
    main()
