"""The policy of who is believed: which keys of the log, and which witnesses (C2SP tlog-policy).

::

    log abeyance/6f2c0e4d9a7b1c35+33d7b496+AeHZ… https://log.example/
    witness north witness.example/north+c74f20a3+BHM1… https://witness.example/north/
    witness south example.org/south+9e1f66d1+BA0c…
    group both all north south
    quorum both
    #abeyance: fresh 24h
    #abeyance: retired abeyance/6f2c0e4d9a7b1c35+d9f4a16e+AcYq… 20852
    #abeyance: certificates abeyance/6f2c0e4d9a7b1c35/certificates+5b0fae21+ARnV…

Other programs that read such policies take the last three lines for comments. ``fresh`` is the greatest age of the
cosignatures that a log may rest on. ``retired`` is a key of the log that was replaced, or stolen, and the size up to
which its signatures are still believed. ``certificates`` is a key that signs certificates about the log, and no
checkpoint.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Final

import msgspec

from abeyance.ledger.errors import LedgerError
from abeyance.ledger.note import NoteError
from abeyance.ledger.signatures import (
    COSIGN,
    SIGN,
    SignedText,
    VerifierKey,
    cosigned_at,
    parse_verifier,
    verify,
)

_DIRECTIVE: Final = "#abeyance:"
_HOURS: Final = re.compile(r"([1-9][0-9]{0,4})h")
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,17}")
NOBODY: Final = "none"
_CLOCK_SKEW_S: Final = 600


class PolicyError(LedgerError, ValueError):
    """A text that is no policy; the message names the line."""


class WitnessEntry(msgspec.Struct, frozen=True):
    """A witness of a policy: its name there, its key, and the URL prefix for submissions where it is known."""

    name: str
    key: VerifierKey
    url: str = ""


class Trust(msgspec.Struct, frozen=True):
    """The trust that a checkpoint deserves by a policy.

    Attributes
    ----------
    signed
        By a key of the log that is believed at this size.
    cosigned
        Time, in seconds since 1970, of the newest good cosignature of every witness, by its name in the policy.
    retired
        Names of keys with a good signature that are not believed at this size any more.
    bad
        Names of keys with a signature that is not good.
    """

    signed: bool
    cosigned: dict[str, int]
    retired: tuple[str, ...]
    bad: tuple[str, ...]


class Policy(msgspec.Struct, frozen=True):
    """A policy; see this module.

    Attributes
    ----------
    logs
        Keys of the log.
    retired
        Keys that are believed up to a size.
    witnesses
        In the order of the file.
    groups
        Name -> how many of which members.
    quorum
        Name of a witness or group, or :data:`NOBODY`.
    fresh
        Greatest age of a quorum's cosignatures; ``None`` for any.
    certificates
        Keys that sign certificates.
    """

    logs: tuple[VerifierKey, ...] = ()
    retired: tuple[tuple[VerifierKey, int], ...] = ()
    witnesses: tuple[WitnessEntry, ...] = ()
    groups: Mapping[str, tuple[int, tuple[str, ...]]] = {}
    quorum: str = NOBODY
    fresh: timedelta | None = None
    certificates: tuple[VerifierKey, ...] = ()

    def judge(self, checkpoint: SignedText, origin: str, size: int, *, now: datetime | None = None) -> Trust:
        """Return whose signatures a checkpoint has.

        A key of another name than the origin is no key of this log. Given ``now``, a cosignature from later than that
        (and some minutes, for clocks) is not good: a witness must not be able to sign for its future.
        """
        latest = None if now is None else now.timestamp() + _CLOCK_SKEW_S
        signed, retired, bad, cosigned = False, [], [], dict[str, int]()
        until = dict.fromkeys(self.logs) | dict(self.retired)
        for signature in checkpoint.signatures:
            for key, last in until.items():
                if (key.name, key.key_id) != (signature.name, signature.key_id) or key.name != origin:
                    continue
                if not verify(checkpoint, signature, key):
                    bad.append(key.name)
                elif last is None or size <= last:
                    signed = True
                else:
                    retired.append(str(key))
            for witness in self.witnesses:
                if (witness.key.name, witness.key.key_id) != (signature.name, signature.key_id):
                    continue
                at = cosigned_at(signature)
                if verify(checkpoint, signature, witness.key) and (latest is None or at <= latest):
                    cosigned[witness.name] = max(at, cosigned.get(witness.name, 0))
                else:
                    bad.append(witness.name)
        return Trust(signed, cosigned, tuple(retired), tuple(bad))

    def witnessed(self, names: Collection[str]) -> bool:
        """Return whether these witnesses fulfil the quorum."""
        return self.quorum == NOBODY or self._fulfilled(self.quorum, names)

    def witnessed_at(self, cosigned: Mapping[str, int]) -> int | None:
        """Return the latest time at or after which a quorum cosigned; ``None`` if it is not fulfilled."""
        for at in sorted(set(cosigned.values()), reverse=True):
            if self.witnessed([name for name, time in cosigned.items() if time >= at]):
                return at
        return 0 if self.quorum == NOBODY else None

    def _fulfilled(self, name: str, names: Collection[str]) -> bool:
        if name not in self.groups:
            return name in names
        least, members = self.groups[name]
        return sum(self._fulfilled(member, names) for member in members) >= least


def parse_policy(text: str) -> Policy:
    """Return a policy from its text.

    Raises
    ------
    PolicyError
        Not a policy; the message names the line and what is wrong.
    """
    reader = _Reader()
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip(" \t")
        directive = stripped.startswith(_DIRECTIVE)
        if not stripped or (stripped.startswith("#") and not directive):
            continue
        words = re.split(r"[ \t]+", stripped.removeprefix(_DIRECTIVE).strip(" \t"))
        try:
            reader.line(words, directive=directive)
        except (NoteError, PolicyError) as error:
            raise PolicyError(f"line {number} of the policy: {error}") from None
    return reader.policy()


class _Reader:
    def __init__(self) -> None:
        self.logs: list[VerifierKey] = []
        self.retired: list[tuple[VerifierKey, int]] = []
        self.witnesses: list[WitnessEntry] = []
        self.groups: dict[str, tuple[int, tuple[str, ...]]] = {}
        self.quorum: str | None = None
        self.fresh: timedelta | None = None
        self.certificates: list[VerifierKey] = []
        self.names: set[str] = set()
        self.members: set[str] = set()
        self.publics: set[bytes] = set()

    def line(self, words: list[str], *, directive: bool) -> None:
        match words:
            case ["log", key, *url] if not directive and len(url) <= 1:
                self.logs.append(self._key(key, SIGN))
            case ["witness", name, key, *url] if not directive and len(url) <= 1:
                self._define(name)
                self.witnesses.append(WitnessEntry(name, self._key(key, COSIGN), *url))
            case ["group", name, least, *members] if not directive and members:
                self._group(name, least, members)
            case ["quorum", name] if not directive:
                if self.quorum is not None:
                    raise PolicyError("there is more than one quorum")
                if name != NOBODY and name not in self.names:
                    raise PolicyError(f"the quorum {name!r} is not defined above")
                self.quorum = name
            case ["fresh", hours] if directive and (match := _HOURS.fullmatch(hours)):
                self.fresh = timedelta(hours=int(match[1]))
            case ["retired", key, size] if directive and _SIZE.fullmatch(size):
                self.retired.append((self._key(key, SIGN), int(size)))
            case ["certificates", key] if directive:
                self.certificates.append(self._key(key, SIGN))
            case _:
                raise PolicyError(
                    "use log, witness, group, quorum, or #abeyance: fresh <n>h, retired <key> <size>, "
                    "certificates <key>"
                )

    def policy(self) -> Policy:
        if self.quorum is None:
            raise PolicyError("the policy has no quorum; write: quorum none")
        return Policy(
            tuple(self.logs),
            tuple(self.retired),
            tuple(self.witnesses),
            self.groups,
            self.quorum,
            self.fresh,
            tuple(self.certificates),
        )

    def _group(self, name: str, least: str, members: list[str]) -> None:
        self._define(name)
        for member in members:
            if member not in self.names - {name}:
                raise PolicyError(f"the member {member!r} is not defined above")
            if member in self.members:
                raise PolicyError(f"{member!r} is a member of a group already")
            self.members.add(member)
        number = {"all": len(members), "any": 1}.get(least)
        if number is None:
            if not _SIZE.fullmatch(least) or not 1 <= int(least) <= len(members):
                raise PolicyError(f"a group needs all, any, or 1 to {len(members)} of its members")
            number = int(least)
        self.groups[name] = (number, tuple(members))

    def _define(self, name: str) -> None:
        if name in self.names or name == NOBODY:
            raise PolicyError(f"the name {name!r} is taken")
        self.names.add(name)

    def _key(self, text: str, algorithm: int) -> VerifierKey:
        key = parse_verifier(text)
        if key.algorithm != algorithm:
            raise PolicyError("a log needs a key for signatures (01), a witness one for cosignatures (04)")
        if key.public in self.publics:
            raise PolicyError("the same public key stands there twice")
        self.publics.add(key.public)
        return key


def trust_keys(keys: Iterable[VerifierKey]) -> Policy:
    """Return the policy that believes these keys of a log, and needs no witness."""
    return Policy(logs=tuple(keys))
