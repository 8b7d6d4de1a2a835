"""The endpoint's package lies beside the other deployed units, not in the installed one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from abeyance.vision.models.manifest import ModelEntry
from benchmarks.embedder import synthetic

FUNCTIONS = Path(__file__).parents[3] / "functions"
sys.path.insert(0, str(FUNCTIONS))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelEntry:
    """A network with random weights that costs next to nothing, in a manifest of its own beside it."""
    return synthetic.write(tmp_path_factory.mktemp("models"), "tiny")


@pytest.fixture
def tiny_environment(tiny: ModelEntry, monkeypatch: pytest.MonkeyPatch) -> ModelEntry:
    """``tiny``, named in the environment as an operator would."""
    monkeypatch.setenv("ABEYANCE_MANIFEST", str(Path(tiny.path).parent / f"{tiny.name}.json"))
    return tiny
