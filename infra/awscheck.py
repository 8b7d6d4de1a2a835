"""``make aws-check``: check :mod:`infra.assumptions` against the account of your credentials, with small resources.

Everything is made under one new name, costs some cents at most, and is taken away again; what AWS does not let go at
once is named at the end. Against an emulator (``AWS_ENDPOINT_URL``), what that is known not to do is named and skipped.
``python -m infra.awscheck --write`` makes docs/aws-assumptions.md instead and calls nothing.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import jinja2
import msgspec
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console

from infra.assumptions import ASSUMPTIONS, Assumption
from infra.awschecks import CHECKS
from infra.awschecks.account import Account, CannotCheck, DoesNotHold
from infra.config import ROOT

PAGE = ROOT / "docs" / "aws-assumptions.md"
HOLDS, FAILS, UNCHECKED = "holds", "does not hold", "cannot be checked here"


class Result(msgspec.Struct, frozen=True):
    """The outcome of an assumption's check: one of the three words above, and why."""

    name: str
    outcome: str
    why: str = ""


def run(account: Account, chosen: Sequence[Assumption] = ASSUMPTIONS) -> Iterator[Result]:
    """Check each assumption; an error of AWS that is not the expected one is a reason why it cannot be checked."""
    emulated = bool(os.environ.get("AWS_ENDPOINT_URL"))
    for one in chosen:
        if one.unchecked or (emulated and one.emulator):
            yield Result(one.name, UNCHECKED, one.unchecked or f"the emulator: {one.emulator}")
            continue
        try:
            CHECKS[one.name](account)
        except DoesNotHold as error:
            yield Result(one.name, FAILS, str(error))
        except (CannotCheck, ClientError, BotoCoreError) as error:
            yield Result(one.name, UNCHECKED, str(error))
        else:
            yield Result(one.name, HOLDS)


def page() -> str:
    """Return docs/aws-assumptions.md."""
    services = itertools.groupby(ASSUMPTIONS, lambda one: one.name.split(".")[0])
    template = jinja2.Template(
        Path(__file__).with_name("assumptions.md.j2").read_text(),
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    text = template.render(services=[(name, list(members)) for name, members in services])
    return text.rstrip() + "\n"


def main(arguments: Sequence[str] = tuple(sys.argv[1:])) -> int:
    """Run the checks, or write the page; returns 1 if an assumption does not hold."""
    if list(arguments) == ["--write"]:
        PAGE.write_text(page())
        return 0
    console = Console(highlight=False, soft_wrap=True, markup=False)
    account = Account()
    try:
        caller = account.client("sts").get_caller_identity()["Account"]
    except (BotoCoreError, ClientError) as error:
        console.print(f"error: {error}; set credentials and a region for the account to check")
        return 3
    where = os.environ.get("AWS_ENDPOINT_URL", "AWS")
    console.print(f"Account {caller}, {account.region}, at {where}; everything is named {account.name}.")
    results = []
    try:
        for result in run(account):
            results.append(result)
            console.print(f"{result.outcome:<24}{result.name:<34}{result.why}")
    finally:
        account.close()
    counts = {word: sum(result.outcome == word for result in results) for word in (HOLDS, FAILS, UNCHECKED)}
    console.print(", ".join(f"{count} {word}" for word, count in counts.items()))
    for line in account.left:
        console.print(f"Left: {line}")
    return int(counts[FAILS] > 0)


if __name__ == "__main__":
    sys.exit(main())
