"""Two principals to loosen, one to tighten.

::

    tighten  -- not looser? --> record --> publish at once
    propose  -- valid? -------> record --> stored, against the flags now in force
    approve  -- another principal, exactly this document, the same flags still in force
             -----------------> record --> stored --> publish gradually --> record

Every step is put on the ledger *before* it takes effect; if the ledger does not take it, the step does not
happen. A step whose effect then fails is followed by a record that says so.

Table: ``proposal#<id>`` / ``proposal`` holds a proposal, and ``approval#<document digest>`` / ``<base
digest>`` an approval, which is what the AppConfig validator looks for. Approvals are for one document
against one base: neither can be used for another, and both are gone from use as soon as anything else is in
force.
"""

from __future__ import annotations

import json
import secrets
import zlib
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, Literal

from msgspec import Struct, structs

from abeyance.aws.timestamps import utc_now
from abeyance.moratorium.changes import Change, ChangeKind, classify
from abeyance.moratorium.document import document_digest, instant_text, parse, without_metadata
from abeyance.moratorium.errors import MoratoriumError
from abeyance.moratorium.publish import FlagPublisher
from abeyance.moratorium.source import Clock
from abeyance.moratorium.tenants import canonical_principal
from abeyance.moratorium.validate import check

#: Puts a step on the ledger, or raises.
Record = Callable[[str, dict[str, Any]], None]
State = Literal["proposed", "approved", "published", "withdrawn"]

PROPOSED: Final = "moratorium.proposed"
APPROVED: Final = "moratorium.approved"
PUBLISHED: Final = "moratorium.published"
TIGHTENED: Final = "moratorium.tightened"
WITHDRAWN: Final = "moratorium.withdrawn"
FAILED: Final = "moratorium.failed"


class ProposalRefused(MoratoriumError):
    """A step that the rules do not allow; the message says what would be allowed."""


class Proposal(Struct, frozen=True, kw_only=True):
    """One document that somebody wants to have in force.

    Attributes
    ----------
    document_digest : str
        SHA-256 of the canonical document: what is approved.
    base : str
        ``FlagSet.digest`` of what was in force when it was proposed.
    proposer, approver : str
        Canonical principals; ``approver`` is "" until somebody approves.
    """

    id: str
    state: State
    document: dict[str, Any]
    document_digest: str
    base: str
    kind: ChangeKind
    proposer: str
    approver: str = ""
    note: str = ""
    proposed_at: str
    approved_at: str = ""
    version: str = ""


