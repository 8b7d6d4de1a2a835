"""The flags document, read strictly and compiled for fast decisions. The types are in ``model``."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from msgspec import UNSET

from abeyance.aws.timestamps import rfc3339
from abeyance.moratorium.audit_bounds import audit_bounds
from abeyance.moratorium.errors import Fault, FlagsError
from abeyance.moratorium.model import (
    MAX_BYTES,
    METADATA,
    SCHEMA_VERSION,
    DisabledValue,
    Effect,
    FlagDefinition,
    FlagPart,
    FlagValue,
    OnExpiry,
    Part,
)
from abeyance.moratorium.places import is_jurisdiction, overlap
from abeyance.moratorium.vocabulary import (
    ACTIONS,
    ALL,
    FLAG_KEY,
    INSTANT,
    INVOLVES,
    SECTORS,
    is_purpose,
    is_tenant_id,
)

#: Later than any moment that may be decided for.
NEVER: Final = datetime.max.replace(tzinfo=UTC)
#: Attributes that are integers.
_INTEGERS: Final = ("human_review", "authorization_due_within_hours", "audit_max_age_days")
#: Attributes that are floats, also where a whole number is written.
_FLOATS: Final = frozenset(
    {"min_similarity", "audit_similarity", "audit_max_fmr", "audit_max_fmr_ratio", "audit_min_accuracy"}
)
#: Combinations of action, sector and place whose flags are remembered.
_REMEMBERED: Final = 1024


class Flag:
    """One enabled flag, compiled. Instants are aware, in UTC; ``None`` stands for "all" and for "no end".

    ``until`` is the moment from which it no longer binds: its end, or :data:`NEVER` if it has none or is held.

    Raises ``FlagsError`` when the value contradicts itself.
    """

    def __init__(self, key: str, value: FlagValue) -> None:
        self.key = key
        self.value = value
        self.effect = value.effect
        self.actions = _scope(value.actions, ACTIONS)
        self.sectors = _scope(value.sectors, SECTORS)
        self.jurisdictions = None if ALL in value.jurisdictions else tuple(value.jurisdictions)
        for place in self.jurisdictions or ():
            if not is_jurisdiction(place):
                raise _bad(key, f"jurisdiction {place!r} does not exist; use ISO 3166 codes such as US-CA")
        self.starts = _instant(key, "starts", value.starts)
        self.ends = None if value.ends is UNSET else _instant(key, "ends", value.ends)
        if self.ends is not None and self.ends <= self.starts:
            raise _bad(key, "ends must be later than starts")
        self.hold = value.on_expiry is OnExpiry.HOLD
        self.until = NEVER if self.ends is None or self.hold else self.ends
        self.exempt_tenants = () if value.exempt_tenants is UNSET else value.exempt_tenants
        self.exempt_purposes = () if value.exempt_purposes is UNSET else value.exempt_purposes
        self.exempt_until = (
            None if value.exempt_until is UNSET else _instant(key, "exempt_until", value.exempt_until)
        )
        # A pattern's $ lets a final line feed through; such a name would exempt nobody and look as if it did.
        if not all(map(is_tenant_id, self.exempt_tenants)) or not all(map(is_purpose, self.exempt_purposes)):
            raise _bad(key, "exempt_tenants are tenant ids and exempt_purposes are purposes")
        if not self.exempt_purposes and (self.exempt_tenants or self.exempt_until):
            raise _bad(key, "an exemption needs exempt_purposes: say what for")
        self.authorization_required = value.authorization_required is True
        self.authorization_due_within = (
            None
            if value.authorization_due_within_hours is UNSET
            else timedelta(hours=value.authorization_due_within_hours)
        )
        if self.authorization_required and (not self.exempt_purposes or self.effect is not Effect.HALT):
            raise _bad(
                key, "authorization_required belongs to the exemption of a halt: it needs exempt_purposes"
            )
        try:
            self.audit = audit_bounds(value)
        except ValueError as error:
            raise _bad(key, str(error)) from None
        if self.authorization_due_within is not None and not self.authorization_required:
            raise _bad(key, "authorization_due_within_hours needs authorization_required")
        self.min_similarity = None if value.min_similarity is UNSET else float(value.min_similarity)
        self.human_review = 0 if value.human_review is UNSET else value.human_review
        if self.effect is Effect.HALT and (self.min_similarity is not None or self.human_review):
            raise _bad(key, "min_similarity and human_review belong to effect restrict, not to halt")
        if self.effect is Effect.RESTRICT and self.min_similarity is None and not self.human_review:
            raise _bad(key, "effect restrict needs min_similarity or human_review, or both")
        self.reason = value.reason
        self.source = value.source
        self.version = hashlib.sha256(_stable(_plain(value))).hexdigest()[:12]
        self.binding, self.holding, self.exempting, self.needing, self.audited = (
            FlagPart(
                key=key,
                version=self.version,
                effect=str(self.effect),
                clause=str(part),
                reason=self.reason,
                source=self.source,
            )
            for part in (
                Part.RESTRICTS if self.effect is Effect.RESTRICT else Part.HALTS,
                Part.HOLDS,
                Part.EXEMPTS,
                Part.NEEDS_AUTHORIZATION,
                Part.AUDITED,
            )
        )

    def in_force(self, as_of: datetime) -> bool:
        """Return whether the flag binds at ``as_of`` (aware): in [starts, ends), or past ``ends`` and held."""
        return self.starts <= as_of < self.until

    def exempts(self, tenant_id: str, purpose: str, as_of: datetime) -> bool:
        """Return whether this flag's own exemption covers a tenant and purpose at ``as_of``."""
        return (
            purpose in self.exempt_purposes
            and (not self.exempt_tenants or tenant_id in self.exempt_tenants)
            and (self.exempt_until is None or as_of < self.exempt_until)
        )

    def __repr__(self) -> str:
        return f"Flag({self.key!r}, version={self.version!r})"


