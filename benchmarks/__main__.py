"""``python -m benchmarks``: how fast the parts are on this machine. In a checkout only."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from abeyance.cli.output import Exit, Json, console, errors, fail, report, table
from benchmarks import suite
from benchmarks.comparison import BenchmarkPart, Progress
from benchmarks.page import aim, number, page, plot, ratio
from benchmarks.process import BenchmarkError
from benchmarks.suite import PARTS

app = typer.Typer(help="Measure how fast the parts are on this machine.", no_args_is_help=True)


Quick = Annotated[bool, typer.Option("--quick", help="A fifth of the time, fewer rounds, the smaller sizes.")]


@app.command("all")
def everything(
    quick: Quick = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for benchmarks.md, .svg and .json; nothing is written without it."),
    ] = None,
    against: Annotated[Path | None, typer.Option(help="Ratios of earlier runs (benchmarks.json).")] = None,
    accept: Annotated[
        bool, typer.Option("--accept", help="Store ratios that are lower than before.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Measure every part beside its alternatives, as ratios, and compare them with an earlier run.

    Only a run on the same kind of processor is compared: the same name, cores and instruction sets. A part with a
    lower ratio is measured once more, and only a ratio that is lower again counts.

    The exit code is 1 if a ratio is lower than in the earlier run, beyond the spreads, and 3 if a part could not be
    measured. Neither run is written to the folder then.
    """
    with errors.status("Starting …") as status:

        def progress(name: str) -> None:
            status.update(f"Measuring: {PARTS[name]}")

        found = suite.run(list(PARTS), quick, progress)
        earlier = suite.load(against).get(found.machine.kind) if against else None
        lower = suite.confirmed(found, earlier, progress) if earlier else []
    report(found, as_json=as_json, show=lambda: _show(found.parts))
    if against and not earlier:
        kind = found.machine.kind
        _say(f"Nothing to compare with: {against} has no figures of this kind of processor, {kind}.")
    for name, why in found.failed.items():
        _say(f"[bold red]not measured:[/] {name}: {why}")
    for one in lower:
        _say(f"[bold red]lower than before:[/] {one.what}, {one.other}: {one.now:.2f}, was {one.before:.2f}")
    if out and not found.failed and (accept or not lower):
        out.mkdir(parents=True, exist_ok=True)
        (out / "benchmarks.md").write_text(page(found, lower), encoding="utf-8")
        (out / "benchmarks.svg").write_text(plot(found), encoding="utf-8")
        suite.store(found, out / "benchmarks.json")
        _say(f"Written to {out}")
    raise typer.Exit(Exit.UNAVAILABLE if found.failed else Exit.NO if lower else Exit.OK)


def _say(text: str) -> None:
    errors.print(text, highlight=False, soft_wrap=True)


def _add(name: str, title: str) -> None:
    """Add the command of one part."""

    def part(quick: Quick = False, as_json: Json = False) -> None:
        try:
            with errors.status("Starting …") as status:
                module = import_module(f"benchmarks.{name}")
                found: BenchmarkPart = module.run(quick, lambda what: status.update(f"Measuring {what} …"))
        except BenchmarkError as error:
            fail(str(error), Exit.UNAVAILABLE)
        report(found, as_json=as_json, show=lambda: _show([found]))

    app.command(name, help=title)(part)


for _name, _title in PARTS.items():
    _add(_name, _title)


@app.command()
def callers(quick: Quick = False, as_json: Json = False) -> None:
    """Measure 200 calls of the API at once, and eight clients for a minute. The exit code is 1 below the aims."""
    from benchmarks import callers

    _measure(lambda progress: callers.calls(quick, progress), as_json)


@app.command()
def folder(
    photos: Annotated[int, typer.Option(min=1, help="Photos in the folder.")] = 5000, as_json: Json = False
) -> None:
    """Measure a folder of photos that ``aws s3 cp --recursive`` copies to the system on this machine.

    The exit code is 1 below the aims.
    """
    from benchmarks import callers

    _measure(lambda progress: callers.folder(photos, progress), as_json)


def _measure(work: Callable[[Progress], BenchmarkPart], as_json: bool) -> None:
    try:
        with errors.status("Starting …") as status:
            found = work(lambda what: status.update(f"Measuring {what} …"))
    except BenchmarkError as error:
        fail(str(error), Exit.UNAVAILABLE)
    report(found, as_json=as_json, show=lambda: _show([found]))
    raise typer.Exit(Exit.OK if found.reached else Exit.NO)