class Proposals:
    """The rules, over a DynamoDB table with string keys ``pk`` and ``sk``.

    Parameters
    ----------
    client : boto3 ``dynamodb`` client
    table : str
    publisher : FlagPublisher
        Where documents come into force.
    record : callable
        ``record(type, body)`` puts a step on the ledger and raises if it cannot; then nothing happens.
    places : callable
        Jurisdictions of registered tenants, for the check of a document.
    """

    def __init__(
        self,
        client: Any,
        table: str,
        publisher: FlagPublisher,
        record: Record,
        *,
        clock: Clock = utc_now,
        places: Callable[[], frozenset[str]] = frozenset,
    ) -> None:
        self._client = client
        self._table = table
        self._publisher = publisher
        self._record = record
        self._clock = clock
        self._places = places

    def tighten(self, document: dict[str, Any], principal: str, *, note: str = "") -> str:
        """Put a document that loosens nothing into force at once; returns its version.

        Raises ``ProposalRefused`` if it loosens anything, ``PublishConflict`` if somebody else published
        meanwhile.
        """
        principal = canonical_principal(principal)
        base, change = self._compare(document)
        if change.kind is ChangeKind.LOOSENING:
            raise ProposalRefused("this loosens; propose it, and have another principal approve it")
        body = {
            "principal": principal,
            "document": document_digest(document),
            "base": base,
            "kind": str(change.kind),
            "note": note,
        }
        self._record(TIGHTENED, body)
        return self._publish(
            document, base, body, gradual=False, note=f"{change.kind} by {principal}. {note}"
        )

    def propose(self, document: dict[str, Any], principal: str, *, note: str = "") -> Proposal:
        """Store a document for another principal to approve, against the flags now in force.

        Raises ``ProposalRefused`` if it is not valid.
        """
        base, change = self._compare(document)
        proposal = Proposal(
            id=secrets.token_hex(6),
            state="proposed",
            document=without_metadata(document),
            document_digest=document_digest(document),
            base=base,
            kind=change.kind,
            proposer=canonical_principal(principal),
            note=note,
            proposed_at=instant_text(self._now()),
        )
        self._record(PROPOSED, _body(proposal))
        self._client.put_item(
            TableName=self._table, Item=_item(proposal), ConditionExpression="attribute_not_exists(pk)"
        )
        return proposal

    def approve(self, proposal_id: str, principal: str, digest: str) -> Proposal:
        """Approve a proposal and put it into force.

        Parameters
        ----------
        digest : str
            The document digest that the approver has seen; the proposal's must be the same.

        Raises
        ------
        ProposalRefused
            If the approver is the proposer, the digest is another, the proposal is not open, or other flags
            are in force than those it was proposed against.
        """
        proposal = self.get(proposal_id)
        approver = canonical_principal(principal)
        if proposal.state != "proposed":
            raise ProposalRefused(f"the proposal is {proposal.state}; only an open one can be approved")
        if approver == proposal.proposer:
            raise ProposalRefused("nobody approves their own proposal; another principal has to")
        if digest != proposal.document_digest or digest != document_digest(proposal.document):
            raise ProposalRefused("the digest is not that of the proposed document; look at it again")
        base, change = self._compare(proposal.document)
        if base != proposal.base:
            raise ProposalRefused(
                "other flags are in force than those it was proposed against; propose again"
            )
        approved = structs.replace(
            proposal,
            state="approved",
            approver=approver,
            approved_at=instant_text(self._now()),
            kind=change.kind,
        )
        self._record(APPROVED, _body(approved))
        self._store_approval(approved)
        return self._bring_into_force(approved)

    def resume(self, proposal_id: str) -> Proposal:
        """Publish an approved proposal whose publishing failed; nothing new is approved by it."""
        proposal = self.get(proposal_id)
        if proposal.state != "approved":
            raise ProposalRefused(f"the proposal is {proposal.state}; only an approved one can be published")
        return self._bring_into_force(proposal)

    def withdraw(self, proposal_id: str, principal: str) -> Proposal:
        """Close an open proposal; anybody may, since it only keeps things as they are."""
        proposal = self.get(proposal_id)
        withdrawn = structs.replace(proposal, state="withdrawn")
        self._record(WITHDRAWN, {**_body(withdrawn), "principal": canonical_principal(principal)})
        self._put(withdrawn, expected="proposed")
        return withdrawn

    def get(self, proposal_id: str) -> Proposal:
        """Return one proposal; raises ``ProposalRefused`` if there is none of that id."""
        answer = self._client.get_item(
            TableName=self._table,
            Key={"pk": {"S": f"proposal#{proposal_id}"}, "sk": {"S": "proposal"}},
            ConsistentRead=True,
        )
        if "Item" not in answer:
            raise ProposalRefused("there is no proposal of this id")
        return _proposal(answer["Item"])

    def all(self) -> list[Proposal]:
        """Return every proposal, oldest first."""
        pages = self._client.get_paginator("scan").paginate(
            TableName=self._table,
            ConsistentRead=True,
            FilterExpression="sk = :proposal",
            ExpressionAttributeValues={":proposal": {"S": "proposal"}},
        )
        found = [_proposal(item) for page in pages for item in page["Items"]]
        return sorted(found, key=lambda proposal: (proposal.proposed_at, proposal.id))

    def _now(self) -> datetime:
        return self._clock()

    def _compare(self, document: dict[str, Any]) -> tuple[str, Change]:
        findings = check(document, places=self._places())
        if findings:
            raise ProposalRefused(
                "; ".join(f"{finding.flag}: {finding.message}".removeprefix(": ") for finding in findings)
            )
        in_force = self._publisher.current().flags
        return in_force.digest, classify(in_force, parse(document), since=self._now())

    def _bring_into_force(self, approved: Proposal) -> Proposal:
        version = self._publish(
            approved.document,
            approved.base,
            _body(approved),
            gradual=approved.kind is ChangeKind.LOOSENING,
            note=f"{approved.kind}, proposal {approved.id}. {approved.note}",
        )
        published = structs.replace(approved, state="published", version=version)
        self._put(published, expected="approved")
        self._record(PUBLISHED, _body(published))
        return published

    def _publish(
        self, document: dict[str, Any], base: str, body: dict[str, Any], *, gradual: bool, note: str
    ) -> str:
        try:
            return self._publisher.publish(document, base=base, gradual=gradual, note=note.strip())
        except Exception:
            self._record(FAILED, body)
            raise

    def _store_approval(self, approved: Proposal) -> None:
        """Store the approved proposal and its approval in one transaction."""
        approval = {
            "pk": {"S": f"approval#{approved.document_digest}"},
            "sk": {"S": approved.base},
            "proposal": {"S": approved.id},
            "proposer": {"S": approved.proposer},
            "approver": {"S": approved.approver},
        }
        try:
            self._client.transact_write_items(
                TransactItems=[
                    {"Put": self._conditional_put(approved, "proposed")},
                    {"Put": {"TableName": self._table, "Item": approval}},
                ]
            )
        except self._client.exceptions.TransactionCanceledException:
            self._record(FAILED, _body(approved))
            raise ProposalRefused(
                "somebody else decided on this proposal meanwhile; look at it again"
            ) from None

    def _put(self, proposal: Proposal, *, expected: State) -> None:
        try:
            self._client.put_item(**self._conditional_put(proposal, expected))
        except self._client.exceptions.ConditionalCheckFailedException:
            raise ProposalRefused(
                "somebody else decided on this proposal meanwhile; look at it again"
            ) from None

    def _conditional_put(self, proposal: Proposal, expected: State) -> dict[str, Any]:
        # The document is compared too: nothing that was approved may have changed since it was read.
        return {
            "TableName": self._table,
            "Item": _item(proposal),
            "ConditionExpression": "#state = :expected AND document_digest = :digest",
            "ExpressionAttributeNames": {"#state": "state"},
            "ExpressionAttributeValues": {
                ":expected": {"S": expected},
                ":digest": {"S": proposal.document_digest},
            },
        }


