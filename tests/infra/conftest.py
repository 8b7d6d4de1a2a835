"""Synthesised templates, made once a run, without building layers."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

Templates = dict[str, dict[str, Any]]
Synthesise = Callable[..., Templates]


@pytest.fixture(scope="session")
def synthesise(tmp_path_factory: pytest.TempPathFactory) -> Synthesise:
    """Return a function: ``synthesise(embedder="local", …)`` returns templates by stack name, cached by choices."""
    pytest.importorskip("aws_cdk", reason="pip install 'abeyance[infra]'")
    from infra import nodejs

    nodejs.use()
    from aws_cdk import App
    from infra.app import build

    @cache
    def made(**choices: str) -> Templates:
        context = json.loads((ROOT / "cdk.json").read_text())["context"]
        app = App(
            outdir=str(tmp_path_factory.mktemp("cdk")),
            analytics_reporting=False,
            context={
                **context,
                "aws:cdk:bundling-stacks": [],
                "region": "eu-central-1",
                "account": "111122223333",
                **choices,
            },
        )
        build(app)
        assembly = app.synth()
        return {stack.stack_name: stack.template for stack in assembly.stacks}

    return made


@pytest.fixture(scope="session")
def templates(synthesise: Synthesise) -> Templates:
    """The default deployment."""
    return synthesise()
