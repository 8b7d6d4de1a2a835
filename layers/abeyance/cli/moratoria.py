"""``abeyance moratoria``: what is halted, why, since when; what would change; and changing it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from abeyance.cli import _moratorium as world
from abeyance.cli.output import Exit, Json, console, fail, report

if TYPE_CHECKING:
    from abeyance.moratorium.changes import Change
    from abeyance.moratorium.proposals import Proposal
    from abeyance.moratorium.tenants import Tenant

app = typer.Typer(name="moratoria", no_args_is_help=True, help="What is halted, why, and who may change it.")

Document = Annotated[
    Path | None, typer.Option("--document", help="Look at this flags document instead of the flags in force.")
]
At = Annotated[
    str | None, typer.Option("--at", help="For this moment (2020-06-10, 2020-06-10T12:00:00Z), not now.")
]
Note = Annotated[str, typer.Option("--note", help="Why; kept on the ledger.")]


@app.command("list")
def list_flags(document: Document = None, at: At = None, as_json: Json = False) -> None:
    """List every moratorium and whether it is in force."""
    from abeyance.moratorium import words

    flags, moment = world.flags(document), world.moment(at)
    rows = [
        {
            "key": flag.key,
            "enabled": True,
            "state": words.state(flag, moment),
            "effect": str(flag.effect),
            "binds": words.binds(flag),
            "starts": flag.value.starts,
            "until": words.until(flag),
            "reason": flag.reason,
            "source": flag.source,
            "version": flag.version,
        }
        for flag in flags.flags
    ] + [{"key": key, "enabled": False, "state": "switched off"} for key in flags.disabled]
    shown = [
        (
            str(row["key"]),
            ": ".join(str(row[name]) for name in ("effect", "state") if name in row),
            str(row.get("until", "")),
            str(row.get("binds", "")),
        )
        for row in rows
    ]
    report(
        {"version": flags.version, "digest": flags.digest, "flags": rows},
        as_json=as_json,
        show=lambda: console.print(
            world.listing(f"Moratoria, {flags.version}", ("key", "state", "until", "binds"), shown)
        ),
    )


@app.command()
def explain(
    tenant: Annotated[str, typer.Option(help="A registered tenant.")] = "",
    sector: Annotated[str, typer.Option(help="Without --tenant: what the asker is.")] = "",
    place: Annotated[str, typer.Option(help="Where; with --tenant, as if it were registered there.")] = "",
    action: Annotated[str, typer.Option(help="detect, analyze, compare, index, search, ...")] = "search",
    purpose: Annotated[str, typer.Option(help="What for, such as missing_children.")] = "unspecified",
    at: At = None,
    document: Document = None,
    as_json: Json = False,
) -> None:
    """Say in words whether somebody may do something, and why. Ends with 1 if not."""
    from abeyance.moratorium import words
    from abeyance.moratorium.decide import Request, decide

    who = _asker(tenant, sector, place, action, purpose)
    flags, moment = world.flags(document), world.moment(at)
    name = tenant or "somebody"
    decision = decide(Request(tenant=who, tenant_id=name, action=action, purpose=purpose), flags, moment)
    sentences = words.explain(decision, flags)
    report(
        {"permitted": decision.permitted, "words": sentences, "decision": decision},
        as_json=as_json,
        show=lambda: console.print("\n".join(sentences), highlight=False, markup=False),
    )
    if not decision.permitted:
        raise typer.Exit(Exit.NO)


def _asker(tenant: str, sector: str, place: str, action: str, purpose: str) -> Tenant | None:
    from abeyance.moratorium.tenants import Tenant

    try:
        if tenant:
            found = world.tenants().get(tenant)
            return found.place(place) if found is not None and place else found
        if not sector or not place:
            fail("name a --tenant, or a --sector and a --place", Exit.USAGE)
        return Tenant(
            id="somebody", sector=sector, jurisdiction=place, actions=(action,), purposes=(purpose,)
        )
    except ValueError as error:
        fail(str(error), Exit.USAGE)


@app.command()
def simulate(
    export: Annotated[Path, typer.Argument(help="A ledger export, from: abeyance ledger export.")],
    draft: Annotated[Path, typer.Option("--draft", help="The flags document to decide with.")],
    as_json: Json = False,
) -> None:
    """Decide what is on the ledger again with another document, and show what would have changed."""
    from abeyance.moratorium.simulate import Direction
    from abeyance.moratorium.simulate import simulate as replay

    result = replay(world.read_entries(export), world.flags(draft))
    counts = {str(direction): result.count(direction) for direction in Direction}

    def show() -> None:
        console.print(
            f"{result.decisions} decisions, {result.replayed} decided again, {result.skipped} not decidable; "
            + ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())
        )
        columns = ("seq", "as_of", "tenant", "action", "purpose", "before", "after", "direction")
        rows = [[str(getattr(entry, name)) for name in columns] for entry in result.differences[:200]]
        if rows:
            console.print(world.listing("What would have changed", columns, rows))

    report({"counts": counts, "simulation": result}, as_json=as_json, show=show)


@app.command()
def timeline(
    document: Document = None,
    at: At = None,
    svg: Annotated[Path | None, typer.Option("--svg", help="Write a picture to this file.")] = None,
    as_json: Json = False,
) -> None:
    """Draw the moratoria over time, as text and as a picture."""
    from abeyance.moratorium import timeline as drawing

    found = drawing.spans(world.flags(document))
    now = world.moment(at)
    starts, ends = drawing.window(found, now)
    if svg is not None:
        svg.write_text(drawing.svg(found, starts, ends, now), encoding="utf-8")

    def show() -> None:
        keys = list(dict.fromkeys(span.flag for span in found))
        room = max(20, console.width - max((len(key) for key in keys), default=0) - 8)
        years = f"{starts.year}".ljust(room - 4) + f"{ends.year - 1}"
        rows = [(key, drawing.bar_text(found, key, starts, ends, room)) for key in keys]
        console.print(world.listing("Moratoria over time", ("flag", years), rows))
        console.print("█ in force   ▓ with exemptions   ▒ held past its end   · not in force")
        if svg is not None:
            console.print(f"Picture written to {svg}", markup=False)

    report({"starts": starts, "ends": ends, "now": now, "spans": found}, as_json=as_json, show=show)


@app.command()
def upcoming(
    days: Annotated[int, typer.Option(help="Look so far ahead.", min=1, max=3660)] = 60,
    document: Document = None,
    at: At = None,
    as_json: Json = False,
) -> None:
    """List the announcements of starts and ends that are due."""
    from abeyance.moratorium.boundaries import boundaries

    now = world.moment(at)
    found = boundaries(world.flags(document), now, now + timedelta(days=days))
    columns = ("at", "type", "flag", "boundary", "held")
    rows = [[str(getattr(entry, name)) for name in columns] for entry in found]
    report(found, as_json=as_json, show=lambda: console.print(world.listing("Announcements", columns, rows)))


@app.command()
def check(
    document: Annotated[Path, typer.Argument(help="The flags document to look at.")],
    against: Annotated[
        Path | None, typer.Option(help="Compare with this document, not the flags in force.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what is wrong with a document and whether it loosens. Ends with 1 if something is wrong."""
    from abeyance.moratorium.changes import classify
    from abeyance.moratorium.document import document_digest, parse
    from abeyance.moratorium.validate import check as find

    given = world.read_document(document)
    findings = find(given)
    change = None
    if not findings:
        change = classify(world.flags(against), parse(given), since=world.moment(None))

    def show() -> None:
        for finding in findings:
            console.print(f"{finding.flag or 'document'}: {finding.message}", markup=False, highlight=False)
        if change is not None:
            _show_change(change)
            console.print(f"SHA-256 {document_digest(given)}", highlight=False)

    digest = document_digest(given) if not findings else ""
    report({"findings": findings, "change": change, "digest": digest}, as_json=as_json, show=show)
    if findings:
        raise typer.Exit(Exit.NO)


