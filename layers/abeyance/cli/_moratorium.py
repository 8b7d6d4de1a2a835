"""What the commands about moratoria and tenants share: settings, clients, and who is asking."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from abeyance.cli.output import Exit, fail, table

if TYPE_CHECKING:
    from abeyance.moratorium.document import FlagSet
    from abeyance.moratorium.proposals import Proposals
    from abeyance.moratorium.tenants import DynamoTenants
    from abeyance.pipeline.settings import Settings


def settings() -> Settings:
    """The environment's settings."""
    from abeyance.pipeline.settings import Settings

    return Settings.from_environment()


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
    from abeyance.moratorium.tenants import DynamoTenants

    return DynamoTenants(client("dynamodb"), settings().tenants_table)


def flags(document: Path | None) -> FlagSet:
    """The flags of a file, or those in force; ends the command when there are none that can be read."""
    from abeyance.moratorium.errors import FlagsError
    from abeyance.moratorium.source import deployed_flags, source_from

    setting = settings().flags
    try:
        if document is not None:
            return source_from(f"file:{document}").current().flags
        return deployed_flags(setting, client("appconfigdata") if setting.startswith("appconfig:") else None)
    except FlagsError as error:
        fail(str(error))


def proposals() -> Proposals:
    """The rules for changing what is in force, with the ledger's queue to record every step."""
    from abeyance.moratorium.proposals import Proposals
    from abeyance.moratorium.publish import publisher_from

    known = settings()
    publisher = publisher_from(
        known.flags, client=client("appconfig") if known.flags.startswith("appconfig:") else None
    )

    def places() -> frozenset[str]:
        return frozenset(tenant.jurisdiction for tenant in tenants().all())

    return Proposals(client("dynamodb"), known.proposals_table, publisher, recorder(), places=places)


def recorder() -> Callable[[str, dict[str, Any]], None]:
    """Queues an entry of a type and a body for the ledger; raises ``LedgerUnavailable`` if that is not confirmed."""
    from abeyance.ledger.chain import Record
    from abeyance.ledger.queue import LedgerQueue, queue_url

    sqs = client("sqs")
    queue = LedgerQueue(sqs, queue_url(sqs, settings().ledger_queue))

    def record(kind: str, body: dict[str, Any]) -> None:
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        queue.put(Record(id=f"moratorium:{secrets.token_hex(8)}", type=kind, time=now, body=body))

    return record


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
