"""Authorisations: orders by which somebody outside allows a number of searches. Data, without a store."""

from __future__ import annotations

import re
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from abeyance.moratorium.document import instant
from abeyance.moratorium.model import Instant, Items, Purpose, TenantId, Text
from abeyance.moratorium.places import is_jurisdiction, within

#: The name by which a request says that its authorisation follows: an emergency.
LATE: Final = "late"
#: A number as a court or an authority writes it, ``26-CR-1234/2``.
NUMBER: Final = r"^[A-Za-z0-9][A-Za-z0-9/_-]{0,63}$"
MAX_SEARCHES: Final = 1_000_000
_number: Final = re.compile(NUMBER)


class Authorization(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An order, as it is registered. It never changes; it can be revoked.

    Attributes
    ----------
    tenant : str
        The tenant that may search by it.
    number : str
        The issuer's own number; unique for the tenant.
    issuer : str
        The court or authority.
    purposes : tuple of str
        What for.
    place : str
        Where: tenants that are registered in it, or inside it.
    collection : str
        The one collection that may be searched; "" for any.
    starts, ends : str
        Valid in [starts, ends), UTC.
    searches : int
        The number of requests that may use it, each once.
    """

    tenant: TenantId
    number: Annotated[str, Meta(pattern=NUMBER)]
    issuer: Text
    purposes: Annotated[tuple[Purpose, ...], Items]
    place: str
    collection: Annotated[str, Meta(max_length=255)] = ""
    starts: Instant
    ends: Instant
    searches: Annotated[int, Meta(ge=1, le=MAX_SEARCHES)]

    def __post_init__(self) -> None:
        if not is_number(self.number):
            raise ValueError(f"a number has up to 64 of A-Z, a-z, 0-9, /, _ and -, and is not {LATE!r}")
        if not is_jurisdiction(self.place):
            raise ValueError("place must be a place such as US, US-CA or US-CA-SAN_FRANCISCO")
        if instant(self.ends) <= instant(self.starts):
            raise ValueError("ends must be later than starts")

    def valid(self, as_of: datetime) -> bool:
        """Return whether it is valid at ``as_of``, aware."""
        return instant(self.starts) <= as_of < instant(self.ends)

    def covers(self, tenant_id: str, purpose: str, place: str, collection: str) -> bool:
        """Return whether a request is in its scope; ``place`` is where the tenant is registered, or asks to act."""
        return (
            self.tenant == tenant_id
            and purpose in self.purposes
            and within(place, self.place)
            and self.collection in ("", collection)
        )


def is_number(text: object) -> bool:
    """Return whether ``text`` is a well-formed number of an authorisation."""
    return isinstance(text, str) and _number.fullmatch(text) is not None and text != LATE


class AuthorizationRefusal(StrEnum):
    """The reason for which a request has no authorisation."""

    NONE_APPLIES = "none_applies"
    SEVERAL_APPLY = "several_apply"
    UNKNOWN = "unknown"
    REVOKED = "revoked"
    OUT_OF_SCOPE = "out_of_scope"
    NOT_VALID = "not_valid"
    USED_UP = "used_up"
    #: Said to follow, where the flag or the way of asking does not allow that.
    NO_LATE = "no_late"
    OVERDUE = "overdue"


#: What a denied caller reads and can do.
REFUSALS: Final = {
    AuthorizationRefusal.NONE_APPLIES: "None that is registered covers it now.",
    AuthorizationRefusal.SEVERAL_APPLY: "Several apply; name one.",
    AuthorizationRefusal.UNKNOWN: "The one that it names is not registered for this tenant.",
    AuthorizationRefusal.REVOKED: "The one that it names was revoked.",
    AuthorizationRefusal.OUT_OF_SCOPE: "The one that it names does not cover this purpose, place or collection.",
    AuthorizationRefusal.NOT_VALID: "The one that it names is not valid now.",
    AuthorizationRefusal.USED_UP: "The one that it names is used up.",
    AuthorizationRefusal.NO_LATE: "It cannot follow later here.",
    AuthorizationRefusal.OVERDUE: "It did not arrive in time.",
}


class Search(Struct, frozen=True, kw_only=True):
    """A request that may need an authorisation.

    Attributes
    ----------
    id : str
        The request's own id, the same for every delivery: it uses an authorisation once.
    collection : str
        The collection that it is about; "" for none.
    named : str
        The number that it names, :data:`LATE`, or "": then the one that applies, if there is exactly one.
    may_be_late : bool
        Whether its answer can be taken back, so that its authorisation may follow.
    """

    id: str
    collection: str = ""
    named: str = ""
    may_be_late: bool = False


class AuthorizationUse(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The authorisation that a request uses, as a stage found it and as the decision's entry keeps it.

    Attributes
    ----------
    state : str
        ``used``; ``late``: it has still to arrive; ``refused``.
    search : str
        The request's own id, under which it uses an authorisation once.
    number : str
        The authorisation's, as used or as named; "" without one.
    terms : Authorization or None
        The authorisation that is used.
    since : str
        For a late one the moment of the request, UTC.
    due : str
        The moment before which a late one has to arrive, by the flags; set by ``decide``.
    refused : str
        A :class:`AuthorizationRefusal`.
    """

    state: Literal["used", "late", "refused"]
    search: str
    number: str = ""
    terms: Authorization | None = None
    since: str = ""
    due: str = ""
    refused: str = ""

    def authorizes(self, tenant_id: str, purpose: str, place: str, collection: str, as_of: datetime) -> bool:
        """Return whether a used authorisation is the tenant's, covers the request and is valid at ``as_of``."""
        terms = self.terms
        return (
            self.state == "used"
            and terms is not None
            and terms.number == self.number
            and terms.valid(as_of)
            and terms.covers(tenant_id, purpose, place, collection)
        )