@app.command()
def embedder(
    model: Annotated[str, typer.Option(help="Name in the model manifest.")] = "sface-2021dec",
    random: Annotated[
        str,
        typer.Option(help="Generate a network with random weights instead: iresnet50, iresnet100 or tiny."),
    ] = "",
    providers: Annotated[
        str, typer.Option(help="Devices, best first: TensorRT,CUDA,CPU; auto takes the best one there is.")
    ] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp16 or fp32; auto is fp16 on a GPU.")] = "auto",
    batches: Annotated[str, typer.Option(help="Batch sizes of the bare loop.")] = "1,2,4,8,16,32",
    clients: Annotated[str, typer.Option(help="Numbers of clients.")] = "1,4,16",
    chips: Annotated[str, typer.Option(help="Faces of a request.")] = "1,8",
    seconds: Annotated[float, typer.Option(min=0.1, help="Of each measurement.")] = 3.0,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of bare loop and server in turn.")] = 5,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting of the endpoint, such as batch=128; may be repeated."),
    ] = None,
    soak: Annotated[
        float, typer.Option(min=0, help="Minutes of steady load instead, to watch memory.")
    ] = 0.0,
    load: Annotated[float, typer.Option(min=0.05, max=1, help="Share of the endpoint's capacity.")] = 0.8,
    out: Annotated[Path | None, typer.Option(help="Folder for the report (JSON) and the plot (SVG).")] = None,
    as_json: Json = False,
) -> None:
    """Measure the embedding endpoint against its model alone, and the model against the device.

    Starts the endpoint on 127.0.0.1 and ends it again. The exit code is 1 if the server stays below its goal (90 % of
    the model in a bare loop on a processor, 85 % on a GPU), or a soak sees an error or memory that grows by a tenth.
    """
    from abeyance.vision.errors import ModelError
    from benchmarks.embedder.endpoint import MeasuredEndpoint
    from benchmarks.embedder.measure import MeasurementPlan, measure
    from benchmarks.embedder.plot import plot as plot_report
    from benchmarks.embedder.soak import soak as run_soak

    sizes = {"batches": _numbers(batches), "clients": _numbers(clients), "chips": _numbers(chips)}
    plan = MeasurementPlan(**sizes, seconds=seconds, rounds=rounds)
    settings = {"providers": providers, "precision": precision, **dict(map(_setting, setting or []))}
    try:
        name, environment, flops = _prepare(model, random)
        endpoint = MeasuredEndpoint(name, environment, settings)
        with errors.status("Starting …") as status:
            if soak:
                found = run_soak(endpoint, soak, load, status.update)
            else:
                found = measure(endpoint, flops, plan, lambda what: status.update(f"Measuring {what} …"))
    except (BenchmarkError, ModelError) as error:
        fail(str(error), Exit.UNAVAILABLE)
    report(found, as_json=as_json, show=lambda: _show([found.part]))
    if out:
        out.mkdir(parents=True, exist_ok=True)
        stem = f"{'soak' if soak else 'bench'}-{name}"
        (out / f"{stem}.json").write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1))
        if found.caption:
            (out / f"{stem}.svg").write_text(plot_report(found), encoding="utf-8")
        _say(f"Written to {out}")
    raise typer.Exit(Exit.OK if found.part.reached else Exit.NO)


def _prepare(model: str, random: str) -> tuple[str, dict[str, str], int]:
    """Return the name of the model, the environment of the endpoint's processes, and the operations of one face."""
    import onnxruntime

    from abeyance.local.worker import function_folder
    from abeyance.vision.models.manifest import Manifest
    from abeyance.vision.models.store import cache_directory, fetch, locate
    from benchmarks.embedder import synthetic

    environment = {"PYTHONPATH": f"{function_folder()}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    if not random:
        return model, environment, synthetic.cost(locate(Manifest.load()[model])).flops
    if random not in synthetic.ARCHITECTURES:
        fail(f"--random takes {', '.join(synthetic.ARCHITECTURES)}, not {random}", Exit.USAGE)
    folder = cache_directory() / "loadtest"
    gpus = {"CUDAExecutionProvider", "TensorrtExecutionProvider"}
    entry = synthetic.write(folder, random, cpu=gpus.isdisjoint(onnxruntime.get_available_providers()))
    if entry.conversion.name != "none":
        fetch([entry], folder)
    environment |= {"ABEYANCE_MANIFEST": str(folder / f"{entry.name}.json"), "ABEYANCE_MODELS": str(folder)}
    # Counted before the conversion, which changes no product of matrices.
    return entry.name, environment, synthetic.cost(Path(entry.path)).flops


def _numbers(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) for part in parts):
        fail(f"expected whole numbers from 1 up with commas between, not {text}", Exit.USAGE)
    return tuple(sorted(set(map(int, parts))))


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        fail(f"--set takes NAME=VALUE, not {text}", Exit.USAGE)
    return name.lower(), value


def _show(parts: Iterable[BenchmarkPart]) -> None:
    """Print two tables a part that can be read in a terminal of 80 columns, the most important column first."""
    for part in parts:
        title = PARTS.get(part.name, part.name)
        compared = [
            (ratio(one.ratio.median), aim(one), one.what, one.other, f"{ours} : {theirs} {one.unit}")
            for one in part.comparisons
            for ours, theirs in [(number(one.ours.median), number(one.theirs.median))]
        ]
        alone = [
            (f"{number(one.value.median)} {one.unit}", aim(one), one.what + f" ({one.note})" * bool(one.note))
            for one in part.figures
        ]
        if compared:
            columns = ("ratio", "aim", "work", "alternative", "Abeyance : it")
            console.print(table(title, columns, compared))
        if alone:
            console.print(table(title, ("figure", "aim", "of"), alone))
        for note in part.notes:
            console.print(note, highlight=False)


if __name__ == "__main__":
    app(prog_name="python -m benchmarks")
