"""The change service: the one way in which flags, brake, guardrails, tenants and links of people change.

::

    submit   takes one person? --> made at once; the ledger gets it as soon as it can
             takes more?       --> ledger --> proposal, against the state now in force
    approve  another person, exactly this change, the same state
             --> ledger --> the last who was missing? --> approved --> made, which uses the approval up
    retry    an approved change whose effect failed, if nothing came in between and it has not expired
    withdraw closes a proposal; anybody may, since it only keeps things as they are

Whatever is refused is on the ledger too: who tried what, and why it was refused.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import structs

from abeyance.aws.table import Conflict, Operation, Table
from abeyance.moratorium.callers import Caller
from abeyance.moratorium.change_log import ChangeRecorder
from abeyance.moratorium.document import instant_text
from abeyance.moratorium.documents import GovernedDocument
from abeyance.moratorium.guardrail_store import GUARDRAILS, GuardrailBroken, GuardrailSubject
from abeyance.moratorium.principals import Links, Principals
from abeyance.moratorium.proposals import (
    APPROVED_S,
    OPEN_S,
    Agreement,
    Proposal,
    ProposalStore,
    change_digest,
    described,
    read_change,
    subject_of,
)
from abeyance.moratorium.subjects import (
    Change,
    ChangeJudgement,
    ChangeRefused,
    ChangeSubject,
    EffectFailed,
    StateChanged,
)

log = logging.getLogger("abeyance")

PROPOSED: Final = "moratorium.proposed"
APPROVED: Final = "moratorium.approved"
APPLIED: Final = "moratorium.applied"
TIGHTENED: Final = "moratorium.tightened"
WITHDRAWN: Final = "moratorium.withdrawn"
FAILED: Final = "moratorium.failed"
REFUSED: Final = "moratorium.refused"

_MAX_NOTE: Final = 1000


class ChangeService:
    """See the module.

    Parameters
    ----------
    table
        The service's own table.
    principals
        Who is whom.
    changes
        The way onto the ledger.
    documents
        Flags and brake, by name.
    guardrails
        What none of the flags may break.
    subjects
        Everything else that changes, by name.
    record
        Puts the document of a change on the ledger, if it has one.
    """

    def __init__(
        self,
        table: Table,
        principals: Principals,
        changes: ChangeRecorder,
        documents: Mapping[str, GovernedDocument],
        guardrails: GuardrailSubject,
        subjects: Mapping[str, ChangeSubject],
        record: Callable[[Change], object],
        clock: Callable[[], datetime],
    ) -> None:
        self._record = record
        self._table = table
        self._principals = principals
        self._changes = changes
        self._store = ProposalStore(table)
        self.documents = documents
        self.guardrails = guardrails
        self._subjects: Mapping[str, ChangeSubject] = {**documents, GUARDRAILS: guardrails, **subjects}
        self._clock = clock

    def require_person(self, caller: Caller) -> None:
        """Raise ``NotAPerson`` for a caller who is nobody's principal, and could propose nothing."""
        _agreement(self._principals.read(), caller)

    def submit(self, caller: Caller, change: Change, *, note: str = "", wait: bool = False) -> Proposal:
        """Make a change that takes one person at once, or store it for others to approve.

        Parameters
        ----------
        wait
            Propose also what could be made at once.

        Returns
        -------
        Proposal
            ``applied`` or ``proposed``. A change that was made at once has no approvers.
        """
        note = note.strip()[:_MAX_NOTE]
        links = self._principals.read()
        judgement = self._subject(change).judge(change)
        proposal = Proposal(
            id=secrets.token_hex(6),
            state="proposed",
            change=change,
            digest=change_digest(change),
            base=judgement.base,
            kind=judgement.kind,
            people=max(judgement.people, _PROPOSED_PEOPLE),
            proposer=_agreement(links, caller),
            note=note,
            proposed_at=instant_text(self._clock()),
            until_s=int(self._clock().timestamp()) + OPEN_S,
        )
        if judgement.people == 1 and not wait:
            return self._make_at_once(proposal, judgement)
        if judgement.refusal:
            raise ChangeRefused(judgement.refusal)
        if not proposal.proposer.person:
            raise ChangeRefused(_NOT_LINKED)
        self._changes.require(PROPOSED, proposal.entry())
        self._table.transact([self._store.write(proposal)])
        return proposal

    def approve(self, caller: Caller, proposal_id: str, digest: str) -> Proposal:
        """Agree to exactly the change of this digest, as another person; the last who is missing makes it.

        Raises
        ------
        ChangeRefused
            If the rules do not allow it; the message says what they do allow.
        EffectFailed
            If it is approved and could not be made; :meth:`retry` makes it.
        """
        proposal, links = self._store.get(proposal_id), self._principals.read()
        self._require_open(proposal, "proposed")
        if digest != proposal.digest or digest != change_digest(proposal.change):
            raise ChangeRefused("the digest is not that of the proposed change; look at it again")
        approver = _agreement(links, caller)
        if not approver.person:
            raise ChangeRefused(_NOT_LINKED)
        for one in proposal.agreements:
            if links.person(one.principal) != one.person:
                raise ChangeRefused("somebody who agreed is linked to somebody else by now; propose again")
            if one.person == approver.person:
                raise ChangeRefused("nobody approves their own proposal, or twice; another person has to")
        judgement = self._judge(proposal)
        if judgement.refusal:
            raise ChangeRefused(judgement.refusal)
        approved = structs.replace(
            proposal,
            approvers=(*proposal.approvers, approver),
            kind=judgement.kind,
            people=max(proposal.people, judgement.people),
        )
        if not approved.missing:
            until_s = min(proposal.until_s, int(self._clock().timestamp()) + APPROVED_S)
            approved = structs.replace(approved, state="approved", until_s=until_s)
        self._changes.require(APPROVED, approved.entry())
        approved = self._write(approved, self._principals.unchanged(links))
        return approved if approved.missing else self._make(approved, judgement)

    def retry(self, caller: Caller, proposal_id: str) -> Proposal:
        """Make an approved change whose effect failed. Nothing may have come in between; nothing new is approved."""
        proposal = self._store.get(proposal_id)
        if proposal.state == "applied" and proposal.result.get("pending"):
            self._require_time(proposal)
            result = self._document(proposal).retry(proposal.id)
            return self._write(structs.replace(proposal, result=result))
        self._require_open(proposal, "approved")
        if self._is_made(proposal):
            return self._write(structs.replace(proposal, state="applied"))
        return self._make(proposal, self._judge(proposal))

    def withdraw(self, caller: Caller, proposal_id: str) -> Proposal:
        """Close a proposal that is not in effect."""
        proposal = self._store.get(proposal_id)
        pending = proposal.state == "applied" and bool(proposal.result.get("pending"))
        if proposal.state not in ("proposed", "approved") and not pending:
            raise ChangeRefused(f"the proposal is {proposal.state}; nothing is left to withdraw")
        if proposal.state == "approved" and self._is_made(proposal):
            raise ChangeRefused("it is in effect; retry it to close it")
        withdrawn = structs.replace(proposal, state="withdrawn", result={})
        body = {**withdrawn.entry(), "by": _principal(caller)}
        entry = self._changes.later(WITHDRAWN, body)
        if pending:
            self._document(proposal).abandon(proposal.id, [self._store.write(withdrawn), entry])
            withdrawn = structs.replace(withdrawn, revision=withdrawn.revision + 1)
        else:
            withdrawn = self._write(withdrawn, entry)
        self._changes.flush()
        return withdrawn

    def get(self, proposal_id: str) -> Proposal:
        """Return one proposal; raises ``ChangeRefused`` if there is none of that id."""
        return self._store.get(proposal_id)

    def all(self) -> list[Proposal]:
        """Return every proposal, oldest first."""
        return self._store.all()

    def people(self) -> Links:
        """Return who is whom."""
        return self._principals.read()

    def refused(self, caller: Caller | None, request: Mapping[str, Any], error: Exception) -> None:
        """Put an attempt that was refused on the ledger, or into the outbox."""
        body = {
            "by": None if caller is None else _principal(caller),
            "do": str(request.get("do", ""))[:40],
            "proposal": str(request.get("id", ""))[:40],
            "because": str(error)[:500],
            "error": type(error).__name__,
        }
        if isinstance(error, GuardrailBroken):
            body |= self._broken(request, error)
        self._changes.keep(REFUSED, body)

    def _broken(self, request: Mapping[str, Any], error: GuardrailBroken) -> dict[str, Any]:
        """Return what it takes to find again that guardrails are broken, and put the refused document on the ledger."""
        proposal = str(request.get("id", ""))
        change = self._store.get(proposal).change if proposal else read_change(request.get("change"))
        try:
            self._record(change)
        except Exception as failure:  # noqa: BLE001 - the refusal stands, and is noted without the text
            log.warning("a refused document is not on the ledger", extra={"error": type(failure).__name__})
        return {
            **described(change),
            "guardrails": error.guardrails,
            "as_of": error.as_of,
            "verbs": error.verbs,
            "decided": error.decided,
        }

    def watch(self) -> dict[str, Any]:
        """Keep the records in step with their stores, and send what waits for the ledger. The task of every minute."""
        now_s = self._clock().timestamp()
        for document in self.documents.values():
            record = document.watch().record
            if record.phase == "pending" and record.loosening and record.proposal:
                # Nobody published it in its time: the document before it stays.
                proposal = self._store.get(record.proposal)
                if now_s >= proposal.until_s:
                    withdrawn = structs.replace(proposal, state="withdrawn", result={})
                    entry = self._changes.later(WITHDRAWN, {**withdrawn.entry(), "by": None})
                    document.abandon(proposal.id, [self._store.write(withdrawn), entry])
        guardrails = self.guardrails.watch()
        self._changes.flush()
        phases = {name: document.refresh().record.phase for name, document in self.documents.items()}
        return {**phases, GUARDRAILS: guardrails}

    def _make_at_once(self, proposal: Proposal, judgement: ChangeJudgement) -> Proposal:
        """Make a change that takes one person. Its entry is written with it and sent after it."""
        made = structs.replace(proposal, state="applied")
        subject = self._subject(proposal.change)
        entry = self._changes.later(TIGHTENED, {**made.entry(), **described(proposal.change)})
        try:
            result = subject.apply(
                proposal.change,
                judgement,
                "",
                f"{proposal.kind}. {proposal.note}",
                [entry, *judgement.holds_if],
            )
        except StateChanged:
            self._changes.keep(FAILED, made.entry())
            raise
        self._changes.flush()
        return structs.replace(made, result=result)

    def _make(self, approved: Proposal, judgement: ChangeJudgement) -> Proposal:
        """Make an approved change; the same transaction uses the approval up."""
        subject = self._subject(approved.change)
        used = structs.replace(approved, state="applied", result={"pending": True})
        also: list[Operation] = [self._store.write(used), self._changes.later(APPLIED, used.entry())]
        also += judgement.holds_if
        used = structs.replace(used, revision=used.revision + 1)
        note = f"{approved.kind}, proposal {approved.id}. {approved.note}"
        try:
            result = subject.apply(approved.change, judgement, approved.id, note, also)
        except EffectFailed:
            self._changes.keep(FAILED, used.entry())
            raise
        self._changes.flush()
        return self._write(structs.replace(used, result=result))

    def _judge(self, proposal: Proposal) -> ChangeJudgement:
        judgement = self._subject(proposal.change).judge(proposal.change)
        if judgement.base != proposal.base:
            raise StateChanged
        return judgement

    def _is_made(self, proposal: Proposal) -> bool:
        return self._subject(proposal.change).is_made(proposal.change, proposal.base)

    def _subject(self, change: Change) -> ChangeSubject:
        return self._subjects[subject_of(change)]

    def _document(self, proposal: Proposal) -> GovernedDocument:
        try:
            return self.documents[proposal.subject]
        except KeyError:
            raise ChangeRefused("it is in effect; nothing is left to do") from None

    def _require_open(self, proposal: Proposal, state: str) -> None:
        found = proposal.state_at(self._clock().timestamp())
        if found != state:
            raise ChangeRefused(f"the proposal is {found}; only one that is {state} allows this")

    def _require_time(self, proposal: Proposal) -> None:
        if self._clock().timestamp() >= proposal.until_s:
            raise ChangeRefused("its approval has expired; propose again")

    def _write(self, proposal: Proposal, *also: Operation) -> Proposal:
        try:
            self._table.transact([self._store.write(proposal), *also])
        except Conflict as conflict:
            if any(conflict.failed):
                raise ChangeRefused(
                    "somebody else decided on this proposal meanwhile; look at it again"
                ) from None
            raise
        return structs.replace(proposal, revision=proposal.revision + 1)


#: A proposal is for somebody else to approve, also if one person could have made the change.
_PROPOSED_PEOPLE: Final = 2
_NOT_LINKED: Final = (
    "you are not linked to a person; two others have to agree who you are before you can agree to anything"
)


def _agreement(links: Links, caller: Caller) -> Agreement:
    return Agreement(caller.principal, links.person(caller.principal))


def _principal(caller: Caller) -> dict[str, Any]:
    return dict(msgspec.to_builtins(caller))
