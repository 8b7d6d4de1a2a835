"""A log of a halt that was in force for some days, and its certificate, for tests of certificates."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import rfc8785
from tests.logs import ORIGIN, Log, signer

from abeyance.assurance.certificate import certificate_key_name
from abeyance.assurance.certifier import Certified, Certifier
from abeyance.assurance.reconcile import Reconciliation
from abeyance.ledger.checkpoint import LogCheckpoint
from abeyance.ledger.documents import DOCUMENT
from abeyance.ledger.entry import Record, blob_value, make_entry
from abeyance.ledger.policy import Policy
from abeyance.ledger.signatures import SIGN, SignerKey
from abeyance.moratorium.decide import Request, decide
from abeyance.moratorium.document import FlagSet, parse
from abeyance.moratorium.presets import new_deployment
from abeyance.moratorium.service import APPLIED
from abeyance.moratorium.tenants import Tenant

BEGUN = datetime(2026, 6, 1, 8, tzinfo=UTC)
CERTIFICATES: SignerKey = signer(certificate_key_name(ORIGIN), 500)
FLAG = "police_halt"

_ALL = ("index", "search")
TENANTS = {
    "police": Tenant(
        id="springfield-police",
        sector="law_enforcement",
        jurisdiction="US-OR",
        actions=_ALL,
        purposes=("criminal_investigation",),
        status="active",
    ),
    "missing": Tenant(
        id="icmec",
        sector="law_enforcement_support",
        jurisdiction="US",
        actions=_ALL,
        purposes=("missing_children",),
        status="active",
    ),
    "company": Tenant(
        id="acme",
        sector="commercial",
        jurisdiction="US",
        actions=_ALL,
        purposes=("access_control",),
        status="active",
    ),
}


class Halt:
    """A log with the documents of a halt and the decisions under it.

    Parameters
    ----------
    witnesses
        Number of witnesses.
    """

    def __init__(self, witnesses: int = 2) -> None:
        self.log = Log(witnesses=witnesses)
        self.flags = self.document(new_deployment(), 1)
        self.at = BEGUN
        self.number = 0

    def document(self, document: dict[str, Any], generation: int) -> FlagSet:
        """Put a flags document and the agreement of two people to it on the log."""
        flags, text = parse(document), rfc8785.dumps(document)
        key, value = blob_value(text)
        self.log.objects.put_new(key, text)
        body = {"flags": flags.digest, "document": value["blob"], "content": value}
        people = [{"principal": f"arn:aws:iam::1:user/{name}", "person": name} for name in ("clara", "david")]
        agreed = {
            "proposal": f"p{generation}",
            "subject": "flags",
            "digest": "0" * 64,
            "kind": "loosening",
            "people": 2,
            "proposer": people[0],
            "approvers": people[1:],
            "note": "as the council decided",
            "document": value["blob"],
            "flags": flags.digest,
        }
        self.append(Record(f"document:{generation}", DOCUMENT, "2026-06-01T07:00:00Z", body))
        self.append(Record(f"moratorium:{generation}", APPLIED, "2026-06-01T07:01:00Z", agreed))
        return flags

    def append(self, *records: Record) -> None:
        """Append records."""
        size = self.log.edge.size
        self.log.append([make_entry(one, (size + n).to_bytes(16, "big")) for n, one in enumerate(records)])

    def decided(self, count: int, step: timedelta = timedelta(minutes=37)) -> Iterator[Record]:
        """Yield the records of decisions: two of the police, one exempt, one of a company, and a photo that failed."""
        for _ in range(count):
            self.number += 1
            self.at += step
            kind = self.number % 5
            if kind == 4:
                body = {
                    "tenant": "acme",
                    "upload": "u",
                    "stage": "detect",
                    "reason": "NO_FACE",
                    "message": "No face.",
                }
                yield Record(f"upload-rejected:{self.number}", "Upload Rejected", self.at.isoformat(), body)
                continue
            tenant = TENANTS[("police", "police", "missing", "company")[kind]]
            request = Request(
                tenant=tenant,
                tenant_id=tenant.id,
                action=_ALL[self.number % 2],
                purpose=tenant.purposes[0],
            )
            decision = decide(request, self.flags, self.at)
            name = "Upload Permitted" if decision.permitted else "Upload Halted"
            body = {
                "tenant": tenant.id,
                "upload": f"{self.number:032x}",
                "decision": msgspec.to_builtins(decision),
            }
            yield Record(f"{name.lower().replace(' ', '-')}:{self.number}", name, self.at.isoformat(), body)

    def grow(self, count: int) -> LogCheckpoint:
        """Append decisions and sign."""
        self.append(*self.decided(count))
        self.log.now = self.at
        return self.log.checkpoint()

    def reconciled(self) -> Reconciliation:
        """Return a comparison of the whole time, without a gap."""
        return Reconciliation(
            since="2026-06-01T00:00:00.000000Z",
            until="2026-07-01T00:00:00.000000Z",
            entries=self.number,
            traces={"record": self.number},
            gaps=(),
            found=0,
        )

    def policy(self) -> Policy:
        """Return the policy that believes the log, its witnesses and its certificates."""
        return self.log.policy(f"#abeyance: certificates {CERTIFICATES.verifier(SIGN)}")

    def policy_text(self) -> str:
        """Return its text."""
        witnesses = self.log.witnesses
        lines = [
            f"log {self.log.key.verifier(SIGN)}",
            f"#abeyance: certificates {CERTIFICATES.verifier(SIGN)}",
        ]
        lines += [f"witness {w.entry.name} {w.entry.key}" for w in witnesses]
        names = " ".join(w.entry.name for w in witnesses)
        lines += [f"group all-of-them all {names}", "quorum all-of-them"] if names else ["quorum none"]
        return "\n".join(lines) + "\n"

    def certifier(self) -> Certifier:
        """Return what makes certificates of this log."""
        return Certifier(
            self.log.objects,
            self.log.edge.size,
            lambda _: CERTIFICATES.verifier(SIGN),
            CERTIFICATES.sign_bytes,
            lambda: self.at,
        )

    def certify(
        self, first: LogCheckpoint | None, last: LogCheckpoint, disclosed: Collection[str] = ()
    ) -> tuple[Certified, bytes]:
        """Return the certificate of a period and its bundle."""
        out = io.BytesIO()
        made = self.certifier().certify(
            FLAG, first, last, out, disclosed=disclosed, reconciled=[self.reconciled()]
        )
        return made, out.getvalue()
