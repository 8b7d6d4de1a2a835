"""The stack that a deployment replaces: bus, queues, functions, flags, API, alarms."""

from __future__ import annotations

import json
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aws_cdk import CfnOutput, Stack

from abeyance.deployment.settings import DeploymentSettings
from abeyance.pipeline import topology
from abeyance.pipeline.senders import DIRECT_TYPES
from abeyance.vision.models.manifest import Manifest
from constructs import Construct
from infra import functions, permissions
from infra.config import Config
from infra.constructs.api import Api
from infra.constructs.bus import Announcements, DeployedBus
from infra.constructs.console import Console, code
from infra.constructs.function import Function
from infra.constructs.layers import Layers
from infra.constructs.lookup import LookupQueries
from infra.constructs.moratoria import Moratoria, PeoplePolicy
from infra.constructs.operations import Alarms, Dashboard
from infra.constructs.stage import StageQueue
from infra.constructs.tasks import Tasks
from infra.stacks.state import StateStack

if TYPE_CHECKING:
    from infra.stacks.embedding import EmbeddingStack


#: Choices of the operator that are settings of functions by the same name.
_SAME_NAME = (
    *("detector_model", "embedder_model", "exact_up_to", "tenant_rate", "cors_origins", "tenant_buckets"),
    *("retention_days", "archive_days", "recovery_days", "log_days"),
)


