"""The authorisation of a request, against the flags that ask for one. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from msgspec import structs

from abeyance.aws.timestamps import later, parse_moment
from abeyance.moratorium.authorization import AuthorizationRefusal, AuthorizationUse
from abeyance.moratorium.document import Flag, instant_text
from abeyance.moratorium.tenants import Tenant

if TYPE_CHECKING:
    from abeyance.moratorium.decide import Request


def authorized(
    request: Request, tenant: Tenant, asking: Sequence[Flag], moment: datetime
) -> tuple[AuthorizationUse | None, bool]:
    """Return what a request uses, and whether every flag that asks for an authorisation accepts it at a moment."""
    use = request.authorization
    if use is None:
        return None, False
    if use.state == "late":
        due = due_before(asking, parse_moment(use.since))
        if due is None:
            return structs.replace(use, state="refused", refused=AuthorizationRefusal.NO_LATE, due=""), False
        if due <= moment:
            return structs.replace(use, state="refused", refused=AuthorizationRefusal.OVERDUE, due=""), False
        return structs.replace(use, due=instant_text(due)), True
    place = request.jurisdiction or tenant.jurisdiction
    stands = use.authorizes(tenant.id, request.purpose, place, request.collection, moment)
    if use.state == "used" and not stands:
        # Valid when it was used, and not at this moment; or not this request's.
        return structs.replace(use, state="refused", refused=AuthorizationRefusal.NOT_VALID), False
    return use, stands


def due_before(asking: Iterable[Flag], since: datetime) -> datetime | None:
    """Return the moment before which the authorisation of a request made at ``since`` has to arrive.

    ``None`` if one of the flags that ask for it does not let it be late.
    """
    waits = [flag.authorization_due_within for flag in asking]
    if not waits or None in waits:
        return None
    return later(since, min(wait for wait in waits if wait is not None))
