"""The console's way to deploy: it hands a document over, and the function looks for itself."""

from __future__ import annotations

import importlib.util
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from abeyance.deployment.build import build_flags
from abeyance.deployment.settings import FlagsSettings
from abeyance.moratorium.delegate import DelegatedPublisher
from abeyance.moratorium.document import parse
from abeyance.moratorium.errors import MoratoriumError
from abeyance.moratorium.proposals import ProposalRefused, Proposals
from abeyance.moratorium.publish import LOOSEN, TIGHTEN, AppConfigPublisher, PublishConflict

from .appconfig import AppConfig
from .conftest import hosted, value

ROOT = Path(__file__).parents[3]
NOW = datetime(2026, 1, 1, tzinfo=UTC)
HALT = hosted(halt=value())
LOOSER = hosted(halt=value(exempt_purposes=["missing_children"]))
TIGHTER = hosted(halt=value(), more=value(effect="restrict", human_review=2))


class Pipeline:
    """AppConfig, and the function *flags* in front of it, invoked as Lambda would."""

    def __init__(self, dynamodb: Any) -> None:
        self.appconfig = AppConfig()
        self.appconfig.strategies = (TIGHTEN, LOOSEN)
        self.appconfig.versions.append((json.dumps(HALT).encode(), ""))
        self.appconfig.deployments.append(
            {
                "DeploymentNumber": 1,
                "ConfigurationVersion": "1",
                "ConfigurationName": "moratoria",
                "State": "COMPLETE",
            }
        )
        spec = importlib.util.spec_from_file_location("flags", ROOT / "functions" / "flags" / "handler.py")
        assert spec is not None
        assert spec.loader is not None
        self.function = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.function)
        settings = FlagsSettings.of(flags="appconfig:abeyance/live/moratoria")
        clients = {"dynamodb": dynamodb, "appconfig": self.appconfig, "appconfigdata": self.appconfig}
        self.function.__dict__["flags"] = build_flags(settings, clients.__getitem__)
        self.proposals = Proposals(
            dynamodb, "abeyance-proposals", self.publisher(), lambda *_: None, clock=lambda: NOW
        )

    def publisher(self) -> DelegatedPublisher:
        reader = AppConfigPublisher(self.appconfig, "abeyance", "live", "moratoria")
        return DelegatedPublisher(reader, self.invoke)

    def invoke(self, event: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(
            json.dumps(self.function.handler(json.loads(json.dumps(event)), None))
        )
        return answer


@pytest.fixture
def pipeline(aws: None, dynamodb: Any) -> Pipeline:
    return Pipeline(dynamodb)


def test_tightening_goes_out_at_once_and_an_approved_loosening_gradually(pipeline: Pipeline) -> None:
    assert pipeline.proposals.tighten(TIGHTER, "officer-one") == "2"
    assert pipeline.appconfig.deployments[-1]["Strategy"] == "stra001"
    proposal = pipeline.proposals.propose(LOOSER, "officer-one")
    with pytest.raises(ProposalRefused):
        pipeline.proposals.approve(proposal.id, "officer-one", proposal.document_digest)
    done = pipeline.proposals.approve(proposal.id, "officer-two", proposal.document_digest)
    assert (done.state, done.version) == ("published", "3")
    assert pipeline.appconfig.deployments[-1]["Strategy"] == "stra002"
    assert pipeline.publisher().current().document == LOOSER


def test_a_console_that_lies_gets_nothing_looser_deployed(pipeline: Pipeline) -> None:
    """Whatever it says of itself: the function knows of two principals' approval, or it does not."""
    for document in (LOOSER, hosted(), hosted(halt=value(enabled=False))):
        with pytest.raises(MoratoriumError, match="no second principal approved"):
            pipeline.publisher().publish(document, base=parse(HALT).digest, gradual=False, note="at once")
    with pytest.raises(MoratoriumError, match="polise"):
        pipeline.publisher().publish(
            hosted(halt=value(sectors=["polise"])), base=parse(HALT).digest, gradual=False, note=""
        )
    assert len(pipeline.appconfig.versions) == len(pipeline.appconfig.deployments) == 1


def test_an_approval_is_for_one_base(pipeline: Pipeline) -> None:
    with pytest.raises(PublishConflict):
        pipeline.publisher().publish(TIGHTER, base="0" * 64, gradual=False, note="")
    assert len(pipeline.appconfig.versions) == 1


@pytest.mark.parametrize("answer", [{}, {"version": ""}, {"refused": "not so"}])
def test_no_version_is_no_success(pipeline: Pipeline, answer: dict[str, Any]) -> None:
    with pytest.raises(MoratoriumError):
        DelegatedPublisher(pipeline.publisher(), lambda event: answer).publish(
            HALT, base="", gradual=False, note=""
        )


def test_no_answer_says_to_look(pipeline: Pipeline) -> None:
    def broken(event: dict[str, Any]) -> dict[str, Any]:
        raise TimeoutError("secret detail")

    with pytest.raises(MoratoriumError, match="look at what is in force") as caught:
        DelegatedPublisher(pipeline.publisher(), broken).publish(HALT, base="", gradual=False, note="")
    assert "secret detail" not in str(caught.value)
