"""The fields of a record, pure: the parts that are committed one by one, and can be shown without the others.

::

    id, time, type              the record's own
    body.tenant, body.photo, …  one member of the body each
    body.decision               of a decision: what was decided, when, and by which rules; see :data:`RULING`
    body.decision.tenant, …     every other member of it, each by itself: whom it was about, and where

So it can be shown how often a rule was applied, and with which outcome, and to nobody whom it concerned.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec

#: The member of a body that is committed in parts.
DECISION: Final = "decision"
#: Members of a decision that are one field. A member that is not named here is a field of its own, and so is withheld
#: until somebody shows it.
RULING: Final = frozenset(
    {"action", "as_of", "brake", "clause", "digest", "document_version", "drift", "fault", "flags"}
    | {"human_review", "min_similarity", "outcome"}
)
#: A member of a body that stands there by digest.
BLOB: Final = re.compile(rb'\{"blob":"([0-9a-f]{64})","bytes":([1-9][0-9]{0,9})\}')

_decode_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def is_member_name(name: str) -> bool:
    """Return whether a body may have a member of this name: one that is not the name of a part of a decision."""
    return not name.startswith(f"{DECISION}.")


def body_fields(members: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the fields of a body, by name.

    Parameters
    ----------
    members
        Canonical JSON of every member of the body, by its name.
    """
    fields = {f"body.{name}": value for name, value in members.items()}
    whole = members.get(DECISION, b"")
    if whole[:1] == b"{" and not BLOB.fullmatch(whole):
        ruling = []
        for name, value in _decode_members(whole).items():
            if name in RULING:
                ruling.append(b'"%b":%b' % (name.encode(), value))
            else:
                fields[f"body.{DECISION}.{name}"] = bytes(value)
        fields[f"body.{DECISION}"] = b"{%b}" % b",".join(ruling)
    return fields