def is_approved(client: Any, table: str, digest: str, base: str) -> bool:
    """Return whether two different principals proposed and approved a document against a base."""
    answer = client.get_item(
        TableName=table, Key={"pk": {"S": f"approval#{digest}"}, "sk": {"S": base}}, ConsistentRead=True
    )
    item = answer.get("Item")
    if item is None:
        return False
    proposer, approver = item["proposer"]["S"], item["approver"]["S"]
    return bool(proposer) and bool(approver) and proposer != approver


def _body(proposal: Proposal) -> dict[str, Any]:
    """Return the body for the ledger: digests, not the document."""
    return {
        "proposal": proposal.id,
        "document": proposal.document_digest,
        "base": proposal.base,
        "kind": str(proposal.kind),
        "proposer": proposal.proposer,
        "approver": proposal.approver,
        "note": proposal.note,
        "version": proposal.version,
    }


_TEXTS = tuple(name for name in Proposal.__struct_fields__ if name not in ("document",))


def _item(proposal: Proposal) -> dict[str, Any]:
    packed = zlib.compress(json.dumps(proposal.document, ensure_ascii=False).encode())
    return {
        "pk": {"S": f"proposal#{proposal.id}"},
        "sk": {"S": "proposal"},
        "document": {"B": packed},
        **{name: {"S": str(getattr(proposal, name))} for name in _TEXTS},
    }


def _proposal(item: dict[str, Any]) -> Proposal:
    texts: dict[str, Any] = {name: item[name]["S"] for name in _TEXTS}
    texts["kind"] = ChangeKind(texts["kind"])
    return Proposal(document=json.loads(zlib.decompress(item["document"]["B"])), **texts)
