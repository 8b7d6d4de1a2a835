"""``python -m benchmarks``: how fast the parts are on this machine. In a checkout only."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from abeyance.cli.output import Exit, Json, console, errors, fail, report, table
from benchmarks.parts import PARTS

if TYPE_CHECKING:
    from benchmarks.comparison import Part
    from benchmarks.embedder.measure import Report
    from benchmarks.embedder.soak import Soak

app = typer.Typer(help="Measure how fast the parts are on this machine.", no_args_is_help=True)


Quick = Annotated[bool, typer.Option("--quick", help="A fifth of the time, fewer rounds, the smaller sizes.")]


@app.command("all")
def everything(
    quick: Quick = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for benchmarks.md, .svg and .json; nothing is written without it."),
    ] = None,
    against: Annotated[Path | None, typer.Option(help="Ratios of an earlier run (benchmarks.json).")] = None,
    accept: Annotated[
        bool, typer.Option("--accept", help="Store ratios that are lower than before.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Measure every part beside its alternatives, as ratios, and compare them with an earlier run.

    A part with a ratio that is lower than then is measured once more, and only what is lower again counts.

    The exit code is 1 if a ratio is lower than in the earlier run, beyond what the spreads explain, and 3 if a part
    could not be measured. Neither run is written to the folder then.
    """
    import msgspec

    from benchmarks import suite
    from benchmarks.page import page, picture

    earlier = suite.load(against) if against else None
    with errors.status("Starting …") as status:

        def tell(name: str) -> None:
            status.update(f"Measuring: {PARTS[name]}")

        found = suite.run(list(PARTS), quick, tell)
        lower = suite.confirmed(found, earlier, tell) if earlier else []
    report(found, as_json=as_json, show=lambda: _show_parts(found.parts))
    for name, why in found.failed.items():
        errors.print(f"[bold red]not measured:[/] {name}: {why}", highlight=False)
    for one in lower:
        errors.print(
            f"[bold red]lower than before:[/] {one.what}, {one.other}: {one.now:.2f}, was {one.before:.2f}",
            highlight=False,
        )
    if out and not found.failed and (accept or not lower):
        out.mkdir(parents=True, exist_ok=True)
        (out / "benchmarks.md").write_text(page(found, lower), encoding="utf-8")
        (out / "benchmarks.svg").write_text(picture(found), encoding="utf-8")
        (out / "benchmarks.json").write_bytes(
            msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n"
        )
        errors.print(f"Written to {out}", soft_wrap=True)
    raise typer.Exit(Exit.UNAVAILABLE if found.failed else Exit.NO if lower else Exit.OK)


def _add(name: str, title: str) -> None:
    """The command of one part."""

    def part(quick: Quick = False, as_json: Json = False) -> None:
        from benchmarks.errors import BenchError
        from benchmarks.parts import run

        try:
            with errors.status("Starting …") as status:
                found = run(name, quick, lambda what: status.update(f"Measuring {what} …"))
        except BenchError as error:
            fail(str(error), Exit.UNAVAILABLE)
        report(found, as_json=as_json, show=lambda: _show_parts([found]))

    app.command(name, help=title)(part)


for _name, _title in PARTS.items():
    _add(_name, _title)


