"""One way to report: tables and progress for people, stable JSON for programs, exit codes for scripts."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from typing import Annotated, Any, NoReturn

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

console = Console()
errors = Console(stderr=True)

Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document with stable keys instead of a table.")
]


class Exit(IntEnum):
    """Exit codes of every command."""

    OK = 0
    #: The command did its work and the answer is no: a denial, a broken chain, an accuracy below the limit.
    NO = 1
    #: The command line was wrong.
    USAGE = 2
    #: Something the command needs is missing or out of reach: a file, the network, an AWS resource.
    UNAVAILABLE = 3


def fail(message: str, code: Exit = Exit.UNAVAILABLE) -> NoReturn:
    """Say on standard error what is wrong and what to do, and end with ``code``."""
    errors.print(f"[bold red]error:[/] {message}", highlight=False)
    raise typer.Exit(code)


def report(value: Any, *, as_json: bool, show: Callable[[], None]) -> None:
    """Print ``value`` as JSON, or call ``show`` to print it for people."""
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")
    else:
        show()


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A table in the house style. Cells are shown as they are, never read as markup; ``Text`` gives them colour."""
    result = Table(title=title, title_justify="left", header_style="bold", expand=False)
    for column in columns:
        result.add_column(column, overflow="fold")
    for row in rows:
        result.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    return result


def progress() -> Progress:
    """A progress bar on standard error, for anything that takes more than a second."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=errors,
        transient=True,
    )
