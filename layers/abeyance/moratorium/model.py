"""The flags document, as types: AWS AppConfig's feature-flag format and the attributes of a moratorium.

Two shapes of one thing are read here:

* the *hosted document*, ``{"version": "1", "flags": {key: definition}, "values": {key: {"enabled": ...,
  attribute: ...}}}``, which operators edit, AppConfig stores and the validator Lambda sees;
* the *values*, ``{key: {"enabled": ..., attribute: ...}}``, all that AppConfig's data plane and agent hand
  out. They leave the attributes of a disabled flag out.

Source: "Type reference for AWS.AppConfig.FeatureFlags" in the AWS AppConfig User Guide. Its limits (25
attributes, strings of 1024 characters, integer bounds, no ``pattern`` beside ``enum``) are kept. Variants
are refused: a moratorium must not depend on what a caller says about itself.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias, Union

from msgspec import UNSET, Meta, Struct, UnsetType, defstruct, field, structs

from abeyance.moratorium.vocabulary import (
    ALL,
    INSTANT,
    JURISDICTION_OR_ALL,
    PURPOSE,
    SIGNER_KEY,
    TENANT_ID,
    Action,
    Sector,
)

SCHEMA_VERSION: Final = "1"
#: AppConfig's own limit of a hosted configuration.
MAX_BYTES: Final = 1 << 20
MAX_ITEMS: Final = 25
MAX_TEXT: Final = 1024
#: Longest time in which a late authorisation may be due.
MAX_DUE_HOURS: Final = 168
#: Greatest age of an audit that a flag may allow.
MAX_AUDIT_DAYS: Final = 3650
METADATA: Final = frozenset({"_createdAt", "_updatedAt"})


class Effect(StrEnum):
    """The effect of a flag in force."""

    HALT = "halt"
    #: Allowed, under ``min_similarity`` and ``human_review``.
    RESTRICT = "restrict"


class OnExpiry(StrEnum):
    """The rule for the moment ``ends``."""

    LIFT = "lift"
    #: Stays in force until somebody renews or lifts it.
    HOLD = "hold"


Text = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT)]
Instant = Annotated[
    str, Meta(pattern=INSTANT, description="UTC, RFC 3339, whole seconds: 2020-06-10T00:00:00Z")
]
if TYPE_CHECKING:
    ActionScope: TypeAlias = str
    SectorScope: TypeAlias = str
else:
    ActionScope = Literal[(ALL, *map(str, Action))]
    SectorScope = Literal[(ALL, *map(str, Sector))]
Place = Annotated[str, Meta(pattern=JURISDICTION_OR_ALL, description="all, US, US-CA, US-CA-SAN_FRANCISCO")]
TenantId = Annotated[str, Meta(pattern=TENANT_ID)]
Purpose = Annotated[str, Meta(pattern=PURPOSE)]
SignerKey = Annotated[str, Meta(pattern=SIGNER_KEY)]
Items = Meta(min_length=1, max_length=MAX_ITEMS)


class FlagValue(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The value of an enabled flag, exactly as it stands in the document. ``parse`` checks the rest."""

    enabled: bool
    effect: Effect
    actions: Annotated[tuple[ActionScope, ...], Items]
    sectors: Annotated[tuple[SectorScope, ...], Items]
    jurisdictions: Annotated[tuple[Place, ...], Items]
    starts: Instant
    ends: Instant | UnsetType = UNSET
    on_expiry: OnExpiry
    exempt_tenants: Annotated[tuple[TenantId, ...], Items] | UnsetType = UNSET
    exempt_purposes: Annotated[tuple[Purpose, ...], Items] | UnsetType = UNSET
    exempt_until: Instant | UnsetType = UNSET
    authorization_required: bool | UnsetType = UNSET
    authorization_due_within_hours: Annotated[int, Meta(ge=1, le=MAX_DUE_HOURS)] | UnsetType = UNSET
    audit_max_age_days: Annotated[int, Meta(ge=1, le=MAX_AUDIT_DAYS)] | UnsetType = UNSET
    audit_signers: Annotated[tuple[SignerKey, ...], Items] | UnsetType = UNSET
    audit_similarity: Annotated[float, Meta(ge=0, le=100)] | UnsetType = UNSET
    audit_max_fmr: Annotated[float, Meta(ge=0, le=1)] | UnsetType = UNSET
    audit_max_fmr_ratio: Annotated[float, Meta(ge=1, le=1_000_000)] | UnsetType = UNSET
    audit_min_accuracy: Annotated[float, Meta(ge=0, le=1)] | UnsetType = UNSET
    min_similarity: Annotated[float, Meta(ge=0, le=100)] | UnsetType = UNSET
    human_review: Annotated[int, Meta(ge=1, le=10)] | UnsetType = UNSET
    reason: Text
    source: Text
    created_at: str | UnsetType = field(default=UNSET, name="_createdAt")
    updated_at: str | UnsetType = field(default=UNSET, name="_updatedAt")


