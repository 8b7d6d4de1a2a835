"""The metric filters match the line that the ledger logs."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from tests.infra.policies import Templates

from abeyance.assurance.reconciler import GAP
from abeyance.ledger.checkpointer import WITNESS_REFUSES
from abeyance.ledger.entry import LogEntry, Record
from abeyance.ledger.errors import LedgerCorrupt
from abeyance.ledger.sequencer import Placed
from abeyance.moratorium.decide import Decision
from abeyance.moratorium.errors import CALLER_FAULTS, Fault
from abeyance.pipeline.batch import Batch, Message
from abeyance.pipeline.record import RecordDecisions, corruption_logged


class Log:
    def append(self, entries: Sequence[LogEntry], since: float) -> list[Placed]:
        return [Placed(index, entry, new=True) for index, entry in enumerate(entries)]


def _lines(caplog: pytest.LogCaptureFixture, *decisions: dict[str, Any]) -> list[dict[str, Any]]:
    records = [
        Record(id=f"api:{n}", type="decision", time="2026-01-01T00:00:00Z", body={"decision": decision})
        for n, decision in enumerate(decisions)
    ]
    messages = [Message(str(n), 1, msgspec.to_builtins(record)) for n, record in enumerate(records)]
    with caplog.at_level(logging.INFO, "abeyance"):
        RecordDecisions(Log(), b"key")(Batch.of(messages))
    return [vars(found) for found in caplog.records if found.getMessage() == "recorded"]


def _filters(templates: Templates) -> dict[str, str]:
    return {
        resource["Properties"]["MetricTransformations"][0]["MetricName"]: resource["Properties"][
            "FilterPattern"
        ]
        for resource in templates["AbeyanceFlow"]["Resources"].values()
        if resource["Type"] == "AWS::Logs::MetricFilter"
    }


def test_filters_match_the_ledgers_log_line(templates: Templates, caplog: pytest.LogCaptureFixture) -> None:
    denied = msgspec.to_builtins(
        Decision(outcome="deny", clause="moratorium", reason="", fault="flags_stale")
    )
    (line,) = _lines(caplog, denied)
    filters = _filters(templates)
    assert filters.keys() == {
        *("Decisions", "Halts", "FaultsByKind", "Faults", "LedgerLag"),
        *("Conflicts", "Refusals", "Corrupt", "Gaps", "Drift", "WitnessRefusals"),
    }
    for pattern in filters.values():
        for field in re.findall(r"\$\.(\w+)", pattern):
            assert field == "message" or field in line, field
    assert (line["outcome"], line["fault"]) == ("deny", "flags_stale")
    assert line["lag_ms"] > 0


def test_a_batch_has_a_line_for_each_kind_and_its_number(caplog: pytest.LogCaptureFixture) -> None:
    permitted = {"outcome": "permit", "clause": "none", "fault": ""}
    denied = {"outcome": "deny", "clause": "moratorium", "fault": ""}
    found = _lines(caplog, permitted, denied, permitted, permitted)
    assert {(line["outcome"], line["count"]) for line in found} == {("permit", 3), ("deny", 1)}


def test_a_gap_rings(templates: Templates) -> None:
    assert _filters(templates)["Gaps"] == f'{{ $.message = "{GAP}" }}'


def test_a_witness_that_refuses_rings(templates: Templates) -> None:
    assert _filters(templates)["WitnessRefusals"] == f'{{ $.message = "{WITNESS_REFUSES}" }}'


def test_a_ledger_that_contradicts_itself_rings(
    templates: Templates, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(LedgerCorrupt), corruption_logged():
        raise LedgerCorrupt("a tile is not what it was")
    (line,) = caplog.records
    assert _filters(templates)["Corrupt"] == f'{{ $.message = "{line.getMessage()}" }}'


def test_a_halt_is_logged_without_a_fault(caplog: pytest.LogCaptureFixture) -> None:
    (line,) = _lines(caplog, {"outcome": "deny", "clause": "moratorium", "fault": ""})
    assert line["fault"] == "none"


def test_line_has_only_kinds_and_numbers(caplog: pytest.LogCaptureFixture) -> None:
    usual = set(vars(logging.makeLogRecord({})))
    (line,) = _lines(
        caplog, {"outcome": "permit", "clause": "none", "fault": "", "reason": "secret", "tenant": "acme"}
    )
    assert line.keys() - usual <= {"type", "outcome", "clause", "fault", "count", "lag_ms", "message"}


def test_the_alarm_counts_every_fault_but_those_that_callers_cause(templates: Templates) -> None:
    alarmed = _filters(templates)["Faults"]
    assert {fault for fault in Fault if f'$.fault != "{fault}"' in alarmed} == CALLER_FAULTS
