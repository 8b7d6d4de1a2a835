"""Shared output of every command: tables and progress for people, stable JSON for programs, exit codes for scripts."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import IntEnum
from typing import Annotated, Any, Final, NoReturn

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

console = Console()
errors = Console(stderr=True)

ModelsDirectory = Annotated[
    str,
    typer.Option(
        help="Directory of models; otherwise $ABEYANCE_MODELS, otherwise the user's cache.",
        show_default=False,
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document with stable keys instead of a table.")
]


def existing_file(*names: str, help: str) -> Any:
    """Return the option of a file that must exist."""
    return typer.Option(*names, help=help, exists=True, dir_okay=False)


class Exit(IntEnum):
    """Exit codes of every command."""

    OK = 0
    #: The command did its work and the answer is no: a denial, a broken chain, an accuracy below the limit.
    NO = 1
    #: The command line was wrong.
    USAGE = 2
    #: Something the command needs is missing or out of reach: a file, the network, an AWS resource.
    UNAVAILABLE = 3
    #: Nothing contradicts, but a part of the ledger is not signed or not witnessed yet.
    UNSIGNED = 4


#: The exit code and the message of errors, by the name of their class or of a base of it. By name, so that a command
#: imports only the rooms that it uses.
_KNOWN_ERRORS: Final = {
    "abeyance.ledger.errors.LedgerCorrupt": (Exit.NO, "{}"),
    "abeyance.ledger.errors.LedgerUnavailable": (
        Exit.UNAVAILABLE,
        "{} (set AWS_ENDPOINT_URL for a local system; otherwise check that the ledger is deployed)",
    ),
    "abeyance.ledger.errors.LedgerError": (Exit.USAGE, "{}"),
    "abeyance.moratorium.errors.FlagsError": (Exit.UNAVAILABLE, "{}"),
    "abeyance.moratorium.claims.ClaimError": (Exit.USAGE, "{}"),
    "abeyance.moratorium.guardrails.GuardrailError": (Exit.USAGE, "{}"),
    "abeyance.moratorium.errors.MoratoriumError": (Exit.NO, "{}"),
    "abeyance.curation.decisions.CurationRefused": (Exit.NO, "{}"),
    "abeyance.moving.errors.MovingError": (Exit.NO, "{}"),
    "botocore.exceptions.NoRegionError": (
        Exit.UNAVAILABLE,
        "no AWS region is set: set AWS_DEFAULT_REGION (and, for abeyance serve, AWS_ENDPOINT_URL)",
    ),
    "botocore.exceptions.NoCredentialsError": (
        Exit.UNAVAILABLE,
        "no AWS credentials are set: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    ),
    "botocore.exceptions.BotoCoreError": (Exit.UNAVAILABLE, "the call to AWS failed: {}"),
    "botocore.exceptions.ClientError": (Exit.UNAVAILABLE, "AWS refused the call: {}"),
}


class Commands(TyperGroup):
    """A group of commands that ends with one line and an exit code on an error that its user can act on."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command, as click does; see :data:`_KNOWN_ERRORS`."""
        try:
            return super().invoke(ctx)
        except OSError as error:
            if error.filename is None:
                raise
            fail(f"{error.strerror}: {error.filename}")
        except Exception as error:
            for kind in type(error).__mro__:
                if known := _KNOWN_ERRORS.get(f"{kind.__module__}.{kind.__qualname__}"):
                    fail(known[1].format(error), known[0])
            raise


def fail(message: str, code: Exit = Exit.UNAVAILABLE) -> NoReturn:
    """Print what is wrong and what to do on standard error, and exit with ``code``."""
    errors.print(f"[bold red]error:[/] {escape(message)}", highlight=False, soft_wrap=True)
    raise typer.Exit(code)


def report(value: Any, *, as_json: bool, show: Callable[[], None]) -> None:
    """Print ``value`` as JSON, or call ``show`` to print it for people."""
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")
    else:
        show()


def print_line(text: str) -> None:
    """Print text as it is, for the next program."""
    sys.stdout.write(f"{text}\n")


def table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, key: bool = False
) -> Table:
    """Return a table in the house style.

    Cells are shown as they are, never read as markup; ``Text`` gives them colour. With ``key``, the first column is the
    name to type into the next command, and is never folded.
    """
    result = Table(title=title, title_justify="left", header_style="bold", expand=False)
    for number, column in enumerate(columns):
        result.add_column(column, overflow="fold", no_wrap=key and number == 0)
    for row in rows:
        result.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    return result


def cells(records: Iterable[object], columns: Sequence[str]) -> list[list[object]]:
    """Return a row for each record, of its attributes or a mapping's values; several in one are joined by commas."""
    values = [
        [record[name] if isinstance(record, Mapping) else getattr(record, name) for name in columns]
        for record in records
    ]
    return [[", ".join(v) if isinstance(v, tuple | list) else v for v in row] for row in values]


@contextlib.contextmanager
def bar(what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Show a progress bar, and yield the function that moves it to a number of things done."""
    with progress() as shown:
        task = shown.add_task(what, total=total)
        yield lambda done: shown.update(task, completed=done)


def progress() -> Progress:
    """Return a progress bar on standard error, for anything that takes more than a second."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=errors,
        transient=True,
    )
