"""Replay: a recorded decision made again, from the log alone. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec

from abeyance.assurance.certificate import RulingPart
from abeyance.assurance.rulings import NO_FLAGS, Documents
from abeyance.moratorium.decide import Clause, Decision, decide, rebuild
from abeyance.moratorium.document import FlagSet

#: Decisions that came out otherwise and are named; the others are only counted.
_MAX_NAMED: Final = 20


class Replay:
    """The decisions of a range, made again.

    Parameters
    ----------
    documents
        The flags documents on the log.
    """

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._joined: dict[tuple[str, ...], FlagSet | None] = {}
        self.same = self.different = self.faults = self.left_out = 0
        self.named: list[int] = []

    def decide(self, index: int, recorded: bytes) -> None:
        """Make one decision again and compare it.

        Parameters
        ----------
        index
            Of its entry.
        recorded
            Its canonical JSON, whole.
        """
        try:
            before = msgspec.json.decode(recorded, type=Decision)
            if before.clause is Clause.FAULT or before.fault:
                self.faults += 1
                return
            flags = self._flags(before)
            after = (
                None
                if flags is None
                else decide(rebuild(before), flags, datetime.fromisoformat(before.as_of))
            )
        except (msgspec.MsgspecError, ValueError):
            after = None
        if after is None:
            self.left_out += 1
        elif _result(after) == _result(before):
            self.same += 1
        else:
            self.different += 1
            if len(self.named) < _MAX_NAMED:
                self.named.append(index)

    def stated(self) -> dict[str, object]:
        """Return the numbers for a certificate: ``faults`` are denials because no decision could be made."""
        return {
            "same": self.same,
            "different": self.different,
            "faults": self.faults,
            "left_out": self.left_out,
            "entries": self.named,
        }

    def _flags(self, before: Decision) -> FlagSet | None:
        """Return the flags that decided, joined as they were; ``None`` if a document is not on the log."""
        parts = [RulingPart(part.key, part.version, part.effect, part.clause) for part in before.flags]
        prefixed = tuple(f"{part.key}@{part.version}" for part in parts if ":" in part.key)
        made_of = (before.digest, before.brake, before.drift, *prefixed)
        if made_of not in self._joined:
            self._joined[made_of] = self._join(before, parts)
        return self._joined[made_of]

    def _join(self, before: Decision, parts: list[RulingPart]) -> FlagSet | None:
        flags = self._documents.get(before.digest)
        brake = self._documents.get(before.brake) if before.brake else NO_FLAGS
        if flags is None or brake is None:
            return None
        others = [("brake:", brake)]
        if before.drift and (agreed := self._documents.get(before.drift)) is not None:
            others.append(("agreed:", agreed))
        for part in parts:
            prefix = part.key[: part.key.rfind(":") + 1]
            if prefix and prefix not in dict(others):
                # What was agreed and not handed out yet: the decision names its flags, and not the document.
                held = self._documents.holding(part)
                if held is None:
                    return None
                others.append((prefix, held))
        # A copy, because the version that a source gives to a document is no part of the document.
        named = FlagSet(flags.flags, flags.disabled, before.document_version)
        return named.joined(others, brake=before.brake, drift=before.drift)


def _result(decision: Decision) -> tuple[object, ...]:
    return (
        decision.outcome,
        decision.clause,
        decision.flags,
        decision.min_similarity,
        decision.human_review,
    )
