"""``abeyance moratoria``: show what is halted, ask what would change, and change it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from abeyance.cli import _context as context
from abeyance.cli import guardrails as guardrail_commands
from abeyance.cli import proofs
from abeyance.cli.output import Commands, Exit, Json, cells, console, existing_file, fail, report, table

if TYPE_CHECKING:
    from abeyance.moratorium.changes import Change
    from abeyance.moratorium.proposals import Proposal
    from abeyance.moratorium.tenants import Tenant

app = typer.Typer(
    name="moratoria", cls=Commands, no_args_is_help=True, help="Show, explain and change what is halted."
)

Document = Annotated[
    Path | None,
    existing_file("--document", help="Use this flags document instead of the flags in force."),
]
DocumentArgument = Annotated[Path, typer.Argument(help="The flags document.", exists=True, dir_okay=False)]
app.add_typer(guardrail_commands.app, name="guardrails")
for command in (proofs.prove, proofs.who, proofs.changes, proofs.difference):
    app.command()(command)

At = Annotated[
    str | None, typer.Option("--at", help="Use this moment (2020-06-10, 2020-06-10T12:00:00Z), not now.")
]
Note = Annotated[str, typer.Option("--note", help="State the reason; it is kept on the ledger.")]
ProposalId = Annotated[str, typer.Argument(help="The proposal's id.")]


@app.command("list")
def list_flags(document: Document = None, at: At = None, as_json: Json = False) -> None:
    """List every moratorium and whether it is in force."""
    from abeyance.moratorium import words

    flags, moment = context.flags(document), context.moment(at)
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
    cells = [
        (
            row["key"],
            ": ".join(str(row[name]) for name in ("effect", "state") if name in row),
            row.get("until", ""),
            row.get("binds", ""),
        )
        for row in rows
    ]
    report(
        {"version": flags.version, "digest": flags.digest, "flags": rows},
        as_json=as_json,
        show=lambda: _list(f"Moratoria, {flags.version}", ("key", "state", "until", "binds"), cells),
    )


@app.command()
def explain(
    tenant: Annotated[str, typer.Option(help="A registered tenant.")] = "",
    sector: Annotated[str, typer.Option(help="Without --tenant: the sector of the asker.")] = "",
    place: Annotated[str, typer.Option(help="Where; with --tenant, as if it were registered there.")] = "",
    action: Annotated[str, typer.Option(help="detect, analyze, compare, index, search, ...")] = "search",
    purpose: Annotated[str, typer.Option(help="What for, such as missing_children.")] = "unspecified",
    at: At = None,
    document: Document = None,
    as_json: Json = False,
) -> None:
    """Explain whether somebody may do something. Exit with status 1 if not."""
    from abeyance.moratorium import words
    from abeyance.moratorium.decide import Request, decide

    asker = _asker(tenant, sector, place, action, purpose)
    flags, moment = context.flags(document), context.moment(at)
    request = Request(tenant=asker, tenant_id=tenant or "somebody", action=action, purpose=purpose)
    decision = decide(request, flags, moment)
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
            found = next((one for one in context.changes().tenants() if one.id == tenant), None)
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
    export: Annotated[
        Path,
        typer.Argument(help="A ledger export, from: abeyance ledger export", exists=True),
    ],
    draft: Annotated[Path, existing_file("--draft", help="The flags document to decide with.")],
    as_json: Json = False,
) -> None:
    """Decide the recorded requests again with another document, and show what would change."""
    from abeyance.moratorium.simulate import Direction
    from abeyance.moratorium.simulate import simulate as replay

    result = replay(context.read_entries(export), context.flags(draft))
    counts = {str(direction): result.count(direction) for direction in Direction}

    def show() -> None:
        console.print(
            f"{result.decisions} decisions, {result.replayed} decided again, {result.skipped} not decidable; "
            + ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())
        )
        if result.differences:
            columns = ("index", "as_of", "tenant", "action", "purpose", "before", "after", "direction")
            _list("What would have changed", columns, cells(result.differences[:200], columns))

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

    found = drawing.spans(context.flags(document))
    now = context.moment(at)
    starts, ends = drawing.window(found, now)
    if svg is not None:
        svg.write_text(drawing.svg(found, starts, ends, now), encoding="utf-8")

    def show() -> None:
        keys = list(dict.fromkeys(span.flag for span in found))
        room = max(20, console.width - max((len(key) for key in keys), default=0) - 8)
        years = f"{starts.year}".ljust(room - 4) + f"{(ends - timedelta(microseconds=1)).year}"
        rows = [(key, drawing.bar_text(found, key, starts, ends, room)) for key in keys]
        _list("Moratoria over time", ("flag", years), rows)
        console.print("█ in force   ▓ with exemptions   ▒ held past its end   · not in force")
        if svg is not None:
            console.print(f"Picture written to {svg}", markup=False)

    report({"starts": starts, "ends": ends, "now": now, "spans": found}, as_json=as_json, show=show)


@app.command()
def upcoming(
    days: Annotated[int, typer.Option(help="Look this many days ahead.", min=1, max=3660)] = 60,
    document: Document = None,
    at: At = None,
    as_json: Json = False,
) -> None:
    """List the announcements of starts and ends that are due."""
    from abeyance.aws.timestamps import later
    from abeyance.moratorium.boundaries import boundaries

    now = context.moment(at)
    found = boundaries(context.flags(document), now, later(now, timedelta(days=days)))
    columns = ("at", "type", "flag", "boundary", "held")
    report(found, as_json=as_json, show=lambda: _list("Announcements", columns, cells(found, columns)))


@app.command()
def check(
    document: DocumentArgument,
    against: Annotated[
        Path | None,
        existing_file(help="Compare with this document, not the flags in force."),
    ] = None,
    guardrails: Annotated[
        Path | None,
        existing_file(help="Check also that it breaks none of these guardrails from now on."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a document, and whether it loosens. Exit with status 1 if something is wrong with it."""
    from abeyance.moratorium.changes import classify
    from abeyance.moratorium.document import parse, without_metadata
    from abeyance.moratorium.guardrails import NO_GUARDRAILS, parse_guardrails
    from abeyance.moratorium.proposals import change_digest
    from abeyance.moratorium.subjects import FlagsChange
    from abeyance.moratorium.validate import check as find

    given, now = context.read_document(document), context.moment(None)
    rails = NO_GUARDRAILS if guardrails is None else parse_guardrails(guardrails.read_bytes())
    findings, change, digest = find(given, guardrails=rails, as_of=now), None, ""
    if not findings:
        change = classify(context.flags(against), parse(given), since=now)
        digest = change_digest(FlagsChange(without_metadata(given)))

    def show() -> None:
        for finding in findings:
            console.print(f"{finding.flag or 'document'}: {finding.message}", markup=False, highlight=False)
        if change is not None:
            _show_change(change)
            console.print(f"SHA-256 {digest}", highlight=False)

    report({"findings": findings, "change": change, "digest": digest}, as_json=as_json, show=show)
    if findings:
        raise typer.Exit(Exit.NO)


