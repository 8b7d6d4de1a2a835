"""Reserved concurrency is off by default; with it, gate, ledger and flags have executions of their own."""

from __future__ import annotations

from typing import Any

import pytest
from infra.config import Config
from tests.infra.conftest import Synthesise

from abeyance.pipeline import topology


def _reserved(templates: dict[str, Any]) -> dict[str, int]:
    resources = templates["AbeyanceFlow"]["Resources"].values()
    functions = [found["Properties"] for found in resources if found["Type"] == "AWS::Lambda::Function"]
    key = "ReservedConcurrentExecutions"
    return {found["FunctionName"]: found[key] for found in functions if key in found}


def test_off_by_default(synthesise: Synthesise) -> None:
    assert _reserved(synthesise()) == {}


def test_gate_ledger_and_flags_have_their_own(synthesise: Synthesise) -> None:
    templates = synthesise(reserved_concurrency="40")
    assert _reserved(templates) == {
        "abeyance-gate": 40,
        "abeyance-ledger": 2,
        "abeyance-checkpoint": 1,
        "abeyance-flags": 5,
    }
    resources = templates["AbeyanceFlow"]["Resources"].values()
    mappings = [
        found["Properties"] for found in resources if found["Type"] == "AWS::Lambda::EventSourceMapping"
    ]
    most = sorted(found["ScalingConfig"]["MaximumConcurrency"] for found in mappings)
    others = [stage.max_concurrency for stage in topology.STAGES if stage is not topology.GATE]
    # The gate's mapping asks for no more than its function may run, or messages would be throttled.
    assert most == sorted([40, *others])
    assert topology.LEDGER.max_concurrency == 2


def test_too_few_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        Config(reserved_concurrency=1)
