"""JSON Schema of the flags document, and the attribute definitions with which AppConfig's console checks
input.

The schema is generated from the types in ``model`` and committed as ``flags.schema.json``; write it anew with
``python -m abeyance.moratorium.schema > layers/abeyance/moratorium/flags.schema.json``. It says less than
``parse`` in exactly four points, which JSON Schema cannot express: the keys of ``flags`` and ``values`` are
the same, ``ends`` is later than ``starts``, dates exist in the calendar, and places exist. AppConfig's own
JSON Schema validators know only draft 4; enforcement is the validator Lambda's.
"""

from __future__ import annotations

import sys
from typing import Any, get_args

import msgspec

from abeyance.moratorium.model import (
    MAX_AUDIT_DAYS,
    MAX_DUE_HOURS,
    SCHEMA_VERSION,
    ActionScope,
    DisabledValue,
    FlagDefinition,
    FlagValue,
    SectorScope,
)
from abeyance.moratorium.vocabulary import (
    FLAG_KEY,
    INSTANT,
    JURISDICTION_OR_ALL,
    PURPOSE,
    SIGNER_KEY,
    TENANT_ID,
)


def attribute_definitions() -> dict[str, Any]:
    """Return the ``attributes`` of every flag definition: what the AppConfig console shows, demands and checks."""

    def words(*options: str) -> dict[str, Any]:
        return {"type": "string", "enum": list(options)}

    def text(pattern: str = "") -> dict[str, Any]:
        return {"type": "string", "pattern": pattern} if pattern else {"type": "string"}

    def many(element: dict[str, Any]) -> dict[str, Any]:
        return {"type": "array", "elements": element}

    def attribute(description: str, constraints: dict[str, Any], *, required: bool = False) -> dict[str, Any]:
        return {"description": description, "constraints": {**constraints, "required": required}}

    return {
        "effect": attribute("halt, or restrict", words("halt", "restrict"), required=True),
        "actions": attribute("What it binds, or all", many(words(*get_args(ActionScope))), required=True),
        "sectors": attribute("Whom it binds, or all", many(words(*get_args(SectorScope))), required=True),
        "jurisdictions": attribute(
            "Where: US, US-CA, US-CA-SAN_FRANCISCO, or all", many(text(JURISDICTION_OR_ALL)), required=True
        ),
        "starts": attribute("From when, UTC: 2020-06-10T00:00:00Z", text(INSTANT), required=True),
        "ends": attribute("Until when, UTC, not included; leave out for until further notice", text(INSTANT)),
        "on_expiry": attribute(
            "lift at the end, or hold until somebody acts", words("lift", "hold"), required=True
        ),
        "exempt_tenants": attribute("Who may still, for exempt_purposes", many(text(TENANT_ID))),
        "exempt_purposes": attribute("For what it may still be done", many(text(PURPOSE))),
        "exempt_until": attribute("Until when the exemption holds, UTC", text(INSTANT)),
        "authorization_required": attribute(
            "Whether each exempted request needs an authorisation, with halt", {"type": "boolean"}
        ),
        "authorization_due_within_hours": attribute(
            "Hours in which an authorisation may follow its request, in an emergency",
            {"type": "number", "minimum": 1, "maximum": MAX_DUE_HOURS},
        ),
        "audit_max_age_days": attribute(
            "With halt: an audit of the deployed model lifts it up to this age",
            {"type": "number", "minimum": 1, "maximum": MAX_AUDIT_DAYS},
        ),
        "audit_signers": attribute("Public keys, of which one signed the audit", many(text(SIGNER_KEY))),
        "audit_similarity": attribute(
            "Similarity at which its bounds are compared", {"type": "number", "minimum": 0, "maximum": 100}
        ),
        "audit_max_fmr": attribute(
            "Highest false-match rate of a group", {"type": "number", "minimum": 0, "maximum": 1}
        ),
        "audit_max_fmr_ratio": attribute(
            "Highest ratio of two groups' false-match rates",
            {"type": "number", "minimum": 1, "maximum": 1_000_000},
        ),
        "audit_min_accuracy": attribute(
            "Lowest accuracy in a group, as 1 - FNMR", {"type": "number", "minimum": 0, "maximum": 1}
        ),
        "min_similarity": attribute(
            "Lowest similarity, with restrict", {"type": "number", "minimum": 0, "maximum": 100}
        ),
        "human_review": attribute(
            "Independent reviewers of each match, with restrict",
            {"type": "number", "minimum": 1, "maximum": 10},
        ),
        "reason": attribute("The reason that a denied caller reads", text(), required=True),
        "source": attribute("The law, announcement or order behind it", text(), required=True),
    }


def definition(name: str, description: str) -> dict[str, Any]:
    """Return the definition of one flag, for the ``flags`` part of a hosted document."""
    return {"name": name, "description": description, "attributes": attribute_definitions()}


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the hosted flags document."""
    _, components = msgspec.json.schema_components(
        (FlagValue, DisabledValue, FlagDefinition), ref_template="#/$defs/{name}"
    )
    enabled, disabled = components["FlagValue"], components["DisabledValue"]
    enabled["properties"]["enabled"] = {"const": True}
    disabled["properties"]["enabled"] = {"const": False}
    enabled["dependentRequired"] = {
        "exempt_tenants": ["exempt_purposes"],
        "exempt_until": ["exempt_purposes"],
    }
    authorized = {
        "required": ["authorization_required"],
        "properties": {"authorization_required": {"const": True}},
    }
    enabled["dependentSchemas"] = {"authorization_due_within_hours": authorized}
    halt = {"required": ["exempt_purposes"], "properties": {"effect": {"const": "halt"}}}
    audit = ["audit_max_age_days", "audit_signers", "audit_similarity"]
    audited: dict[str, Any] = {"required": audit, "properties": {"effect": {"const": "halt"}}}
    enabled["dependentSchemas"] |= dict.fromkeys(
        (*audit, "audit_max_fmr", "audit_max_fmr_ratio", "audit_min_accuracy"), audited
    )
    enabled["allOf"] = [{"if": authorized, "then": halt}]
    terms: list[dict[str, Any]] = [{"required": ["min_similarity"]}, {"required": ["human_review"]}]
    enabled["if"] = {"properties": {"effect": {"const": "restrict"}}}
    enabled["then"] = {"anyOf": terms}
    enabled["else"] = {"not": {"anyOf": terms}}
    keys = {"pattern": FLAG_KEY}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Abeyance moratorium flags",
        "description": "An AWS.AppConfig.FeatureFlags document in which every flag is a moratorium.",
        "type": "object",
        "required": ["version", "flags", "values"],
        "additionalProperties": False,
        "properties": {
            "version": {"const": SCHEMA_VERSION},
            "flags": {
                "type": "object",
                "propertyNames": keys,
                "additionalProperties": {"$ref": "#/$defs/FlagDefinition"},
            },
            "values": {
                "type": "object",
                "propertyNames": keys,
                "additionalProperties": {
                    "anyOf": [{"$ref": "#/$defs/FlagValue"}, {"$ref": "#/$defs/DisabledValue"}]
                },
            },
        },
        "$defs": dict(sorted(components.items())),
    }


if __name__ == "__main__":
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(json_schema()), indent=2).decode() + "\n")
