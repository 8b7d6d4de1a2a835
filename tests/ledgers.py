"""The ledger of a deployment, as a test reads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from abeyance.aws.timestamps import utc_now
from abeyance.deployment.build import build_checkpoint
from abeyance.deployment.parts import build_heads, build_log_objects, build_policy
from abeyance.deployment.settings import CheckpointSettings, DeploymentSettings
from abeyance.ledger.defects import LedgerReport
from abeyance.ledger.identity import LOG, read_identity
from abeyance.ledger.opened import open_log, with_opened
from abeyance.ledger.reading import LoggedEntry, LogReader, each_once
from abeyance.ledger.verification import verify_log

Client = Callable[[str], Any]


def entries_of(client: Client, settings: DeploymentSettings | None = None) -> list[LoggedEntry]:
    """Return what is on the ledger, each entry once."""
    settings = settings or DeploymentSettings()
    head = build_heads(settings, client).read()
    if head is None:
        return []
    return list(each_once(LogReader(build_log_objects(settings, client), head.integrated).entries()))


def sign(client: Client, settings: DeploymentSettings | None = None) -> dict[str, Any]:
    """Do the work of the function that signs, and return its answer."""
    settings = settings or DeploymentSettings()
    own = CheckpointSettings.of(
        **{name: getattr(settings, name) for name in CheckpointSettings.variables().values()}
    )
    answer: dict[str, Any] = json.loads(json.dumps(build_checkpoint(own, client)()))
    return answer


def verify(client: Client, settings: DeploymentSettings | None = None) -> LedgerReport:
    """Verify the ledger against its own key, and open every field."""
    settings = settings or DeploymentSettings()
    objects = build_log_objects(settings, client)
    policy = build_policy(settings, client)(read_identity(objects.get(LOG)).origin)
    report = verify_log(objects, policy, now=utc_now())
    return with_opened(report, open_log(objects, report.size))