@app.command()
def embedder(
    model: Annotated[str, typer.Option(help="Name in the model manifest.")] = "sface-2021dec",
    random: Annotated[
        str,
        typer.Option(help="Generate a network with random weights instead: iresnet50, iresnet100 or tiny."),
    ] = "",
    providers: Annotated[
        str, typer.Option(help="Devices, best first: TensorRT,CUDA,CPU; auto takes what is there.")
    ] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp16 or fp32; auto is fp16 on a GPU.")] = "auto",
    batches: Annotated[str, typer.Option(help="Batch sizes of the bare loop.")] = "1,2,4,8,16,32",
    clients: Annotated[str, typer.Option(help="Numbers of clients.")] = "1,4,16",
    chips: Annotated[str, typer.Option(help="Faces of a request.")] = "1,8",
    seconds: Annotated[float, typer.Option(min=0.1, help="Of each measurement.")] = 3.0,
    rounds: Annotated[int, typer.Option(min=1, help="Bare loop and server in turn, so many times.")] = 5,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting of the endpoint, such as batch=128; may be repeated."),
    ] = None,
    soak: Annotated[
        float, typer.Option(min=0, help="Minutes of steady load instead, to watch memory.")
    ] = 0.0,
    load: Annotated[float, typer.Option(min=0.05, max=1, help="Share of what the endpoint gives.")] = 0.8,
    out: Annotated[Path | None, typer.Option(help="Folder for the report (JSON) and the plot (SVG).")] = None,
    as_json: Json = False,
) -> None:
    """Measure the embedding endpoint against its model alone, and the model against the device.

    Starts the endpoint on 127.0.0.1 and ends it again. The exit code is 1 if the server stays below its goal (90 % of
    the model in a bare loop on a processor, 85 % on a GPU), or a soak sees an error or memory that grows by a tenth.
    """
    import msgspec

    from abeyance.vision.errors import ModelError
    from benchmarks.embedder.measure import Plan, measure
    from benchmarks.embedder.plot import plot
    from benchmarks.embedder.soak import soak as soak_run
    from benchmarks.errors import BenchError

    settings: dict[str, object] = {"providers": providers, "precision": precision}
    settings.update(_setting(text) for text in setting or [])
    command = [sys.executable, "-m", "embedder"]
    try:
        name, environment, flops = _prepare(model, random)
        with console.status("Starting …") if not as_json else errors.status("Starting …") as status:
            if soak:
                soaked = soak_run(command, environment, name, soak, load, status.update, settings=settings)
                value: Report | Soak = soaked
            else:
                plan = Plan(
                    batches=_numbers(batches),
                    clients=_numbers(clients),
                    chips=_numbers(chips),
                    seconds=seconds,
                    rounds=rounds,
                )
                measured = measure(
                    command,
                    environment,
                    name,
                    flops,
                    plan,
                    lambda what: status.update(f"Measuring {what} …"),
                    settings=settings,
                )
                value = measured
    except (BenchError, ModelError) as error:
        fail(str(error), Exit.UNAVAILABLE)
    if out:
        out.mkdir(parents=True, exist_ok=True)
        stem = f"{'soak' if soak else 'bench'}-{name}"
        (out / f"{stem}.json").write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=1))
        if not soak:
            (out / f"{stem}.svg").write_text(plot(measured), encoding="utf-8")
    if soak:
        report(soaked, as_json=as_json, show=lambda: _show_soak(soaked))
        good = not soaked.errors and soaked.growth < 0.1
    else:
        report(measured, as_json=as_json, show=lambda: _show(measured))
        good = measured.reached
    if out and not as_json:
        console.print(f"Written to {out}", soft_wrap=True)
    raise typer.Exit(Exit.OK if good else Exit.NO)


def _prepare(model: str, random: str) -> tuple[str, dict[str, str], int]:
    """Name of the model, the environment that the endpoint's processes need, and the operations of one face."""
    import os

    from abeyance.local.worker import function_folder
    from abeyance.vision.models.manifest import Manifest
    from abeyance.vision.models.store import cache_directory, fetch, locate
    from benchmarks.embedder import synthetic

    path = os.pathsep.join(filter(None, [str(function_folder()), os.environ.get("PYTHONPATH", "")]))
    environment = {"PYTHONPATH": path}
    if not random:
        return model, environment, synthetic.cost(locate(Manifest.load()[model])).flops
    if random not in synthetic.ARCHITECTURES:
        fail(f"--random takes {', '.join(synthetic.ARCHITECTURES)}, not {random}", Exit.USAGE)
    import onnxruntime

    folder = cache_directory() / "loadtest"
    on_cpu = set(onnxruntime.get_available_providers()).isdisjoint(
        {"CUDAExecutionProvider", "TensorrtExecutionProvider"}
    )
    entry = synthetic.write(folder, random, cpu=on_cpu)
    if entry.conversion.name != "none":
        fetch([entry], folder)
    environment |= {"ABEYANCE_MANIFEST": str(folder / f"{entry.name}.json"), "ABEYANCE_MODELS": str(folder)}
    # Counted before the conversion, which changes no product of matrices.
    return entry.name, environment, synthetic.cost(Path(entry.path)).flops


def _numbers(text: str) -> tuple[int, ...]:
    try:
        numbers = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        numbers = ()
    if not numbers or numbers[0] < 1:
        fail(f"expected whole numbers from 1 up with commas between, not {text}", Exit.USAGE)
    return numbers


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        fail(f"--set takes NAME=VALUE, not {text}", Exit.USAGE)
    return name.lower(), value


