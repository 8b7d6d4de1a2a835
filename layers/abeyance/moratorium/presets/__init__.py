"""Past moratoria: announcements and laws as data, one JSON file each, with their dates and sources.

A preset records what was announced, not what anybody ought to do; two presets may contradict each other.
Dates are those of the announcement, at midnight UTC, which in the places concerned is some hours early.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from importlib import resources
from typing import Any

import msgspec
from msgspec import Struct

from abeyance.moratorium.model import SCHEMA_VERSION
from abeyance.moratorium.schema import definition

#: The preset that a new deployment starts with: the police halt, until further notice.
INITIAL = "police-halt"


class PresetFlag(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One flag of a preset; ``value`` stands in the document as it is here."""

    name: str
    description: str
    value: dict[str, Any]


class Preset(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One announcement or law.

    Attributes
    ----------
    id : str
        Name of the file, less ``.json``.
    announced : str
        Date, ``2020-06-10``.
    links : tuple of str
        Where it can be read up.
    flags : dict
        Key to flag.
    """

    id: str
    title: str
    announced: str
    links: tuple[str, ...]
    flags: dict[str, PresetFlag]


@cache
def presets() -> tuple[Preset, ...]:
    """Return every preset, by date of announcement."""
    found = [
        msgspec.json.decode(entry.read_bytes(), type=Preset)
        for entry in resources.files(__name__).iterdir()
        if entry.name.endswith(".json")
    ]
    return tuple(sorted(found, key=lambda preset: (preset.announced, preset.id)))


def preset(preset_id: str) -> Preset:
    """Return one preset; raises ``KeyError`` naming those that there are."""
    for found in presets():
        if found.id == preset_id:
            return found
    raise KeyError(f"no preset {preset_id!r}; there are {', '.join(p.id for p in presets())}")


def document(preset_ids: Iterable[str]) -> dict[str, Any]:
    """Return a hosted flags document of several presets together; the same flag may not come from two.

    Raises ``KeyError`` for an unknown preset and ``ValueError`` for a flag that occurs twice.
    """
    flags: dict[str, Any] = {}
    values: dict[str, Any] = {}
    for preset_id in preset_ids:
        for key, flag in preset(preset_id).flags.items():
            if key in values:
                raise ValueError(f"flag {key!r} comes from two presets; name one of them")
            flags[key] = definition(flag.name, flag.description)
            values[key] = json.loads(json.dumps(flag.value))
    return {"version": SCHEMA_VERSION, "flags": flags, "values": values}


def no_flags() -> dict[str, Any]:
    """Return a document without a flag: the brake of a new deployment."""
    return document(())


def new_deployment() -> dict[str, Any]:
    """Return the flags of a new deployment: the police halt is on, until further notice."""
    return document([INITIAL])