def _show_change(change: Change) -> None:
    console.print(
        f"This is {'no change' if change.kind == 'neutral' else 'a ' + change.kind}.", highlight=False
    )
    rows = [[entry.key, entry.what, str(entry.kind), ", ".join(entry.attributes)] for entry in change.flags]
    if rows:
        console.print(world.listing("Flag by flag", ("key", "what", "kind", "attributes"), rows))


@app.command()
def propose(
    document: Annotated[Path, typer.Argument(help="The flags document to bring into force.")],
    note: Note = "",
    wait: Annotated[
        bool, typer.Option("--wait", help="Propose even what could go at once, and let another approve it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Bring a document into force at once if it loosens nothing, else propose it to another principal."""
    from abeyance.moratorium.changes import Kind, classify
    from abeyance.moratorium.document import parse
    from abeyance.moratorium.errors import MoratoriumError

    given = world.read_document(document)
    who, rules = world.principal(), world.proposals()
    try:
        kind = classify(world.flags(None), parse(given), since=world.moment(None)).kind
        if kind is not Kind.LOOSENING and not wait:
            version = rules.tighten(given, who, note=note)
            report(
                {"state": "published", "kind": kind, "version": version},
                as_json=as_json,
                show=lambda: console.print(f"In force as version {version} ({kind}).", highlight=False),
            )
            return
        proposal = rules.propose(given, who, note=note)
    except MoratoriumError as error:
        _refused(error)
    report(
        _public(proposal),
        as_json=as_json,
        show=lambda: console.print(
            f"Proposal {proposal.id} ({proposal.kind}). Another principal brings it into force with\n"
            f"  abeyance moratoria approve {proposal.id} --digest {proposal.document_digest}",
            highlight=False,
            soft_wrap=True,
        ),
    )


@app.command()
def approve(
    proposal: Annotated[str, typer.Argument(help="Its id.")],
    digest: Annotated[str, typer.Option(help="SHA-256 of the document that you have looked at.")] = "",
    document: Annotated[
        Path | None, typer.Option("--document", help="Or the document itself, as you have it.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Approve another principal's proposal, for exactly the document you have looked at."""
    from abeyance.moratorium.document import document_digest
    from abeyance.moratorium.errors import MoratoriumError

    if document is not None:
        digest = document_digest(world.read_document(document))
    if not digest:
        fail("say what you approve: --digest or --document", Exit.USAGE)
    try:
        done = world.proposals().approve(proposal, world.principal(), digest)
    except MoratoriumError as error:
        _refused(error)
    report(
        _public(done),
        as_json=as_json,
        show=lambda: console.print(f"Approved, and in force as version {done.version}.", highlight=False),
    )


@app.command()
def withdraw(
    proposal: Annotated[str, typer.Argument(help="Its id.")],
    as_json: Json = False,
) -> None:
    """Close an open proposal."""
    from abeyance.moratorium.errors import MoratoriumError

    try:
        done = world.proposals().withdraw(proposal, world.principal())
    except MoratoriumError as error:
        _refused(error)
    report(_public(done), as_json=as_json, show=lambda: console.print("Withdrawn."))


@app.command()
def proposals(as_json: Json = False) -> None:
    """List proposals."""
    found = [_public(proposal) for proposal in world.proposals().all()]
    columns = ("id", "state", "kind", "proposer", "approver", "proposed_at", "note")
    rows = [[str(entry[name]) for name in columns] for entry in found]
    report(found, as_json=as_json, show=lambda: console.print(world.listing("Proposals", columns, rows)))


@app.command()
def presets(
    names: Annotated[
        list[str] | None, typer.Argument(help="Print one flags document of these presets together.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the moratoria that were, or print a flags document of some of them."""
    from abeyance.moratorium import presets as records

    if names:
        try:
            document = records.document(names)
        except (KeyError, ValueError) as error:
            fail(str(error.args[0]), Exit.USAGE)
        report(document, as_json=True, show=lambda: None)
        return
    found = records.presets()
    rows = [(entry.id, entry.announced, entry.title, ", ".join(entry.flags)) for entry in found]
    report(
        found,
        as_json=as_json,
        show=lambda: console.print(world.listing("Presets", ("id", "announced", "title", "flags"), rows)),
    )


def _public(proposal: Proposal) -> dict[str, Any]:
    return {name: getattr(proposal, name) for name in proposal.__struct_fields__ if name not in ("document",)}


def _refused(error: Exception) -> NoReturn:
    fail(str(error), Exit.NO)