def _show_parts(parts: Iterable[Part]) -> None:
    for part in parts:
        _show_part(part)


def _show_part(part: Part) -> None:
    from benchmarks.page import number, ratio, spread

    if part.comparisons:
        console.print(
            table(
                PARTS[part.name],
                ("what", "unit", "Abeyance", "instead", "its figure", "ratio", "aim"),
                [
                    (
                        one.what,
                        one.unit,
                        spread(one.ours),
                        one.other,
                        spread(one.theirs),
                        f"{ratio(one.ratio.median)} ({ratio(one.ratio.low)}–{ratio(one.ratio.high)})",
                        ""
                        if one.aim is None
                        else f"{ratio(one.aim)} {'reached' if one.reached else 'missed'}",
                    )
                    for one in part.comparisons
                ],
            )
        )
    if part.figures:
        console.print(
            table(
                PARTS[part.name],
                ("what", "unit", "measured", "aim"),
                [
                    (
                        f"{one.what} ({one.note})" if one.note else one.what,
                        one.unit,
                        spread(one.value),
                        ""
                        if one.aim is None
                        else f"{number(one.aim)} {'reached' if one.reached else 'missed'}",
                    )
                    for one in part.figures
                ],
            )
        )
    for note in part.notes:
        console.print(note, highlight=False)


def _show(measured: Report) -> None:
    device, best = measured.device, measured.best
    console.print(
        f"\n[bold]{measured.model}[/]: {measured.flops_per_face / 1e9:.2f} GFLOP a face\n"
        f"{device.name}, {device.provider}, {device.precision}, {device.cpus} CPUs: "
        f"{device.peak_flops / 1e9:,.0f} GFLOP/s in a matrix product, so at most {measured.roof:,.0f} faces/s\n",
        highlight=False,
    )
    console.print(
        table(
            "The model alone",
            ("callers x threads", "batch", "faces/s", "of the roof"),
            [
                (
                    f"{run.callers} x {run.threads}",
                    run.batch,
                    f"{run.faces_per_second:,.1f}",
                    f"{run.faces_per_second / measured.roof:.0%}" + (" (best)" if run is best else ""),
                )
                for run in measured.bare
            ],
        )
    )
    console.print(
        table(
            "The server",
            ("clients", "faces a request", "faces/s", "p50 ms", "p95 ms", "errors", "clients' own CPUs"),
            [
                (
                    run.clients,
                    run.chips,
                    f"{run.faces_per_second:,.1f}",
                    f"{run.p50:,.1f}",
                    f"{run.p95:,.1f}",
                    run.errors,
                    f"{run.client_cpu:.2f}",
                )
                for run in measured.server
            ],
        )
    )
    console.print(
        table(
            f"In turn, at 16 clients (goal {measured.goal:.0%}; medians of {len(measured.headlines[0].rounds)})",
            (
                "faces a request",
                "alone",
                "server",
                "share",
                "lowest to highest",
                "by CPU time",
                "p50 ms",
                "p95 ms",
            ),
            [
                (
                    one.chips,
                    f"{one.bare:,.1f}",
                    f"{one.server:,.1f}",
                    f"{one.share:.1%}",
                    f"{min(r.share for r in one.rounds):.0%} to {max(r.share for r in one.rounds):.0%}",
                    f"{one.cpu_share:.1%}",
                    f"{one.p50:,.1f}",
                    f"{one.p95:,.1f}",
                )
                for one in measured.headlines
            ],
        )
    )


def _show_soak(soaked: Soak) -> None:
    mebi = 2**20
    console.print(
        table(
            f"{soaked.minutes:g} minutes at {soaked.load:.0%} load: {soaked.model}",
            ("what", "figure"),
            [
                ("requests", f"{soaked.requests:,}"),
                ("faces", f"{soaked.faces:,}"),
                ("errors", soaked.errors),
                ("p50, p95", f"{soaked.p50:,.0f} ms, {soaked.p95:,.0f} ms"),
                ("memory at the start", f"{soaked.memory_start / mebi:,.1f} MiB"),
                ("memory at the end", f"{soaked.memory_end / mebi:,.1f} MiB ({soaked.growth:+.1%})"),
                ("most memory", f"{soaked.memory_most / mebi:,.1f} MiB"),
            ],
        )
    )


if __name__ == "__main__":
    app(prog_name="python -m benchmarks")
