"""The rules of prose that a program can check, on everything that is not a test."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("layers", "functions", "infra", "benchmarks")
_QUESTION = re.compile(r"(What|Whether|How|Where|Who|Whom|Whose|When|Why)\b")


def modules() -> Iterator[tuple[Path, ast.Module]]:
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT), ast.parse(path.read_text())


def test_no_docstring_begins_with_a_question_word() -> None:
    """A docstring starts with a verb, a class's with a noun phrase."""
    found = [
        f"{path}:{getattr(node, 'lineno', 1)}"
        for path, module in modules()
        for node in ast.walk(module)
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.Module)
        and _QUESTION.match(ast.get_docstring(node) or "")
    ]
    assert found == []


def test_every_module_class_and_public_function_has_a_docstring() -> None:
    """Methods of a protocol's adapters are documented at the port."""
    found = [
        f"{path}:{getattr(node, 'lineno', 1)}"
        for path, module in modules()
        for node in (module, *module.body)
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.Module)
        and not getattr(node, "name", "").startswith("_")
        and (node is not module or module.body)
        and not ast.get_docstring(node)
    ]
    assert found == []


def test_a_public_class_name_has_one_meaning() -> None:
    """One name, one meaning: a name that two modules share would have to be told apart by its import."""
    places: dict[str, set[Path]] = defaultdict(set)
    for path, module in modules():
        for node in ast.walk(module):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].add(path)
    assert {name: sorted(map(str, paths)) for name, paths in places.items() if len(paths) > 1} == {}


def test_architecture_decisions_are_numbered_without_gaps() -> None:
    numbers = sorted(int(path.name[:4]) for path in (ROOT / "docs" / "adr").glob("[0-9]*.md"))
    assert numbers == list(range(1, len(numbers) + 1))
