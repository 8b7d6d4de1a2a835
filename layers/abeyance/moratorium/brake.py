"""The brake: a document of halts that hold beside the flags, deployed at once and past every rollout."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from abeyance.aws.timestamps import rfc3339
from abeyance.moratorium.document import parse
from abeyance.moratorium.errors import FlagsError
from abeyance.moratorium.model import MAX_ITEMS
from abeyance.moratorium.schema import definition
from abeyance.moratorium.vocabulary import ALL, FLAG_KEY

_key = re.compile(FLAG_KEY)


def with_halt(
    document: dict[str, Any],
    key: str,
    *,
    reason: str,
    sectors: Iterable[str] | None = None,
    jurisdictions: Iterable[str] | None = None,
    actions: Iterable[str] | None = None,
    starts: datetime,
) -> dict[str, Any]:
    """Return the brake's document with one halt more, without end and without exemption; ``None`` stands for all.

    Raises ``ValueError`` if there is one of that name, or a word is none of the vocabulary.
    """
    if not _key.fullmatch(key) or key in document["values"]:
        raise ValueError("a halt needs a name of its own: a-z first, then letters, digits, '_' and '-'")
    made = copy.deepcopy(document)
    scopes = {"sectors": sectors, "jurisdictions": jurisdictions, "actions": actions}
    made["flags"][key] = definition(key, reason)
    made["values"][key] = {
        "enabled": True,
        "effect": "halt",
        **{name: list(scope or (ALL,))[:MAX_ITEMS] for name, scope in scopes.items()},
        # From the second that has begun, so that it holds now.
        "starts": rfc3339(starts, "seconds"),
        "on_expiry": "hold",
        "reason": reason,
        "source": "Put on by hand",
    }
    try:
        parse(made)
    except FlagsError as error:
        raise ValueError(str(error)) from None
    return made


def without_halt(document: dict[str, Any], key: str) -> dict[str, Any]:
    """Return the brake's document without one halt; raises ``ValueError`` if there is none of that name."""
    if key not in document["values"]:
        raise ValueError("there is no halt of this name on the brake")
    made = copy.deepcopy(document)
    del made["flags"][key], made["values"][key]
    return made
