"""The rule of two as a state machine: nothing looser comes into force unless two people agreed to exactly that.

Four people, one of whom has two principals, propose, approve, withdraw, publish, fail, tighten, resume, link and
replay; somebody deploys past everybody. The model keeps what may be in force: the document that was agreed to last, and
the one before while it is being let out. A stage that starts at any moment must decide at least as strictly as one of
them.

No guardrail changes without three people, and whatever happens, a stage decides nothing that a guardrail forbids.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec import structs
from tests.integration.moratorium.conftest import hosted, value
from tests.office import Office, offices, user

from abeyance.moratorium.changes import ChangeKind, classify
from abeyance.moratorium.document import FlagSet, parse
from abeyance.moratorium.errors import FlagsError, MoratoriumError
from abeyance.moratorium.guardrails import parse_guardrails, violations
from abeyance.moratorium.presets import new_deployment
from abeyance.moratorium.proposals import Proposal
from abeyance.moratorium.subjects import (
    FlagsChange,
    GuardrailsChange,
    LinkChange,
    TenantChange,
    UnlinkChange,
)
from abeyance.moratorium.tenants import Tenant

PARTS = {
    "police_halt": new_deployment()["values"]["police_halt"],
    "search": value(actions=["search"]),
    "shops": value(sectors=["public_accommodation"]),
    "review": value(effect="restrict", human_review=2),
}
DOCUMENTS = st.sets(st.sampled_from(sorted(PARTS))).map(
    lambda keys: hosted(**{key: PARTS[key] for key in sorted(keys)})
)
NAMES = st.sampled_from(["alice", "bob", "carol", "alice-2", "mallory"])
TENANT = Tenant(
    id="acme", sector="commercial", jurisdiction="US", actions=("search",), purposes=("access_control",)
)


def looser(old: FlagSet, new: FlagSet, office: Office) -> bool:
    return classify(old, new, since=office.clock.utc()).kind is ChangeKind.LOOSENING


CLAIMS = {
    "police": "deny law_enforcement search in US unless missing_children, human_trafficking",
    "reviewed": "deny commercial search in any without 2 reviewers",
    "shops": "deny public_accommodation compare in US-OR",
}


def rails_of(keys: Iterable[str]) -> dict[str, Any]:
    return {
        "version": "1",
        "guardrails": {key: {"claim": CLAIMS[key], "reason": "R.", "source": "S"} for key in sorted(keys)},
    }


RAILS = st.sets(st.sampled_from(sorted(CLAIMS))).map(rails_of)


def broken(rails: dict[str, Any], document: FlagSet, office: Office) -> bool:
    return bool(violations(parse_guardrails(rails), document, office.clock.utc()))


class RuleOfTwo(RuleBasedStateMachine):
    """See the module."""

    @initialize(guarded=st.booleans())
    def begin(self, guarded: bool) -> None:
        self._open = contextlib.ExitStack()
        self.office = self._open.enter_context(offices())()
        self.people = {user(name): name for name in ("alice", "bob", "carol", "clara", "dora")}
        self.office.agree(LinkChange(user("alice-2"), "alice"))
        self.people[user("alice-2")] = "alice"
        #: What may be in force: agreed to last, and before while that is let out.
        self.allowed: list[dict[str, Any]] = [new_deployment()]
        self.registered: Tenant | None = None
        #: The guardrails in force, and how often they were changed.
        self.rails: dict[str, Any] = {"version": "1", "guardrails": {}}
        self.rail_changes = 0
        self.proposals: list[Proposal] = []
        #: What held when each proposal was made.
        self.against: dict[str, object] = {}
        if guarded:
            self.took_effect(self.office.agree(GuardrailsChange(rails_of(["police"]))))
        #: Who has approved each, by principal.
        self.others: dict[str, dict[str, Any]] = {}
        self.broken = False

    def teardown(self) -> None:
        if hasattr(self, "_open"):
            self._open.close()

    def state_of(self, proposal: Proposal) -> object:
        """What the change would replace, as the model has it."""
        change = proposal.change
        if isinstance(change, FlagsChange):
            return [parse(document).digest for document in self.allowed]
        if isinstance(change, TenantChange):
            return self.registered
        if isinstance(change, GuardrailsChange):
            return self.rail_changes
        return dict(self.people)

    def takes_three(self, proposal: Proposal) -> bool:
        """Whether it changes guardrails or, while there are some, enlarges or exhausts the people."""
        linking = isinstance(proposal.change, LinkChange | UnlinkChange)
        return isinstance(proposal.change, GuardrailsChange) or (linking and bool(self.rails["guardrails"]))

    def took_effect(self, proposal: Proposal) -> None:
        """Take over into the model what two agreed to, or what tightens."""
        change = proposal.change
        if isinstance(change, FlagsChange):
            before = self.allowed[:1] if proposal.kind is ChangeKind.LOOSENING else []
            self.allowed = [change.document, *before]
        elif isinstance(change, TenantChange):
            self.registered = change.tenant
        elif isinstance(change, GuardrailsChange):
            self.rails, self.rail_changes = change.document, self.rail_changes + 1
        elif isinstance(change, LinkChange):
            self.people[change.principal] = change.person
        elif isinstance(change, UnlinkChange):
            self.people.pop(change.principal, None)

    def submit(self, name: str, change: Any, *, wait: bool = False) -> None:
        try:
            made = self.office.person(name).submit(change, wait=wait)
        except MoratoriumError as error:
            if isinstance(change, FlagsChange) and "guardrail" in str(error):
                new = parse(change.document)
                assert broken(self.rails, new, self.office), "it breaks none"
                assert any(looser(parse(one), new, self.office) for one in self.allowed), "it only tightens"
        else:
            if made.state == "applied":
                if isinstance(change, FlagsChange):
                    for one in self.allowed:
                        assert not looser(parse(one), parse(change.document), self.office), "one loosened"
                elif isinstance(change, TenantChange):
                    assert change.tenant == self.registered or change.tenant.status == "suspended"
                elif isinstance(change, GuardrailsChange):
                    assert change.document == self.rails, "one changed a guardrail"
                else:
                    assert isinstance(change, UnlinkChange), "one person linked a principal"
                self.took_effect(made)
            else:
                self.proposals.append(made)
                self.against[made.id] = self.state_of(made)

    @rule(name=NAMES, document=DOCUMENTS, wait=st.booleans())
    def propose(self, name: str, document: dict[str, Any], wait: bool) -> None:
        self.submit(name, FlagsChange(document), wait=wait)

    @rule(name=NAMES, document=RAILS)
    def propose_guardrails(self, name: str, document: dict[str, Any]) -> None:
        self.submit(name, GuardrailsChange(document))

    @rule(
        names=st.permutations(["alice", "bob", "carol"]),
        change=st.one_of(RAILS.map(GuardrailsChange), DOCUMENTS.map(FlagsChange)),
    )
    def all_agree(self, names: list[str], change: Any) -> None:
        """Make a change that a random walk seldom brings to its end."""
        self.submit(names[0], change)
        for name in names[1:]:
            if self.proposals and self.proposals[-1].change == change:
                self.agree(name, self.proposals[-1])

    @rule(name=NAMES, status=st.sampled_from(["active", "suspended"]))
    def register_or_resume(self, name: str, status: Any) -> None:
        self.submit(name, TenantChange(structs.replace(TENANT, status=status)))

    @rule(
        name=NAMES,
        other=st.sampled_from(["mallory", "alice-2", "carol"]),
        person=st.sampled_from(["alice", "mallory"]),
    )
    def link(self, name: str, other: str, person: str) -> None:
        self.submit(name, LinkChange(user(other), person))

    @rule(name=NAMES, other=st.sampled_from(["mallory", "alice-2", "carol"]))
    def unlink(self, name: str, other: str) -> None:
        self.submit(name, UnlinkChange(user(other)))

    @precondition(lambda self: self.proposals)
    @rule(name=NAMES, data=st.data(), fails=st.booleans())
    def approve(self, name: str, data: st.DataObject, fails: bool) -> None:
        self.agree(name, data.draw(st.sampled_from(self.proposals[-4:])), fails=fails)

    def agree(self, name: str, proposal: Proposal, *, fails: bool = False) -> None:
        self.observe()  # the proposal itself may have been the first to notice a rollback
        proposer, approver = self.people.get(proposal.proposer.principal), self.people.get(user(name))
        validate = self.office.appconfig.validate
        if fails:
            self.office.appconfig.validate = lambda event: 1 / 0
        try:
            state = self.state_of(proposal)
            status, content = self.office.ask(
                user(name), do="approve", id=proposal.id, digest=proposal.digest
            )
        finally:
            self.office.appconfig.validate = validate
        if status in (200, 503):
            assert proposer == proposal.proposer.person
            assert None not in (proposer, approver)
            assert proposer != approver, "one agreed twice"
            assert state == self.against[proposal.id], "it was agreed to on something else"
            others = self.others.setdefault(proposal.id, {})
            assert approver not in others.values(), "one agreed twice"
            assert all(self.people.get(one) == person for one, person in others.items()), "one was exchanged"
            others[user(name)] = approver
            if status == 200 and content["state"] == "proposed":
                assert self.takes_three(proposal), "two did not do"
                assert len(others) == 1
                return
            if self.takes_three(proposal):
                assert len(others) == 2, "two changed a guardrail, or made a third"
            self.proposals.remove(proposal)
            if status == 200:
                self.took_effect(proposal)
            else:
                self.allowed = [proposal.change.document, self.allowed[0]]
                self.failed = proposal

    failed: Proposal | None = None

    @precondition(lambda self: self.failed)
    @rule(name=NAMES)
    def retry(self, name: str) -> None:
        assert self.failed is not None
        status, _ = self.office.ask(user(name), do="retry", id=self.failed.id)
        if status == 200:
            assert self.allowed[0] == self.failed.change.document, "something came in between"

    @precondition(lambda self: self.proposals)
    @rule(name=NAMES, data=st.data())
    def withdraw(self, name: str, data: st.DataObject) -> None:
        proposal = data.draw(st.sampled_from(self.proposals))
        if self.office.ask(user(name), do="withdraw", id=proposal.id)[0] == 200:
            status, _ = self.office.ask(user("bob"), do="approve", id=proposal.id, digest=proposal.digest)
            assert status == 409
            self.proposals.remove(proposal)

    @rule(document=DOCUMENTS)
    def deploy_past_everybody(self, document: dict[str, Any]) -> None:
        self.office.appconfig.deploy_past_everybody(document)

    @rule(number=st.integers(1, 6))
    def revert(self, number: int) -> None:
        with contextlib.suppress(Exception):
            self.office.appconfig.stop_deployment(
                ApplicationId="app0001", EnvironmentId="liv0000", DeploymentNumber=number, AllowRevert=True
            )

    @rule(number=st.integers(1, 6))
    def replay(self, number: int) -> None:
        with contextlib.suppress(Exception):
            self.office.appconfig.start_deployment(
                ApplicationId="app0001",
                EnvironmentId="liv0000",
                ConfigurationProfileId="mor0000",
                ConfigurationVersion=str(number),
                DeploymentStrategyId="abe0000",
            )

    @rule(alarm=st.booleans())
    def alarm(self, alarm: bool) -> None:
        self.office.appconfig.alarm = alarm

    @rule(seconds=st.sampled_from([10, 70, 600, 1900, 4000, 90_000]))
    def wait(self, seconds: int) -> None:
        if seconds < 5000:
            self.office.wait(seconds)
        else:
            self.office.clock.advance(seconds)
            self.office.watch()

    def observe(self) -> None:
        """Drop from the model what the service has superseded: a rollout has ended, or was rolled back."""
        record = self.office.record()
        if record.phase == "settled":
            kept = [one for one in self.allowed if parse(one).digest == record.digest]
            assert kept, "the service took for settled what nobody agreed to"
            self.allowed = kept[:1]

    @invariant()
    def nothing_looser_is_in_force(self) -> None:
        if not hasattr(self, "office"):
            return
        self.observe()
        try:
            effective = self.office.effective()
        except FlagsError:
            return  # everything is denied
        assert any(not looser(parse(one), effective, self.office) for one in self.allowed), (
            "a stage decides more loosely than anybody agreed to"
        )
        assert not broken(self.rails, effective, self.office), "a guardrail is broken"
        deployed = self.office.person("alice").state()["guardrails"]
        assert (deployed["document"], deployed["drift"]) == (self.rails, False)
        assert self.office.tenants().get("acme") == self.registered
        assert dict(self.office.person("alice").people()) == self.people


TestRuleOfTwo = pytest.mark.timeout(600)(RuleOfTwo.TestCase)
TestRuleOfTwo.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
