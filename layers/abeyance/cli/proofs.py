"""``abeyance moratoria prove`` and its kin: what flags could ever permit, exactly."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from abeyance.cli import _context as context
from abeyance.cli.output import Exit, Json, console, existing_file, report

if TYPE_CHECKING:
    from abeyance.moratorium.claims import PolicyClaim
    from abeyance.moratorium.proofs import Counterexample, Region

Flags = Annotated[
    Path | None,
    existing_file("--flags", "--document", help="Use this flags document instead of the flags in force."),
]
ClaimText = Annotated[
    str, typer.Argument(help='Such as "deny law_enforcement search in US unless missing_children".')
]
Since = Annotated[
    str | None, typer.Option("--from", help="Look at moments from this one on (2020-06-10). By default: now.")
]
Until = Annotated[str | None, typer.Option("--to", help="Look at moments before this one. By default: all.")]


def prove(
    claim: ClaimText, flags: Flags = None, since: Since = None, until: Until = None, as_json: Json = False
) -> None:
    """Prove that a claim holds, or show the smallest counterexample. Exit with status 1 if it does not hold.

    The proof covers every tenant that could be registered, every place, every purpose and every moment. A claim is:
    deny|permit SECTOR ACTION in PLACE [by TENANT, ...] [for PURPOSE, ...] [unless PURPOSE, ...]
    [without review | without N reviewers | without similarity N | without authorization | without audit]; any
    stands for every sector, action or place.
    Exit with status 2 if the sentence is no claim.
    """
    from abeyance.moratorium import proofs, words

    asked = _claim(claim, since, until)
    proof = proofs.prove(asked, context.flags(flags))
    found = proof.counterexample
    sentences = [] if found is None else words.counterexample(found)

    def show() -> None:
        stretch = f"from {asked.since.date() if asked.since else 'the first day'}" + (
            f" until {asked.until.date()}" if asked.until else " on"
        )
        verdict = "Holds" if proof.holds else "Does not hold"
        _say(f"{verdict}, {stretch}: {proof.claim}", *sentences)

    report(
        {
            "claim": proof.claim,
            "holds": proof.holds,
            "words": sentences,
            "counterexample": found,
            "regions": proof.regions,
        },
        as_json=as_json,
        show=show,
    )
    if not proof.holds:
        raise typer.Exit(Exit.NO)


def who(
    asked: Annotated[
        str, typer.Argument(help='SECTOR ACTION in PLACE, such as "law_enforcement search in US".')
    ],
    flags: Flags = None,
    since: Since = None,
    until: Until = None,
    as_json: Json = False,
) -> None:
    """List who could ever be permitted something. Exit with status 1 if nobody could be."""
    from abeyance.moratorium.proofs import who_may

    found = who_may(_claim(f"permit {asked}", since, until), context.flags(flags))
    _report_regions(found, as_json, nobody="Nobody.")
    if not found:
        raise typer.Exit(Exit.NO)


def changes(
    day: Annotated[str, typer.Argument(help="A day, such as 2027-01-01.")],
    flags: Flags = None,
    as_json: Json = False,
) -> None:
    """List what is permitted and denied otherwise after a day than before it."""
    from abeyance.moratorium.proofs import changes_on

    start = context.moment(day).replace(hour=0, minute=0, second=0, microsecond=0)
    _report_regions(changes_on(start, context.flags(flags)), as_json, nobody="Nothing changes on that day.")


def difference(
    document: Annotated[Path, typer.Argument(help="The flags document.", exists=True, dir_okay=False)],
    against: Annotated[
        Path | None, existing_file("--against", help="Compare with this document, not the flags in force.")
    ] = None,
    since: Since = None,
    as_json: Json = False,
) -> None:
    """List all that a document permits, denies or restricts otherwise than the flags in force, from now on."""
    from abeyance.moratorium import proofs

    found = proofs.difference(context.flags(against), context.flags(document), since=context.moment(since))
    _report_regions(found, as_json, nobody="Nobody is permitted or denied anything else.")


def _claim(text: str, since: str | None, until: str | None) -> PolicyClaim:
    from abeyance.moratorium.claims import parse_claim

    # What is over cannot be decided again, so a claim is about the moments from now on unless it says otherwise.
    last: datetime | None = None if until is None else context.moment(until)
    return parse_claim(text, since=context.moment(since).replace(microsecond=0), until=last)


def _report_regions(found: list[Region], as_json: bool, *, nobody: str) -> None:
    from abeyance.moratorium import words

    lines: list[str] = []
    for region in found:
        heading = str(region.kind).replace("_", " ").capitalize() + ":"
        lines += [] if heading in lines else [heading]
        lines.append(f"  {words.region(region)}")
    rows: list[dict[str, Any]] = [
        {"words": words.region(region), "region": _plain(region)} for region in found
    ]
    report(rows, as_json=as_json, show=lambda: _say(*(lines or [nobody])))


def _plain(found: Region | Counterexample) -> dict[str, Any]:
    """Return a region or a counterexample with its sets of names in a stable order."""
    from msgspec import structs

    plain = structs.asdict(found)
    for name in ("tenants", "purposes"):
        plain[name] = {"all_but" if plain[name].all_but else "only": sorted(plain[name].named)}
    return plain


def _say(*sentences: str) -> None:
    console.print("\n".join(sentences), highlight=False, markup=False, soft_wrap=True)
