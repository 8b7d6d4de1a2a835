"""The errors of flags, tenants and proposals. Each says what to do; a denial carries its ``fault``."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Fault(StrEnum):
    """The reason for which no decision could be made, machine-readable. Each is a denial."""

    REQUEST_MALFORMED = "request_malformed"
    TIME_INVALID = "time_invalid"
    CLOCK_SKEW = "clock_skew"
    CLOCK_UNAVAILABLE = "clock_unavailable"
    FLAGS_UNAVAILABLE = "flags_unavailable"
    FLAGS_EMPTY = "flags_empty"
    FLAGS_TOO_LARGE = "flags_too_large"
    FLAGS_UNREADABLE = "flags_unreadable"
    FLAGS_SCHEMA_VERSION = "flags_schema_version"
    FLAGS_STALE = "flags_stale"
    TENANTS_UNAVAILABLE = "tenants_unavailable"
    TENANT_UNREADABLE = "tenant_unreadable"
    PRINCIPAL_AMBIGUOUS = "principal_ambiguous"
    AUTHORIZATIONS_UNAVAILABLE = "authorizations_unavailable"
    INTERNAL = "internal"


#: Faults that callers can cause by what they send. They are denials as the others are, and ring no alarm: an alarm
#: would roll back a change of the flags that is being deployed. Every other fault has its cause in the deployment.
CALLER_FAULTS: Final = frozenset({Fault.REQUEST_MALFORMED})


class MoratoriumError(Exception):
    """Base of this room's errors."""

    fault: Fault = Fault.INTERNAL


class FlagsError(MoratoriumError):
    """Flags that cannot be had or cannot be read. Nothing may be decided on them."""

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(message)
        self.fault = fault


class NothingDeployed(FlagsError):
    """AppConfig answers, and no flags have ever been deployed."""

    def __init__(self) -> None:
        super().__init__(Fault.FLAGS_UNAVAILABLE, "no flags have been deployed yet; deploy a first document")


class TenantUnreadable(MoratoriumError):
    """A registration that is not well-formed: correct or replace the item in the tenants table."""

    fault = Fault.TENANT_UNREADABLE


class PrincipalAmbiguous(MoratoriumError):
    """A principal that more than one tenant claims, or whose claim and registration disagree."""

    fault = Fault.PRINCIPAL_AMBIGUOUS


class TenantExists(MoratoriumError):
    """A tenant of that id, or a claim to that principal, is already registered."""


class TenantUnknown(MoratoriumError):
    """No tenant of that id is registered."""
