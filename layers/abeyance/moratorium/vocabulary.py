"""The vocabulary of moratoria: actions, sectors, purposes, and places.

Places are hierarchical: ``US`` (ISO 3166-1 alpha-2), ``US-CA`` (ISO 3166-2), ``US-CA-SAN_FRANCISCO`` (a
place inside the subdivision, upper case, words joined by ``_``).

Decision: two places *overlap* if one lies in the other, in either direction
-----------------------------------------------------------------------------
A flag for ``US`` obviously binds a tenant in ``US-CA``. Does a flag for ``US-CA`` bind a tenant that is
registered only as ``US``? We say yes. Such a tenant is somewhere in the United States, possibly in
California, and nothing we know says that it is not; the halt has to win over what we do not know. The price
is that an organisation which works nationwide is halted by the strictest city in the country until it is
registered place by place (one tenant for each place it works in, ``acme-texas``, ``acme-oregon``), which is
also what an auditor wants to see. The alternative, letting a request say where it happens and believing it,
would hand the halt's reach to the one who is halted; a request's own place can therefore only be *refused*
(when it lies outside the registration), never used to escape a flag.
"""

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
}
#: An action and its steps. A flag that halts a step halts the action: where no face may be detected, none can be
#: searched for.
INVOLVES = {str(action): frozenset({str(action), str(_STEPS.get(action, action))}) for action in Action}

# Patterns stay inside what JSON Schema (ECMA 262), AppConfig and Python's re read alike: no classes such as
# \d.
TENANT_ID = r"^[a-z0-9][a-z0-9-]{1,62}$"
PURPOSE = r"^[a-z][a-z0-9_]{1,62}$"
FLAG_KEY = r"^[a-z][a-zA-Z0-9_-]{0,63}$"
JURISDICTION = r"^[A-Z]{2}(-[A-Z0-9]{1,3}(-[A-Z0-9_]{1,48})?)?$"
JURISDICTION_OR_ALL = r"^(all|[A-Z]{2}(-[A-Z0-9]{1,3}(-[A-Z0-9_]{1,48})?)?)$"
INSTANT = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_tenant_id = re.compile(TENANT_ID)
_purpose = re.compile(PURPOSE)
_jurisdiction = re.compile(JURISDICTION)

#: ISO 3166-1 alpha-2.
COUNTRIES = _words(
    """
    AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT
    BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH
    ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT
    HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS
    LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI
    NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG
    SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG
    UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW
    """
)

#: ISO 3166-2:US.
US_SUBDIVISIONS = _words(
    """
    AL AK AZ AR CA CO CT DE FL GA HI ID IL IN IA KS KY LA ME MD MA MI MN MS MO MT NE NV NH NJ NM NY NC
    ND OH OK OR PA RI SC SD TN TX UT VT VA WA WV WI WY DC AS GU MP PR UM VI
    """
)

#: Places inside a US state that a flag may name without any tenant being registered there: those with a law
#: of their own on face recognition, and the largest cities. A name that is neither here nor a tenant's
#: place is taken for a misspelling.
US_PLACES = _words(
    """
    AK-ANCHORAGE AZ-PHOENIX AZ-TUCSON CA-ALAMEDA CA-BERKELEY CA-DAVIS CA-LOS_ANGELES CA-OAKLAND
    CA-SACRAMENTO CA-SAN_DIEGO CA-SAN_FRANCISCO CA-SAN_JOSE CA-SANTA_CLARA_COUNTY CA-SANTA_CRUZ CO-DENVER
    CT-NEW_HAVEN FL-JACKSONVILLE FL-MIAMI GA-ATLANTA IL-CHICAGO IN-INDIANAPOLIS KY-LOUISVILLE
    LA-NEW_ORLEANS MA-BOSTON MA-BROOKLINE MA-CAMBRIDGE MA-EASTHAMPTON MA-NORTHAMPTON MA-SOMERVILLE
    MA-SPRINGFIELD MD-BALTIMORE ME-PORTLAND MI-DETROIT MN-MINNEAPOLIS MO-KANSAS_CITY MS-JACKSON
    NC-CHARLOTTE NM-ALBUQUERQUE NV-LAS_VEGAS NY-NEW_YORK NY-BUFFALO OH-COLUMBUS OK-OKLAHOMA_CITY
    OR-PORTLAND OR-EUGENE OR-WASHINGTON_COUNTY PA-PHILADELPHIA PA-PITTSBURGH TN-MEMPHIS TN-NASHVILLE
    TX-AUSTIN TX-DALLAS TX-HOUSTON TX-SAN_ANTONIO VA-RICHMOND VT-BURLINGTON WA-KING_COUNTY WA-SEATTLE
    WI-MADISON WI-MILWAUKEE
    """
)


def is_tenant_id(text: object) -> bool:
    """Return whether ``text`` is a well-formed tenant id."""
    return isinstance(text, str) and _tenant_id.fullmatch(text) is not None


def is_purpose(text: object) -> bool:
    """Return whether ``text`` is a well-formed purpose (``lower_snake``)."""
    return isinstance(text, str) and _purpose.fullmatch(text) is not None


def is_jurisdiction(text: object) -> bool:
    """Return whether ``text`` is a well-formed place in a country (in the United States: a state) that exists."""
    if not isinstance(text, str) or _jurisdiction.fullmatch(text) is None or text[:2] not in COUNTRIES:
        return False
    parts = text.split("-")
    return parts[0] != "US" or len(parts) == 1 or parts[1] in US_SUBDIVISIONS


def is_known_place(text: str, *, also: frozenset[str] = frozenset()) -> bool:
    """Return whether every level of a jurisdiction is known: listed here, or in or around one of ``also``.

    Parameters
    ----------
    text : str
        A place such as ``US-CA-SAN_FRANCISCO``.
    also : frozenset of str
        Further places that exist, such as those of all registered tenants.
    """
    if not is_jurisdiction(text):
        return False
    if any(place == text or place.startswith(text + "-") for place in also):
        return True
    parts = text.split("-", 1)
    return len(parts) == 1 or parts[0] != "US" or "-" not in parts[1] or parts[1] in US_PLACES


def overlap(one: str, other: str) -> bool:
    """Return whether two places overlap: equal, or one inside the other. See the module's decision."""
    return one == other or one.startswith(other + "-") or other.startswith(one + "-")


def within(inner: str, outer: str) -> bool:
    """Return whether ``inner`` is ``outer`` or lies inside it."""
    return inner == outer or inner.startswith(outer + "-")