class FlowStack(Stack):
    """The way of a photo, built from :mod:`abeyance.pipeline.topology`."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        config: Config,
        *,
        state: StateStack,
        embedding: EmbeddingStack | None = None,
        **properties: Any,
    ) -> None:
        super().__init__(scope, construct_id, description="Abeyance: the way of a photo", **properties)
        bus = DeployedBus(self, "Events", config)
        queues = {
            stage.name: StageQueue(self, stage.name.capitalize(), config, stage) for stage in topology.STAGES
        }
        moratoria = Moratoria(self, "Moratoria", config)
        api = Api(self, "Api", config)
        buckets = {name: made.bucket_name for name, made in state.buckets.by_setting.items()}
        tables = {name: made.table_name for name, made in state.tables.by_setting.items()}
        settings = DeploymentSettings.of(
            **buckets,
            **tables,
            **{name: getattr(config, name) for name in _SAME_NAME},
            event_bus=bus.bus.event_bus_name,
            ledger_queue=queues[topology.LEDGER.name].queue.queue_url,
            rates_table=tables["uploads_table"],
            gate_queue=queues[topology.GATE.name].queue.queue_url,
            recognize_queue=queues[topology.RECOGNIZE.name].queue.queue_url,
            frames_queue=queues[topology.FRAMES.name].queue.queue_url,
            notification_topics=config.notification_topics,
            access_keys_key=state.keys.by_name["records"].key_arn,
            pseudonym_key=f"secret:{state.pseudonym_key}",
            ledger_key=state.ledger_key,
            ledger_policy=Path(config.witness_policy).read_text() if config.witness_policy else "",
            flags=moratoria.setting,
            brake=moratoria.brake_setting,
            changes_url=api.changes_url,
            embedder=embedding.setting if embedding else "local",
            models=config.models_directory if config.emulator else "/opt/models",
            # A layer cannot change: comparing its models with their checksums would cost recognize 40 ms a cold start.
            verify_models=config.emulator,
            vector_index=config.index_name,
        )
        settings = settings.replace(deployed_model=Manifest.load()[settings.embedder_model].identity)
        self._settings, self._runtime = settings, _runtime(config)
        self._config, self._embedding = config, embedding
        self._layers = Layers(self, "Layers", config)
        announcements = Announcements(self, "Announcements", config, bus.bus)
        ledger_bucket = state.buckets.by_setting["ledger_bucket"]
        # An emulator has neither Athena nor Glue.
        queries = None if config.emulator else LookupQueries(self, "Lookup", config, ledger_bucket)
        console = (
            Console(self, "Console", config, people=state.people, key=state.keys.by_name["records"])
            if config.console
            else None
        )
        own = {
            "flags": {
                "ABEYANCE_FIRST_PRINCIPALS": json.dumps(config.first_principals, sort_keys=True),
                "ABEYANCE_PERSON_ROLES": config.person_roles,
                "ABEYANCE_SIGN_IN": console.changes_sign_in if console else "iam",
                "ABEYANCE_ANNOUNCEMENT_GROUP": announcements.group_name,
                "ABEYANCE_ANNOUNCEMENT_ROLE": announcements.role.role_arn,
            }
        }
        if console:
            own["console"] = console.environment
        made = {
            spec.name: self._function(spec, **own.get(spec.name, {}))
            for spec in functions.FUNCTIONS
            if console or spec is not functions.CONSOLE
        }

        alarms = Alarms(self, "Alarms", config, queues=queues, functions=made, undelivered=bus.undelivered)
        # The policy of the function flags names the profile, and the profile names the function; hence the order.
        policies = {}
        moratoria.complete(made["flags"].function, alarms.for_rollback)
        endpoint = embedding.sagemaker if embedding else None
        arns: dict[str, Sequence[str]] = {
            "bus": [bus.bus.event_bus_arn],
            "flags": moratoria.flags_arns(),
            "tenant_buckets": [
                f"arn:{self.partition}:s3:::{bucket}/{prefix}*"
                for bucket, _, prefix in (place.partition("/") for place in config.tenant_buckets.split())
            ],
            "topics": [topic.replace("{tenant}", "*") for topic in config.notification_topics.split()],
            "changes": [api.changes_arn],
            "control_plane": moratoria.control_plane(),
            "strategies": moratoria.strategies(),
            "schedules": [announcements.schedules_arn],
            "announcement_role": [announcements.role.role_arn],
            "flags_function": [made["flags"].function.function_arn],
            "endpoint": endpoint.arns if endpoint else [],
            "console_secrets": console.secrets if console else [],
            "workgroup": [queries.workgroup] if queries else [],
            "catalog": queries.catalog if queries else [],
            "user_pool": [console.user_pool] if console and console.user_pool else [],
        }
        if (
            not config.emulator
        ):  # It states the account as the sender of a message, where AWS states the role.
            senders = " ".join(f"{made[name].role.role_id}={name}" for name in DIRECT_TYPES if name in made)
            made[topology.LEDGER.name].function.add_environment("ABEYANCE_LEDGER_SENDERS", senders)
        statements = permissions.Permissions(state, queues, arns, emulator=config.emulator)
        for name, function in made.items():
            receive = [queues[name].receive_statement()] if name in queues else []
            policies[name] = function.allow([*receive, *statements.of(name)])
        for name, queue in queues.items():
            queue.subscribe(bus.bus, settings, bus.undelivered)
            queue.feed(made[name], policies[name], functions.reserved_of(name, config))

        Tasks(self, "Tasks", made, policies)
        api.serve(made["api"].function, made["flags"].function)
        if console:
            console.serve(made["console"].function)
            CfnOutput(self, "ConsoleUrl", value=console.url)
            if state.people:
                CfnOutput(self, "ConsoleUserPool", value=state.people.pool.user_pool_id)
        for people, about in (
            ("officers", "May ask the change service; give it to people only"),
            ("auditors", "May read the ledger, and ask Athena about it; give it to people only"),
        ):
            PeoplePolicy(self, people.capitalize(), config, about, statements.of(people))
        alarms.watch_api(api.rest)
        Dashboard(self, "Dashboard", config, queues=queues, functions=made)
        # W6001: the output consists of imports on purpose.
        self.add_metadata("cfn-lint", {"config": {"ignore_checks": ["W6001"]}})
        # The settings of ``abeyance`` on an operator's machine; ``make env`` prints them for a shell.
        CfnOutput(self, "Environment", value=self.to_json_string(settings.to_environment()))
        CfnOutput(self, "RekognitionUrl", value=api.rest.url)
        CfnOutput(self, "RekognitionKeysUrl", value=api.keys_url)
        for name in ("gate", "detect", "frames", "api", *(["console"] if console else [])):
            # They are the readers of a bucket that a tenant registered.
            CfnOutput(self, f"{name.capitalize()}Role", value=made[name].role.role_arn)
        CfnOutput(self, "ChangesUrl", value=api.changes_url)
        CfnOutput(self, "TightenStrategy", value=moratoria.tighten.ref)
        CfnOutput(self, "LoosenStrategy", value=moratoria.loosen.ref)

    def _function(self, spec: functions.FunctionSpec, **own: str) -> Function:
        return Function(
            self,
            f"{spec.name.capitalize()}Function",
            self._config,
            spec,
            layers=self._layers,
            environment={**self._settings.environment_of(spec.settings), **self._runtime, **own},
            code=code(self._config) if spec is functions.CONSOLE else spec.folder,
            network=self._embedding.ecs
            if self._embedding and spec.name in ("frames", "recognize", "api")
            else None,
        )


def _runtime(config: Config) -> dict[str, str]:
    """Return the variables that depend on where functions run."""
    if config.emulator:
        # An emulator's functions run on this Python, which has the packages of the runtime layers.
        return {"PYTHONPATH": sysconfig.get_path("purelib")}
    return functions.runtime_environment()
