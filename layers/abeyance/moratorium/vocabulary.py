"""The vocabulary of moratoria: actions, sectors and purposes. Places have a module of their own."""

from __future__ import annotations

import re
from enum import StrEnum

ALL = "all"

#: The purpose of a request or an upload that names none. A tenant may be registered for it, or not.
UNSPECIFIED = "unspecified"


class Action(StrEnum):
    """An operation that a tenant may ask for. Template actions hand out or take in templates instead of photos."""

    DETECT = "detect"
    ANALYZE = "analyze"
    COMPARE = "compare"
    INDEX = "index"
    SEARCH = "search"
    TEMPLATE_SEARCH = "template_search"
    TEMPLATE_EXPORT = "template_export"
    TEMPLATE_IMPORT = "template_import"


class Sector(StrEnum):
    """The kind of organisation that a tenant is: the one under which the strictest rules reach it."""

    #: Police, sheriffs, prosecutors' investigators, border and immigration enforcement.
    LAW_ENFORCEMENT = "law_enforcement"
    #: Not police, but works for or with them (victim identification, missing children).
    LAW_ENFORCEMENT_SUPPORT = "law_enforcement_support"
    #: A department, bureau or office of a city or county that is not police.
    CITY_DEPARTMENT = "city_department"
    #: Any other public body: state, federal, supranational.
    GOVERNMENT = "government"
    MILITARY = "military"
    #: A private entity where the public comes in: shops, hotels, restaurants, arenas, stations.
    PUBLIC_ACCOMMODATION = "public_accommodation"
    #: A private entity elsewhere.
    COMMERCIAL = "commercial"
    EDUCATION = "education"
    HEALTHCARE = "healthcare"
    NONPROFIT = "nonprofit"
    RESEARCH = "research"
    PERSONAL = "personal"


ACTIONS = frozenset(map(str, Action))
SECTORS = frozenset(map(str, Sector))
#: The actions on photos, sorted: all but those that hand out or take in templates.
PHOTO_ACTIONS = tuple(sorted(action for action in ACTIONS if not action.startswith("template")))

_STEPS = {
    Action.ANALYZE: Action.DETECT,
    Action.COMPARE: Action.DETECT,
    Action.INDEX: Action.DETECT,
    Action.SEARCH: Action.DETECT,
    Action.TEMPLATE_SEARCH: Action.SEARCH,
    Action.TEMPLATE_IMPORT: Action.INDEX,
}
#: An action and its steps. A flag that halts a step halts the action: where no face may be detected, none can be
#: searched for.
INVOLVES = {str(action): frozenset({str(action), str(_STEPS.get(action, action))}) for action in Action}

# Patterns stay inside what JSON Schema (ECMA 262), AppConfig and Python's re read alike: no classes such as
# \d.
TENANT_ID = r"^[a-z0-9][a-z0-9-]{1,62}$"
PURPOSE = r"^[a-z][a-z0-9_]{1,62}$"
#: What to tell whoever wrote a purpose otherwise.
PURPOSE_FORM = "A purpose has 2 to 63 of a-z, 0-9 and _, and begins with a letter; missing_children is one."
FLAG_KEY = r"^[a-z][a-zA-Z0-9_-]{0,63}$"
JURISDICTION_OR_ALL = r"^(all|[A-Z]{2}(-[A-Z0-9]{1,3}(-[A-Z0-9_]{1,48})?)?)$"
#: A public key of a signer as text: name, id, and base64 of algorithm and key (C2SP signed-note).
SIGNER_KEY = r"^[!-*,-~]{1,128}\+[0-9a-f]{8}\+[A-Za-z0-9+/]{44}$"
INSTANT = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"

_tenant_id = re.compile(TENANT_ID)
_purpose = re.compile(PURPOSE)
_signer_key = re.compile(SIGNER_KEY)


def is_tenant_id(text: object) -> bool:
    """Return whether ``text`` is a well-formed tenant id."""
    return isinstance(text, str) and _tenant_id.fullmatch(text) is not None


def is_purpose(text: object) -> bool:
    """Return whether ``text`` is a well-formed purpose (``lower_snake``)."""
    return isinstance(text, str) and _purpose.fullmatch(text) is not None


def is_signer_key(text: object) -> bool:
    """Return whether ``text`` has the form of a signer's public key."""
    return isinstance(text, str) and _signer_key.fullmatch(text) is not None