class FlagSet:
    """All flags of one document, compiled. Immutable by convention; made by ``parse``.

    Attributes
    ----------
    flags : tuple of Flag
        The enabled flags, sorted by key.
    disabled : tuple of str
        Keys of the flags that are switched off.
    digest : str
        SHA-256 (64 hex digits) of what the flags say. Equal for a hosted document and for the values that
        AppConfig's data plane hands out of it, so what runs can be compared with what was approved.
    version : str
        What the source calls this version, else ``sha256:`` and the first 12 digits of ``digest``.
    brake, drift : str
        Digests of what holds beside these flags: the brake, and what was agreed if the change service did not deploy
        these flags. Empty without one; see :meth:`joined`.
    """

    __slots__ = ("_binding", "brake", "digest", "disabled", "drift", "flags", "version")

    def __init__(self, flags: Iterable[Flag], disabled: Iterable[str] = (), version: str = "") -> None:
        self.flags = tuple(sorted(flags, key=lambda flag: flag.key))
        self.disabled = tuple(sorted(disabled))
        keys = [flag.key for flag in self.flags] + list(self.disabled)
        if len(set(keys)) != len(keys):
            raise FlagsError(Fault.FLAGS_UNREADABLE, "a flag key occurs twice; keep one of them")
        self.digest = hashlib.sha256(
            b"{%b}" % b",".join(b'"%b":%b' % (key.encode(), text) for key, text in self.statements().items())
        ).hexdigest()
        self.version = version or f"sha256:{self.digest[:12]}"
        self.brake = self.drift = ""
        self._binding: dict[tuple[str, str, str], tuple[Flag, ...]] = {}

    def statements(self) -> dict[str, bytes]:
        """Return what every flag says, as JSON in one spelling, by key and in the order of keys.

        ``digest`` is the SHA-256 of all of them as one JSON object, and a flag's version the first 12 digits of the
        SHA-256 of its own: so somebody who has these texts can check both without knowing how they are spelled.
        """
        effective: dict[str, Any] = {flag.key: _plain(flag.value) for flag in self.flags}
        effective.update((key, {"enabled": False}) for key in self.disabled)
        return {key: _stable(effective[key]) for key in sorted(effective)}

    def joined(self, others: Iterable[tuple[str, FlagSet]], *, brake: str = "", drift: str = "") -> FlagSet:
        """Return these flags and others together, which is at least as strict as each of them alone.

        Each of ``others`` comes with a prefix for its keys that no key can have, such as ``brake:``. Digest and version
        stay those of these flags.
        """
        known = {(flag.key, flag.version) for flag in self.flags}
        added = {
            f"{prefix}{flag.key}": flag
            for prefix, flags in others
            for flag in flags.flags
            if (flag.key, flag.version) not in known
        }
        made = FlagSet(
            (*self.flags, *(Flag(key, flag.value) for key, flag in added.items())),
            self.disabled,
            self.version,
        )
        made.digest, made.brake, made.drift = self.digest, brake or self.brake, drift or self.drift
        return made

    def binding(self, action: str, sector: str, place: str) -> tuple[Flag, ...]:
        """Return the flags that name the action (or one that it involves), the sector and an overlapping place, by key.

        Time and exemptions are left to the caller. Raises ``KeyError`` for words outside the vocabulary.
        """
        bound = self._binding.get((action, sector, place))
        if bound is None:
            if action not in ACTIONS or sector not in SECTORS:
                raise KeyError("action or sector")
            bound = tuple(
                flag
                for flag in self.flags
                if (flag.actions is None or flag.actions & INVOLVES[action])
                and (flag.sectors is None or sector in flag.sectors)
                and (flag.jurisdictions is None or any(overlap(one, place) for one in flag.jurisdictions))
            )
            if len(self._binding) >= _REMEMBERED:
                self._binding.clear()
            self._binding[action, sector, place] = bound
        return bound


