"""The words in which certificates are explained to people outside, by the names that stand in them."""

from __future__ import annotations

from typing import Final

#: What a finding means; see :func:`abeyance.assurance.certificate.findings`.
FINDINGS: Final = {
    "drift": "Flags were in use that had not been agreed to. The stricter of both was applied.",
    "not-agreed": "For a flags document that decided, the log has no agreement of people.",
    "undocumented": "The flags that made a decision are not on the log.",
    "unread": "A decision stands on the log in a form that cannot be read.",
    "conflict": "One id stands on the log twice, with two contents.",
    "refused": "A record was refused by the log, and stands there only as refused.",
    "differs": "A decision, made again from the log, comes out differently.",
    "not-replayed": "Not every decision could be made again.",
    "not-reconciled": "What happened was not compared with the log for the whole period.",
    "gaps": "Something happened that is not on the log, or the log says something that did not happen.",
}
#: How a document came into force.
AGREED: Final = {
    "approved": "proposed by one person and approved by others",
    "tightened": "put into force by one person, because it only makes things stricter",
    "adopted": "in force when the system started, so whoever installed it decided",
    "": "nobody: the log has no agreement to it",
}
#: Parts of a flag in a decision.
PARTS: Final = {
    "halts": "halted",
    "holds": "halted, past the planned end",
    "needs_authorization": "halted: no authorisation",
    "restricts": "allowed under restrictions",
    "exempts": "exempt from the halt",
    "audited": "not halted: the latest signed audit of the model is within the bounds",
}
OUTCOMES: Final = {"permit": "permitted", "deny": "denied"}
#: The traces that are compared with the log.
TRACES: Final = {
    "record": "records of processing steps",
    "result": "results",
    "face": "faces in galleries",
    "review": "finished reviews",
    "object": "uploaded photos, by Amazon's own log",
}
#: What no certificate can show. Stands on every certificate and on the public page.
LIMITS: Final = (
    "A request that never reached this system. Somebody can run other software, or a copy of this one, elsewhere.",
    "A decision that was never written down, if every store that keeps a trace of it was changed, too.",
    "A false history, if the log's signing key and the keys of all its witnesses were stolen together, and nobody kept "
    "an earlier checkpoint.",
    "That an organisation is what it is registered as. A police force that is registered as a company is not bound by "
    "a halt of the police.",
    "That the rule was applied to every request that it covers. That takes the sector and the place of each request, "
    "which are withheld. The operator states that each decision, made again, came out the same.",
    "That an audit was within the bounds that a rule sets for the model. The operator states it in the same way.",
    "That the operator's own statements are true: they are signed, so that the operator can be held to them.",
)
