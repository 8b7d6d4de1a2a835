"""``abeyance jobs``: jobs of the Rekognition API on stored video."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from abeyance.cli.output import Commands, Exit, Json, console, errors, fail, report

if TYPE_CHECKING:
    from abeyance.pipeline.jobs import JobProgress

app = typer.Typer(name="jobs", cls=Commands, no_args_is_help=True, help="Watch jobs on stored video.")


@app.callback()
def jobs() -> None:
    """Watch jobs on stored video."""


@app.command()
def watch(
    job_id: Annotated[str, typer.Argument(help="Id of the job, as StartFaceSearch returns it.")],
    interval: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.1)] = 1.0,
    as_json: Json = False,
) -> None:
    """Show how far a job is until it ends. Exit with status 1 if it fails."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from abeyance.cli._context import settings
    from abeyance.deployment.videos import build_job_progress

    progress_of = build_job_progress(settings())
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=errors, transient=True) as bar:
        task = bar.add_task("Waiting", total=None)
        while True:
            found = progress_of(job_id)
            if found is None:
                fail(f"there is no job {job_id}; jobs are kept for seven days", Exit.UNAVAILABLE)
            bar.update(
                task,
                description="Examining segments" if found.segments else "Waiting",
                total=found.segments or None,
                completed=found.examined,
            )
            if found.status != "IN_PROGRESS":
                break
            time.sleep(interval)
    report(found, as_json=as_json, show=lambda: _show(found))
    raise typer.Exit(Exit.OK if found.status == "SUCCEEDED" else Exit.NO)


def _show(found: JobProgress) -> None:
    people = "" if found.people is None else f", {found.people} people"
    console.print(f"{found.status}: {found.examined} of {found.segments} segments{people}", highlight=False)
    if found.message:
        console.print(found.message, highlight=False, markup=False)
