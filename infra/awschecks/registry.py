"""The checks by their assumption's name, and what a check says of what it sees."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from botocore.exceptions import ClientError

from infra.awschecks.account import Account, DoesNotHold

Check = Callable[[Account], None]
CHECKS: dict[str, Check] = {}


def check(name: str) -> Callable[[Check], Check]:
    """Register a function as the check of an assumption."""

    def register(check: Check) -> Check:
        CHECKS[name] = check
        return check

    return register


def expect(condition: bool, seen: str) -> None:
    """Raise ``DoesNotHold`` with the observation unless the condition holds."""
    if not condition:
        raise DoesNotHold(seen)


@contextlib.contextmanager
def refused(*codes: str) -> Iterator[None]:
    """Expect an error of AWS with one of these codes, or of any code if none is given."""
    try:
        yield
    except ClientError as error:
        code = error.response["Error"]["Code"]
        expect(not codes or code in codes, f"refused with {code}, not {' or '.join(codes)}")
    else:
        raise DoesNotHold("was not refused")
