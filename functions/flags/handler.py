"""Flags: refuses documents that may not be deployed, deploys those that the console hands over, and keeps the
announcements of moratoria in step with them."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

from abeyance.aws.clients import client
from abeyance.encoding import decode_base64
from abeyance.moratorium import delegate
from abeyance.moratorium.document import FlagSet, parse
from abeyance.moratorium.errors import NothingDeployed
from abeyance.moratorium.presets import new_deployment
from abeyance.moratorium.proposals import is_approved
from abeyance.moratorium.publish import publisher_from
from abeyance.moratorium.source import deployed_flags, utc_now
from abeyance.moratorium.tenants import DynamoTenants
from abeyance.moratorium.validate import check_change
from abeyance.pipeline import assemble, topology
from abeyance.pipeline.settings import Settings


class Refused(ValueError):
    """What AppConfig shows to whoever started the deployment."""


@cache
def _world() -> tuple[Any, Any, Any]:
    return Settings.from_environment(), client("dynamodb"), client("appconfigdata")


def _in_force(setting: str, client: Any) -> FlagSet:
    try:
        return deployed_flags(setting, client)
    except NothingDeployed:
        return parse(new_deployment())


def handler(event: dict[str, Any], _context: object) -> dict[str, Any] | None:
    """As AppConfig's validator, check ``event["content"]`` (base64) against the flags in force.

    Returns nothing, or raises ``Refused`` with all that is wrong. The schedule has announcements renewed. The console
    has a document deployed, which is judged as the validator judges.
    """
    if event.get("task") == topology.ANNOUNCE.task:
        return assemble.announce()
    settings, dynamodb, appconfigdata = _world()
    tenants = DynamoTenants(dynamodb, settings.tenants_table).all()
    known = {
        "approved": partial(is_approved, dynamodb, settings.proposals_table),
        "as_of": utc_now(),
        "places": {tenant.jurisdiction for tenant in tenants},
    }
    if event.get("task") == delegate.PUBLISH:
        return delegate.deploy(event, publisher_from(settings.flags, client=client("appconfig")), **known)
    content = decode_base64(event["content"])
    findings = check_change(content, _in_force(settings.flags, appconfigdata), **known)
    if findings:
        raise Refused("\n".join(f"{finding.flag or 'document'}: {finding.message}" for finding in findings))
    return None