def parse(raw: bytes | str | dict[str, Any], *, version: str = "") -> FlagSet:
    """Read a flags document, hosted or values only, and compile it.

    Parameters
    ----------
    raw : bytes, str or dict
        JSON text, or what it decodes to.
    version : str
        What the source calls this version.

    Raises
    ------
    FlagsError
        On anything that is not exactly a document: not JSON, a repeated key, a schema version other than
        "1", a missing, unknown or ill-typed attribute, a value that contradicts itself. Nothing is skipped
        and nothing is defaulted.
    """
    document = load(raw)
    values = _values(document)
    flags, disabled = [], []
    for key, value in values.items():
        if not _key.fullmatch(key):
            raise FlagsError(
                Fault.FLAGS_UNREADABLE, "a flag key must begin with a lower-case letter and have at most 64"
            )
        if not isinstance(value, dict) or type(value.get("enabled")) is not bool:
            raise _bad(key, "enabled must be true or false")
        try:
            if value["enabled"]:
                flags.append(Flag(key, msgspec.convert(_whole(value), FlagValue)))
            else:
                msgspec.convert(_whole(value), DisabledValue)
                disabled.append(key)
        except msgspec.ValidationError as error:
            raise _bad(key, str(error)) from None
    return FlagSet(flags, disabled, version)


def load(raw: bytes | str | dict[str, Any]) -> dict[str, Any]:
    """Decode JSON strictly to an object: no repeated keys, no NaN, at most ``MAX_BYTES``. A dict is
    returned as it is.

    Raises ``FlagsError``.
    """
    if isinstance(raw, dict):
        return raw
    if not isinstance(raw, bytes | str):
        raise FlagsError(Fault.FLAGS_UNREADABLE, "flags must be a JSON document")
    if not raw.strip():
        raise FlagsError(Fault.FLAGS_EMPTY, "the flags document is empty; no flags at all is written {}")
    if len(raw) > MAX_BYTES:
        raise FlagsError(Fault.FLAGS_TOO_LARGE, f"the flags document is larger than {MAX_BYTES} bytes")
    try:
        text = raw.decode("utf-8") if isinstance(raw, bytes) else raw
        document = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise FlagsError(
            Fault.FLAGS_UNREADABLE, "the flags document is not valid JSON, or repeats a key"
        ) from None
    if not isinstance(document, dict):
        raise FlagsError(Fault.FLAGS_UNREADABLE, "the flags document must be a JSON object")
    return document


def is_hosted(document: dict[str, Any]) -> bool:
    """Return whether a decoded document is hosted (has a schema version), rather than values only."""
    return "version" in document and not isinstance(document["version"], dict)


