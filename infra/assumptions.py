"""Every behaviour of AWS that code, fakes and simulation rest on: ``assumptions.toml``, with its documentation.

docs/aws-assumptions.md is made from it (``python -m infra.awscheck --write``); ``make aws-check`` checks what
:mod:`infra.awschecks` has a check for, by the assumption's name. Those without a check say why not.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec


class Assumption(msgspec.Struct, frozen=True, kw_only=True):
    """A behaviour of AWS. ``unchecked`` says why no check can show it; empty where ``make aws-check`` has one."""

    #: ``<service>.<behaviour>``.
    name: str
    holds: str
    source: str
    #: Modules and documents that rest on it.
    used_by: tuple[str, ...]
    unchecked: str = ""
    #: What the emulator of the tests does instead; empty where it is right.
    emulator: str = ""


ASSUMPTIONS = tuple(
    msgspec.convert({"name": f"{service}.{behaviour}", **fields}, Assumption)
    for service, behaviours in tomllib.loads(Path(__file__).with_suffix(".toml").read_text()).items()
    for behaviour, fields in behaviours.items()
)
