"""The context of the commands about moratoria, tenants and the ledger: settings, clients, and the caller."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from abeyance.cli.output import Exit, fail

if TYPE_CHECKING:
    from abeyance.deployment.settings import DeploymentSettings
    from abeyance.moratorium.client import ChangeClient
    from abeyance.moratorium.document import FlagSet
    from abeyance.moratorium.tenants import TenantTable


def settings() -> DeploymentSettings:
    """Return the environment's settings; ends the command if one is ill-typed."""
    from msgspec import ValidationError

    from abeyance.deployment.settings import DeploymentSettings

    try:
        return DeploymentSettings.from_environment()
    except ValidationError as error:
        fail(f"correct the ABEYANCE_ variables: {error}", Exit.USAGE)


def changes() -> ChangeClient:
    """Return the change service, which learns who calls from the signature of these credentials."""
    from abeyance.deployment.parts import build_change_client

    return build_change_client(settings())


def principal() -> str:
    """Return the caller: the ARN that STS reports, or with a local endpoint the access key id."""
    import boto3

    if os.environ.get("AWS_ENDPOINT_URL"):
        credentials = boto3.Session().get_credentials()
        if credentials is None:
            fail("no credentials are set: set AWS_ACCESS_KEY_ID to name yourself")
        return str(credentials.access_key)
    return str(boto3.client("sts").get_caller_identity()["Arn"])


def tenants() -> TenantTable:
    """Return the registry, to read."""
    from abeyance.deployment.parts import build_tenants

    return build_tenants(settings())


def flags(document: Path | None) -> FlagSet:
    """Return the flags of a file, or those in force; ends the command if they cannot be read."""
    from abeyance.deployment.parts import read_deployed_flags
    from abeyance.moratorium.document import parse
    from abeyance.moratorium.errors import Fault, FlagsError

    if document is not None:
        return parse(read_document(document))
    known = settings()
    choices = "set ABEYANCE_FLAGS to file:<path> or appconfig:<application>/<environment>/<profile>"
    try:
        return read_deployed_flags(known)
    except ValueError:
        fail(f"ABEYANCE_FLAGS names no flags; {choices}", Exit.USAGE)
    except FlagsError as error:
        if error.fault is Fault.FLAGS_UNAVAILABLE and known.flags.startswith("file:"):
            fail(f"there is no file {known.flags.removeprefix('file:')}; {choices}")
        raise


def read_document(path: Path) -> dict[str, Any]:
    """Return a flags document as it stands in a file, not validated; ends the command if it is not JSON."""
    from abeyance.moratorium.document import load
    from abeyance.moratorium.errors import FlagsError

    try:
        return load(path.read_bytes())
    except FlagsError as error:
        fail(str(error), Exit.USAGE)


def read_entries(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the entries of a ledger export, each once: ``index``, ``id``, ``type``, ``time``, ``body``."""
    from abeyance.cli._ledger import log_size, open_log_objects
    from abeyance.ledger.reading import LogReader, each_once

    reader = LogReader(open_log_objects(path), log_size(path))
    for entry in each_once(reader.entries()):
        yield msgspec.structs.asdict(entry)


def moment(text: str | None) -> datetime:
    """Return now, or the aware moment of ``2020-06-10`` or ``2020-06-10T12:00:00Z``; without a zone it is UTC."""
    from abeyance.aws.timestamps import parse_moment, utc_now

    if text is None:
        return utc_now()
    try:
        return parse_moment(text)
    except ValueError:
        fail("write a date as 2020-06-10 or 2020-06-10T12:00:00Z", Exit.USAGE)
