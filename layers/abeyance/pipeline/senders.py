"""The senders of the ledger, and the types of each. Two ways lead to its queue, and each sender has only its own types.

- The bus: IAM lets each role put only its own detail types (``infra/permissions.toml``), and the queue's policy lets
  only EventBridge and the roles below send. An event comes in EventBridge's envelope.
- Directly, for a decision that a caller waits for: SQS attests the sender's role in ``SenderId``, which begins with the
  role's unique id. A direct sender's message is a record, never an envelope.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from abeyance.ledger.errors import Inadmissible

#: What each role may send directly: types, or beginnings of types that end with a dot.
DIRECT_TYPES: Final[Mapping[str, tuple[str, ...]]] = {
    "api": ("decision", "management"),
    "console": ("review.", "person."),
    "flags": ("moratorium.",),
}


class Senders:
    """The roles of a deployment that send directly, by their unique ids.

    Parameters
    ----------
    roles
        ``<unique id>=<role>`` of each, separated by blanks; empty on one machine, where nobody attests a sender.
    """

    def __init__(self, roles: str = "") -> None:
        self._roles = dict(part.split("=", 1) for part in roles.split())

    def check(self, sender: str, envelope: Mapping[str, Any]) -> None:
        """Check that a sender may send this message.

        Parameters
        ----------
        sender
            SQS's ``SenderId``: a role's unique id, a colon and the session's name; or the id of the service.
        envelope
            The message: an event in EventBridge's envelope, or a record.

        Raises
        ------
        Inadmissible
            It may not; the text names no value of the message.
        """
        if not self._roles:
            return
        role = self._roles.get(sender.partition(":")[0], "")
        event = "detail-type" in envelope
        if event and role:
            raise Inadmissible(f"sender: {role} sent an event past the bus; put it on the bus")
        if event:
            return
        if not role:
            raise Inadmissible("sender: a record from a sender that is none of the deployment's roles")
        kind = envelope.get("type")
        allowed = DIRECT_TYPES.get(role, ())
        if not isinstance(kind, str) or not any(
            kind.startswith(one) if one.endswith(".") else kind == one for one in allowed
        ):
            raise Inadmissible(f"sender: {role} sent a record of a type that is not its own")
