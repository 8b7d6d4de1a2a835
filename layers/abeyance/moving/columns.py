"""CSV files that say something about faces by one of their names."""

from __future__ import annotations

import csv
from collections.abc import Collection
from pathlib import Path

from abeyance.moving.errors import MovingError


def read_column(path: Path, column: str, names: Collection[str]) -> tuple[str, dict[str, str]]:
    """Return which one of ``names`` the file has as a column, and the values of ``column`` by it.

    Raises :class:`MovingError` without ``column``, or unless there is exactly one of ``names``.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        columns = rows.fieldnames or ()
        found = [name for name in names if name in columns]
        if len(found) != 1 or column not in columns:
            raise MovingError(f"{path} needs the column {column}, and one of {', '.join(names)}")
        return found[0], {row[found[0]]: row[column] or "" for row in rows}