def without_metadata(document: dict[str, Any]) -> dict[str, Any]:
    """Return a hosted document without the dates that AppConfig writes into it."""
    return {
        part: {key: _without(item) for key, item in content.items()}
        if part in ("flags", "values") and isinstance(content, dict)
        else content
        for part, content in document.items()
    }


def _without(item: Any) -> Any:
    return {k: v for k, v in item.items() if k not in METADATA} if isinstance(item, dict) else item


def document_digest(document: dict[str, Any]) -> str:
    """Return the SHA-256 (64 hex digits) of a hosted document's canonical JSON, less AppConfig's dates (RFC 8785).

    This is what an approver approves.
    """
    return canonical_digest(without_metadata(document))


def canonical_digest(value: dict[str, Any]) -> str:
    """Return the SHA-256 (64 hex digits) of a value's canonical JSON (RFC 8785)."""
    import rfc8785

    return hashlib.sha256(rfc8785.dumps(value)).hexdigest()


def instant(text: str) -> datetime:
    """Return the aware UTC datetime of ``2020-06-10T00:00:00Z``; raises ``ValueError`` on anything else."""
    if not _instant_pattern.fullmatch(text):
        raise ValueError("an instant is written 2020-06-10T00:00:00Z")
    return datetime.fromisoformat(text).astimezone(UTC)


def instant_text(moment: datetime) -> str:
    """Return ``2020-06-10T00:00:00Z`` for an aware datetime, with microseconds only where there are some."""
    return rfc3339(moment, "auto")


_key = re.compile(FLAG_KEY)
_instant_pattern = re.compile(INSTANT)


def _values(document: dict[str, Any]) -> dict[str, Any]:
    if not is_hosted(document):
        return document
    if document["version"] != SCHEMA_VERSION:
        raise FlagsError(
            Fault.FLAGS_SCHEMA_VERSION,
            f"the flags document's version must be {SCHEMA_VERSION!r}; this code reads no other",
        )
    if set(document) != {"version", "flags", "values"}:
        raise FlagsError(
            Fault.FLAGS_UNREADABLE, "a flags document has version, flags and values, and nothing else"
        )
    flags, values = document["flags"], document["values"]
    if not isinstance(flags, dict) or not isinstance(values, dict):
        raise FlagsError(Fault.FLAGS_UNREADABLE, "flags and values must be objects")
    if set(flags) != set(values):
        raise FlagsError(
            Fault.FLAGS_UNREADABLE, "every flag needs a definition in flags and a value in values"
        )
    for key, definition in flags.items():
        try:
            msgspec.convert(definition, FlagDefinition)
        except msgspec.ValidationError as error:
            raise _bad(key, str(error)) from None
    return values


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("repeated key")
    return result


def _no_constant(text: str) -> Any:
    raise ValueError(text)


def _whole(value: dict[str, Any]) -> dict[str, Any]:
    """AppConfig numbers are doubles: a whole ``human_review`` of 2.0 is 2."""
    whole = {
        name: int(number)
        for name in _INTEGERS
        if type(number := value.get(name)) is float and math.isfinite(number) and number.is_integer()
    }
    return {**value, **whole} if whole else value


def _scope(given: tuple[str, ...], known: frozenset[str]) -> frozenset[str] | None:
    # Constructed by hand a Struct is not type-checked; what is not known must not silently bind nobody.
    if not set(given) <= known | {ALL} or not given:
        raise FlagsError(Fault.FLAGS_UNREADABLE, "a flag names an action or sector that does not exist")
    return None if ALL in given else frozenset(given)


def _instant(key: str, name: str, text: str) -> datetime:
    try:
        return instant(text)
    except (ValueError, TypeError, OverflowError):
        raise _bad(key, f"{name} must be a UTC date and time such as 2020-06-10T00:00:00Z") from None


def _bad(key: str, message: str) -> FlagsError:
    return FlagsError(Fault.FLAGS_UNREADABLE, f"flag {key!r}: {message}")


def _plain(value: FlagValue) -> dict[str, Any]:
    plain: dict[str, Any] = {
        k: v for k, v in msgspec.to_builtins(value).items() if v is not UNSET and k not in METADATA
    }
    for name in _FLOATS & plain.keys():
        plain[name] = float(plain[name])
    return plain


def _stable(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
