"""Builds what people decide about the users of collections with, for the console and the command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from abeyance.aws.clients import Clients, client
from abeyance.deployment.parts import (
    build_analyzer,
    build_gallery,
    build_guard,
    build_ledger_queue,
    build_pseudonyms,
    read_scale,
)
from abeyance.deployment.settings import DeploymentSettings, OversightSettings

if TYPE_CHECKING:
    from abeyance.curation.ages import AgeReader
    from abeyance.curation.decisions import Curation


def build_curation(settings: OversightSettings, clients: Clients = client) -> Curation:
    """Return what people decide about the users of collections, for the console and the command."""
    from abeyance.curation.decisions import Curation

    return Curation(
        build_gallery(settings, clients),
        build_guard(settings, clients),
        build_ledger_queue(settings, clients),
        build_pseudonyms(settings, clients),
        read_scale,
    )


def build_age_reader(settings: DeploymentSettings, clients: Clients = client) -> AgeReader:
    """Return the reader of the ages of enrolled faces."""
    from abeyance.curation.ages import AgeReader
    from abeyance.pipeline.aws import S3Objects

    return AgeReader(S3Objects(clients("s3")), build_analyzer(settings))
