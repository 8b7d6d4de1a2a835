"""What the commands about moratoria and tenants share: settings, clients, and who is asking."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from abeyance.cli.output import Exit, fail, table

if TYPE_CHECKING:
    from abeyance.deployment.settings import DeploymentSettings
    from abeyance.moratorium.document import FlagSet
    from abeyance.moratorium.proposals import Proposals
    from abeyance.moratorium.tenants import DynamoTenants


def settings() -> DeploymentSettings:
    """The environment's settings."""
    from abeyance.deployment.settings import DeploymentSettings

    return DeploymentSettings.from_environment()


def client(service: str) -> Any:
    """A boto3 client; ``AWS_ENDPOINT_URL`` is honoured."""
    import boto3

    return boto3.client(service)


def principal() -> str:
    """Who is asking: the ARN that STS reports, or with a local endpoint the access key id."""
    if os.environ.get("AWS_ENDPOINT_URL"):
        import boto3

        credentials = boto3.Session().get_credentials()
        if credentials is None:
            fail("no credentials; set AWS_ACCESS_KEY_ID to say who you are")
        return str(credentials.access_key)
    return str(client("sts").get_caller_identity()["Arn"])


def tenants() -> DynamoTenants:
    """The registry."""
    from abeyance.deployment.build import build_tenants

    return build_tenants(settings().decisions)


def flags(document: Path | None) -> FlagSet:
    """The flags of a file, or those in force; ends the command when there are none that can be read."""
    from abeyance.deployment.build import read_deployed_flags
    from abeyance.moratorium.errors import FlagsError
    from abeyance.moratorium.source import FileSource

    try:
        if document is not None:
            return FileSource(document).current().flags
        return read_deployed_flags(settings().decisions)
    except FlagsError as error:
        fail(str(error))


def proposals() -> Proposals:
    """The rules for changing what is in force, with the ledger's queue to record every step."""
    from abeyance.deployment.build import build_proposals, build_publisher

    known = settings()
    return build_proposals(known, build_publisher(known.decisions))


def recorder() -> Callable[[str, dict[str, Any]], None]:
    """Queues an entry of a type and a body for the ledger; raises ``LedgerUnavailable`` if that is not confirmed."""
    from abeyance.deployment.build import build_ledger_queue
    from abeyance.ledger.queue import record_change

    return functools.partial(record_change, build_ledger_queue(settings().recording))


def read_document(path: Path) -> dict[str, Any]:
    """A flags document as it stands in a file, not yet validated; ends the command when it is not JSON."""
    from abeyance.moratorium.document import load
    from abeyance.moratorium.errors import FlagsError

    try:
        return load(path.read_bytes())
    except OSError:
        fail(f"{path} cannot be read", Exit.USAGE)
    except FlagsError as error:
        fail(str(error), Exit.USAGE)


def read_entries(path: Path) -> Iterator[dict[str, Any]]:
    """Entries of a ledger export (one JSON object a line); headers and checkpoints are passed over."""
    try:
        with path.open("rb") as lines:
            for line in lines:
                entry = json.loads(line) if line.strip() else None
                if isinstance(entry, dict) and "body" in entry and "type" in entry:
                    yield entry
    except OSError:
        fail(f"{path} cannot be read", Exit.USAGE)
    except ValueError:
        fail(f"{path} is not a ledger export; write one with: abeyance ledger export", Exit.USAGE)


def listing(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A table whose first column, the name to type into the next command, is never folded."""
    result = table(title, columns, rows)
    result.columns[0].no_wrap = True
    return result


def moment(text: str | None) -> datetime:
    """Now, or an aware moment of ``2020-06-10`` or ``2020-06-10T12:00:00Z``; without a zone it is UTC."""
    if text is None:
        return datetime.now(UTC)
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        fail("a date is written 2020-06-10 or 2020-06-10T12:00:00Z", Exit.USAGE)
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed
