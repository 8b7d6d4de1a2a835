"""Proposals: one exact change on one exact state, agreed to by everybody it takes, used once, and only for a time.

Items ``proposal#<id>`` / ``proposal`` of the change service's table. ``state`` is what decided about a proposal last;
whether it has expired follows from the moment.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct, structs

from abeyance.aws.table import PARTITION, SORT, Item, Put, Table
from abeyance.moratorium.changes import ChangeKind
from abeyance.moratorium.document import canonical_digest, document_digest, parse, without_metadata
from abeyance.moratorium.subjects import (
    AuditChange,
    BrakeChange,
    Change,
    ChangeRefused,
    DocumentChange,
    FlagsChange,
)

State = Literal["proposed", "approved", "applied", "withdrawn"]
#: Seconds for which a proposal can be approved, and an approved one published.
OPEN_S: Final = 14 * 86_400
APPROVED_S: Final = 86_400
_PROPOSAL: Final = "proposal"


class Agreement(Struct, frozen=True):
    """A principal, and the person that it was at that moment."""

    principal: str
    person: str


class Proposal(Struct, frozen=True, kw_only=True):
    """One change that somebody wants.

    Attributes
    ----------
    digest : str
        SHA-256 of the canonical change: what is approved.
    base : str
        The state of its subject that it was made against.
    people : int
        Distinct people who have to agree, the proposer among them.
    proposer, approvers
        The people who have agreed so far.
    until_s : int
        Epoch seconds from which on it can be neither approved nor, once approved, published.
    revision : int
        Counts the writes.
    """

    id: str
    state: State
    change: Change
    digest: str
    base: str
    kind: ChangeKind
    people: int
    proposer: Agreement
    approvers: tuple[Agreement, ...] = ()
    note: str = ""
    proposed_at: str
    until_s: int
    result: dict[str, Any] = {}
    revision: int = 0

    @property
    def agreements(self) -> tuple[Agreement, ...]:
        """Everybody who has agreed: the proposer, then the approvers."""
        return self.proposer, *self.approvers

    @property
    def missing(self) -> int:
        """The number of people who still have to approve."""
        return max(0, self.people - len(self.agreements))

    @property
    def subject(self) -> str:
        """The subject of the change: flags, brake, guardrails, tenant, link, unlink."""
        return subject_of(self.change)

    def state_at(self, now_s: float) -> str:
        """Return the state at a moment: ``expired`` for one that can be neither approved nor published any more."""
        return "expired" if self.state in ("proposed", "approved") and now_s >= self.until_s else self.state

    def entry(self) -> dict[str, Any]:
        """Return the body for the ledger: the digest of a document, and any other change whole."""
        body: dict[str, Any] = {
            "proposal": self.id,
            "subject": self.subject,
            "digest": self.digest,
            "base": self.base,
            "kind": str(self.kind),
            "people": self.people,
            "proposer": msgspec.to_builtins(self.proposer),
            "approvers": msgspec.to_builtins(self.approvers),
            "note": self.note,
        }
        return {**body, **described(self.change)}


class ProposalStore:
    """The proposals in the change service's table."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def get(self, proposal_id: str) -> Proposal:
        """Return one proposal; raises ``ChangeRefused`` if there is none of that id."""
        item = self._table.get((f"proposal#{proposal_id}", _PROPOSAL))
        if item is None:
            raise ChangeRefused("there is no proposal of this id")
        return _proposal(item)

    def all(self) -> list[Proposal]:
        """Return every proposal, oldest first."""
        found = [_proposal(item) for item in self._table.scan({SORT: _PROPOSAL})]
        return sorted(found, key=lambda proposal: (proposal.proposed_at, proposal.id))

    @staticmethod
    def write(proposal: Proposal) -> Put:
        """Return the operation that stores a proposal in the place of the one that it was made from.

        What was decided about may not have changed since it was read: revision and digest are compared.
        """
        item = _item(structs.replace(proposal, revision=proposal.revision + 1))
        if proposal.revision == 0:
            return Put(item, absent=True)
        return Put(item, expect={"revision": proposal.revision, "digest": proposal.digest})


def subject_of(change: Change) -> str:
    """Return the subject of a change."""
    return str(type(change).__struct_config__.tag)


def read_change(value: Any) -> Change:
    """Return the change that a request names; raises ``ChangeRefused``."""
    try:
        change: Change = msgspec.convert(value, Change)
    except (msgspec.ValidationError, ValueError) as error:
        raise ChangeRefused(f"this is no change: {error}") from None
    if isinstance(change, DocumentChange):
        return structs.replace(change, document=without_metadata(change.document))
    return change


def change_digest(change: Change) -> str:
    """Return the SHA-256 of a change's canonical JSON (RFC 8785)."""
    return canonical_digest(msgspec.to_builtins(change))


def described(change: Change) -> Mapping[str, Any]:
    """Return the part of an entry that describes a change.

    Of a document these are its digest, which is the key of its text beside the ledger, and what decisions name.
    """
    if isinstance(change, (FlagsChange, BrakeChange)):
        return {"document": document_digest(change.document), "flags": parse(change.document).digest}
    if isinstance(change, DocumentChange):
        return {"document": document_digest(change.document)}
    if isinstance(change, AuditChange):
        return {"audit": hashlib.sha256(change.note.encode()).hexdigest()}
    return {"change": msgspec.to_builtins(change)}


def _item(proposal: Proposal) -> Item:
    body = zlib.compress(msgspec.json.encode(structs.replace(proposal, revision=0)))
    return {
        PARTITION: f"proposal#{proposal.id}",
        SORT: _PROPOSAL,
        "body": body,
        "digest": proposal.digest,
        "revision": proposal.revision,
    }


def _proposal(item: Item) -> Proposal:
    proposal = msgspec.json.decode(zlib.decompress(item["body"]), type=Proposal)
    return structs.replace(proposal, revision=int(item["revision"]))
