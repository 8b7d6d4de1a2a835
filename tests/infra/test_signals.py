"""The metric filters match the line that the ledger logs."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from tests.infra.policies import Templates

from abeyance.ledger.chain import Record
from abeyance.moratorium.decide import Decision
from abeyance.moratorium.errors import CALLER_FAULTS, Fault
from abeyance.pipeline.batch import Batch, Message
from abeyance.pipeline.record import RecordDecisions


class Store:
    def append(self, records: Sequence[Record]) -> list[Any]:
        return list(records)


def _lines(caplog: pytest.LogCaptureFixture, decision: dict[str, Any]) -> list[dict[str, Any]]:
    record = Record(id="api:1", type="decision", time="2026-01-01T00:00:00Z", body={"decision": decision})
    with caplog.at_level(logging.INFO, "abeyance"):
        RecordDecisions(Store(), b"key")(Batch.of([Message("1", 1, msgspec.to_builtins(record))]))  # type: ignore[arg-type]
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
    assert filters.keys() == {"Decisions", "Halts", "FaultsByKind", "Faults", "LedgerLag", "Drift"}
    for pattern in filters.values():
        for field in re.findall(r"\$\.(\w+)", pattern):
            assert field == "message" or field in line, field
    assert (line["outcome"], line["fault"]) == ("deny", "flags_stale")
    assert line["lag_ms"] > 0


def test_a_halt_is_logged_without_a_fault(caplog: pytest.LogCaptureFixture) -> None:
    (line,) = _lines(caplog, {"outcome": "deny", "clause": "moratorium", "fault": ""})
    assert line["fault"] == "none"


def test_line_has_only_kinds_and_numbers(caplog: pytest.LogCaptureFixture) -> None:
    usual = set(vars(logging.makeLogRecord({})))
    (line,) = _lines(
        caplog, {"outcome": "permit", "clause": "none", "fault": "", "reason": "secret", "tenant": "acme"}
    )
    assert line.keys() - usual <= {"type", "outcome", "clause", "fault", "lag_ms", "message"}


def test_the_alarm_counts_every_fault_but_those_that_callers_cause(templates: Templates) -> None:
    alarmed = _filters(templates)["Faults"]
    assert {fault for fault in Fault if f'$.fault != "{fault}"' in alarmed} == CALLER_FAULTS