@app.command()
def propose(
    document: DocumentArgument,
    note: Note = "",
    wait: Annotated[
        bool, typer.Option("--wait", help="Propose also what could take effect at once.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Bring a document into force at once if it loosens nothing; otherwise propose it to another person."""
    from abeyance.moratorium.subjects import FlagsChange

    change = FlagsChange(context.read_document(document))
    show_submitted(context.changes().submit(change, note=note, wait=wait), as_json)


@app.command()
def halt(
    key: Annotated[str, typer.Argument(help="A name for the halt, such as all_police.")],
    reason: Annotated[str, typer.Option(help="What a caller who is denied reads.")],
    sector: Annotated[list[str] | None, typer.Option(help="Halt this sector; repeat it.")] = None,
    place: Annotated[list[str] | None, typer.Option(help="Halt in this place; repeat it.")] = None,
    action: Annotated[list[str] | None, typer.Option(help="Halt this action; repeat it.")] = None,
    as_json: Json = False,
) -> None:
    """Put on the brake: halt at once, past every rollout. One person is enough; taking it off takes two."""
    from abeyance.moratorium.brake import with_halt
    from abeyance.moratorium.subjects import BrakeChange

    client = context.changes()
    try:
        document = with_halt(
            client.state()["brake"]["document"],
            key,
            reason=reason,
            sectors=sector,
            jurisdictions=place,
            actions=action,
            starts=context.moment(None),
        )
    except ValueError as error:
        fail(str(error), Exit.USAGE)
    show_submitted(client.submit(BrakeChange(document), note=reason), as_json)


@app.command()
def release(
    key: Annotated[str, typer.Argument(help="The name of the halt.")],
    note: Note = "",
    as_json: Json = False,
) -> None:
    """Propose to take a halt off the brake."""
    from abeyance.moratorium.brake import without_halt
    from abeyance.moratorium.subjects import BrakeChange

    client = context.changes()
    try:
        document = without_halt(client.state()["brake"]["document"], key)
    except ValueError as error:
        fail(str(error), Exit.USAGE)
    show_submitted(client.submit(BrakeChange(document), note=note), as_json)


@app.command()
def approve(
    proposal: ProposalId,
    digest: Annotated[str, typer.Option(help="SHA-256 of the change that you have read.")] = "",
    document: Annotated[
        Path | None,
        existing_file("--document", help="Or the document itself, as you have it."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Approve another person's proposal, for exactly the change that you have read."""
    from msgspec import structs

    from abeyance.moratorium.document import without_metadata
    from abeyance.moratorium.proposals import change_digest
    from abeyance.moratorium.subjects import DocumentChange

    client = context.changes()
    if document is not None:
        proposed = client.get(proposal).change
        if not isinstance(proposed, DocumentChange):
            fail("this proposal is not about a document: name the --digest", Exit.USAGE)
        given = without_metadata(context.read_document(document))
        digest = change_digest(structs.replace(proposed, document=given))
    if not digest:
        fail("name what you approve: --digest or --document", Exit.USAGE)
    show_submitted(client.approve(proposal, digest), as_json)


@app.command()
def retry(proposal: ProposalId, as_json: Json = False) -> None:
    """Bring an approved change into force whose deployment failed."""
    show_submitted(context.changes().retry(proposal), as_json)


@app.command()
def withdraw(proposal: ProposalId, as_json: Json = False) -> None:
    """Close a proposal that is not in force."""
    done = context.changes().withdraw(proposal)
    report(public(done), as_json=as_json, show=lambda: console.print("Withdrawn."))


@app.command()
def show(proposal: ProposalId, as_json: Json = False) -> None:
    """Show one proposal whole, as it is to be approved."""
    found = public(context.changes().get(proposal))
    report(found, as_json=as_json, show=lambda: console.print_json(data=found))


@app.command()
def proposals(as_json: Json = False) -> None:
    """List proposals."""
    now_s = context.moment(None).timestamp()
    found = context.changes().all()
    columns = ("id", "state", "subject", "kind", "proposer", "approvers", "proposed_at", "note")
    rows = [
        (
            one.id,
            one.state_at(now_s),
            one.subject,
            one.kind,
            one.proposer.person,
            ", ".join(other.person for other in one.approvers),
            one.proposed_at,
            one.note,
        )
        for one in found
    ]
    report(
        [{**public(one), "state": one.state_at(now_s)} for one in found],
        as_json=as_json,
        show=lambda: _list("Proposals", columns, rows),
    )


@app.command()
def presets(
    names: Annotated[
        list[str] | None, typer.Argument(help="Print one flags document of these presets together.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List past moratoria, or print a flags document of some of them."""
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
        show=lambda: _list("Presets", ("id", "announced", "title", "flags"), rows),
    )


def _show_change(change: Change) -> None:
    console.print(
        f"This is {'no change' if change.kind == 'neutral' else 'a ' + change.kind}.", highlight=False
    )
    if change.flags:
        columns = ("key", "what", "kind", "attributes")
        _list("Flag by flag", columns, cells(change.flags, columns))


def _list(title: str, columns: tuple[str, ...], rows: Any) -> None:
    console.print(table(title, columns, rows, key=True))


def public(proposal: Proposal) -> dict[str, Any]:
    """Return a proposal for JSON, with its subject."""
    import msgspec

    return {**msgspec.to_builtins(proposal), "subject": proposal.subject}


def show_submitted(made: Proposal, as_json: bool) -> None:
    """Print whether a change is in force, or how others bring it into force."""

    def show() -> None:
        if made.state == "applied":
            version = made.result.get("version", "")
            where = f" as version {version}" if version else ""
            console.print(f"In force{where} ({made.kind}).", highlight=False)
            return
        others = "another person" if made.missing == 1 else f"{made.missing} other people"
        console.print(
            f"Proposal {made.id} ({made.kind}) waits for {others}. Read it with\n"
            f"  abeyance moratoria show {made.id}\nand approve it with\n"
            f"  abeyance moratoria approve {made.id} --digest {made.digest}",
            highlight=False,
            soft_wrap=True,
        )

    report(public(made), as_json=as_json, show=show)