#: The value of a disabled flag: :class:`FlagValue` with every attribute but ``enabled`` optional. The data plane leaves
#: the attributes out, the hosted document may keep them.
DisabledValue: Final = defstruct(
    "DisabledValue",
    [
        ("enabled", bool),
        *(
            (
                attribute.name,
                Union[attribute.type, UnsetType],  # noqa: UP007
                field(default=UNSET, name=attribute.encode_name),
            )
            for attribute in structs.fields(FlagValue)[1:]
        ),
    ],
    namespace={"__doc__": "The value of a disabled flag. Every attribute is optional."},
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
)


class ElementConstraints(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """AppConfig's constraint on each item of an array attribute."""

    type: Literal["string", "number"]
    required: bool | UnsetType = UNSET
    enum: tuple[str, ...] | UnsetType = UNSET
    pattern: Annotated[str, Meta(max_length=MAX_TEXT)] | UnsetType = UNSET
    minimum: int | UnsetType = UNSET
    maximum: int | UnsetType = UNSET


class Constraints(ElementConstraints, frozen=True, kw_only=True):
    """AppConfig's constraint on one attribute."""

    type: Literal["string", "number", "boolean", "array"]  # type: ignore[assignment]
    elements: ElementConstraints | UnsetType = UNSET


class AttributeDefinition(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One attribute that a flag has."""

    constraints: Constraints | UnsetType = UNSET
    description: Annotated[str, Meta(max_length=MAX_TEXT)] | UnsetType = UNSET


class Deprecation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """AppConfig's note that a flag is to be removed. A deprecated flag binds like any other."""

    status: Literal["planned"] | UnsetType = UNSET
    date: str | UnsetType = UNSET


class FlagDefinition(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The definition of a flag: its name, its description, and the constraints on its attributes."""

    name: Annotated[str, Meta(pattern="^[^\\n]{1,64}$")] | UnsetType = UNSET
    description: Annotated[str, Meta(max_length=MAX_TEXT)] | UnsetType = UNSET
    attributes: Annotated[dict[str, AttributeDefinition], Meta(max_length=MAX_ITEMS)] | UnsetType = UNSET
    deprecation: Deprecation | UnsetType = field(default=UNSET, name="_deprecation")
    created_at: str | UnsetType = field(default=UNSET, name="_createdAt")
    updated_at: str | UnsetType = field(default=UNSET, name="_updatedAt")


class FlagPart(Struct, frozen=True, kw_only=True):
    """One flag's part in a decision. ``version`` is a hash of the flag's value: it names exactly what was in force."""

    key: str
    version: str
    effect: str
    clause: str
    reason: str
    source: str


class Part(StrEnum):
    """The part of a flag in a decision."""

    HALTS = "halts"
    #: In force past its end, because it is to be held until somebody acts.
    HOLDS = "holds"
    RESTRICTS = "restricts"
    #: Binds, but its own exemption lets this request through.
    EXEMPTS = "exempts"
    #: Would halt, but the latest audit of the deployed model is within its bounds.
    AUDITED = "audited"
    #: Halts; its exemption would let this request through with an authorisation.
    NEEDS_AUTHORIZATION = "needs_authorization"
