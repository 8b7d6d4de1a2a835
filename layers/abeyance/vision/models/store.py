"""The store of models on this machine.

A model is two files in one directory: ``<name>.onnx``, as it runs, and ``<name>.receipt.json``, which records its
source and its own SHA-256. The directory is the argument, else ``$ABEYANCE_MODELS``, else the user's cache; a Lambda
layer or a container carries the same two files.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from abeyance.vision.errors import (
    ManifestInvalid,
    ModelCorrupt,
    ModelMissing,
    ModelUnusable,
    PackageUnavailable,
)
from abeyance.vision.models.manifest import Conversion, Manifest, ModelEntry, ModelRole
from abeyance.vision.models.registry import locked, package_files, replace_with, sha256_of

if TYPE_CHECKING:
    from abeyance.vision.detector import Detector

#: Called with the model's name and the step that begins.
Progress = Callable[[str, str], None]


class ModelReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """The source of a file in the store."""

    #: SHA-256 of the published file.
    source_sha256: str
    conversion: Conversion
    #: SHA-256 and bytes of the file beside this receipt.
    sha256: str
    bytes: int
    #: SHA-256 of the fitted map that was appended; "" without one.
    map_sha256: str = ""
    #: Largest relative difference between the outputs of the published and the converted model.
    difference: float


class ModelState(StrEnum):
    """The state of a model on this machine."""

    READY = "ready"
    MISSING = "missing"
    #: Made from other weights or by another conversion than those of the manifest.
    STALE = "stale"
    #: Different from its receipt.
    CORRUPT = "corrupt"


def models_directory(directory: str | Path = "") -> Path:
    """Return the directory of models: the argument, else ``$ABEYANCE_MODELS``, else ``~/.cache/abeyance/models``."""
    return Path(directory or os.environ.get("ABEYANCE_MODELS", "") or cache_directory() / "models")


def cache_directory() -> Path:
    """Return ``$XDG_CACHE_HOME/abeyance``, else ``~/.cache/abeyance``; everything in it may be deleted."""
    return Path(os.environ.get("XDG_CACHE_HOME", "") or Path.home() / ".cache") / "abeyance"


def state_of(entry: ModelEntry, directory: str | Path = "", *, deep: bool = True) -> ModelState:
    """Compare a model on this machine with the manifest; ``deep`` reads the whole file for its SHA-256."""
    return _find(entry, directory, deep=deep)[0]


def _find(entry: ModelEntry, directory: str | Path, *, deep: bool) -> tuple[ModelState, Path]:
    """Return the state of a model and the file to run: a file of the operator's own may run without a copy."""
    state, path = _stored(entry, directory, deep=deep), _paths(entry, directory)[0]
    own = Path(entry.path)
    if state is ModelState.READY or not (entry.path and entry.conversion.name == "none" and own.is_file()):
        return state, path
    return (ModelState.READY if not deep or sha256_of(own) == entry.sha256 else ModelState.CORRUPT), own


def _stored(entry: ModelEntry, directory: str | Path, *, deep: bool) -> ModelState:
    path, receipt_path = _paths(entry, directory)
    try:
        receipt = msgspec.json.decode(receipt_path.read_bytes(), type=ModelReceipt)
        size = path.stat().st_size
    except FileNotFoundError:
        return ModelState.MISSING
    except msgspec.MsgspecError:
        return ModelState.CORRUPT
    mapped = entry.map.sha256 if entry.map else ""
    made_from = receipt.source_sha256, receipt.conversion, receipt.map_sha256
    if made_from != (entry.sha256, entry.conversion, mapped):
        return ModelState.STALE
    if size != receipt.bytes or (deep and sha256_of(path) != receipt.sha256):
        return ModelState.CORRUPT
    return ModelState.READY


def receipt_of(entry: ModelEntry, directory: str | Path = "") -> ModelReceipt | None:
    """Return the receipt in the store, or None."""
    try:
        return msgspec.json.decode(_paths(entry, directory)[1].read_bytes(), type=ModelReceipt)
    except (OSError, msgspec.MsgspecError):
        return None


def fetch(
    entries: Iterable[ModelEntry],
    directory: str | Path = "",
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> list[Path]:
    """Make every model of ``entries`` ready: download, verify, convert, check, store.

    Models that are ready are left alone unless ``force`` is given. Safe to run in several processes at once.

    Returns
    -------
    list of Path
        The files that run, in the order of ``entries``.

    Raises
    ------
    PackageUnavailable, ModelCorrupt, ModelUnusable
        If a model cannot be had; files that were stored before stay as they were.
    """
    target = models_directory(directory)
    target.mkdir(parents=True, exist_ok=True)
    paths = []
    for entry in entries:
        path = _paths(entry, target)[0]
        if force or _stored(entry, target, deep=True) is not ModelState.READY:
            with locked(target / f".{entry.name}.lock"):
                # Another process may have done it while this one waited.
                if force or _stored(entry, target, deep=True) is not ModelState.READY:
                    _make(entry, target, progress)
        paths.append(path)
    return paths


def locate(entry: ModelEntry, directory: str | Path = "", *, verify: bool = True) -> Path:
    """Return the file to run for ``entry``; use no network.

    Parameters
    ----------
    verify
        Compare the file's SHA-256 (some 40 ms for 40 MB). A function whose models are part of its own
        immutable deployment may do without; the size is compared in any case.

    Raises
    ------
    ModelMissing
        If it has not been fetched.
    ModelCorrupt
        If it differs from its receipt; ``abeyance models fetch`` replaces it.
    """
    state, path = _find(entry, directory, deep=verify)
    if state is ModelState.READY:
        return path
    if state is ModelState.CORRUPT and path == Path(entry.path):
        raise ModelCorrupt(
            f"{path} is not the file that the manifest means by {entry.name}: its SHA-256 differs"
        )
    if state is ModelState.CORRUPT:
        raise ModelCorrupt(f"{path} is damaged; run: abeyance models fetch {entry.name}")
    stale = state is ModelState.STALE
    because = "was made for another version of the manifest" if stale else "is not on this machine"
    raise ModelMissing(
        f"the model {entry.name} {because} (looked in {path.parent}); run: abeyance models fetch {entry.name}"
    )


def published_file(entry: ModelEntry) -> Path:
    """Return the file as its package has it, before conversion: the one that other tools run.

    It is kept in the cache. Raises what :func:`fetch` raises, and ``KeyError`` for a file of the operator's own.
    """
    source = entry.source
    if source is None:
        raise KeyError(f"{entry.name} comes from no package")
    (path,) = package_files(source, [entry.file], cache_directory() / "published" / entry.name)
    return path


def load_detector(
    name: str = "yunet-2023mar",
    directory: str | Path = "",
    *,
    manifest: Manifest | None = None,
    threads: int = 1,
    verify: bool = True,
    straighten: bool = True,
) -> Detector:
    """Return the detector ``name`` of the manifest; raise :class:`~abeyance.vision.errors.ModelError`."""
    from abeyance.vision.detector import Detector
    from abeyance.vision.session import open_session

    entry = entry_for(name, ModelRole.DETECTOR, manifest)
    path = locate(entry, directory, verify=verify)
    certainty = (entry.confidence.knots if entry.confidence else ()) or ((0.0, 0.0), (1.0, 1.0))
    return Detector(open_session(path, threads=threads), straighten=straighten, certainty=certainty)


def entry_for(name: str, role: ModelRole, manifest: Manifest | None = None) -> ModelEntry:
    """Return the manifest's entry ``name``; raises ``ManifestInvalid`` if it is not for ``role``."""
    entry = (manifest or Manifest.load())[name]
    if entry.role is not role:
        raise ManifestInvalid(f"the model {name} is for {entry.role}, not a {role}")
    return entry


def _paths(entry: ModelEntry, directory: str | Path) -> tuple[Path, Path]:
    folder = models_directory(directory)
    return folder / f"{entry.name}.onnx", folder / f"{entry.name}.receipt.json"


def _make(entry: ModelEntry, directory: Path, progress: Progress | None) -> None:
    def report(step: str) -> None:
        if progress:
            progress(entry.name, step)

    published, *also = _published(entry, directory, report)
    if entry.conversion.name == "none":
        report("checking")
        converted, difference = published, 0.0
    else:
        try:
            from abeyance.vision.models.convert import append_map, convert
        except ImportError as error:
            raise ModelUnusable(
                f"converting {entry.name} needs the package onnx; install it with: pip install 'abeyance[models]'"
            ) from error
        report("converting and checking")
        converted, difference = convert(entry, published, also)
        if entry.map is not None:
            from abeyance.vision.models.template_map import TemplateMap

            report("appending the map")
            converted = append_map(converted, TemplateMap.read(entry.map))
    path, receipt_path = _paths(entry, directory)
    receipt = ModelReceipt(
        source_sha256=entry.sha256,
        conversion=entry.conversion,
        sha256=hashlib.sha256(converted).hexdigest(),
        bytes=len(converted),
        map_sha256=entry.map.sha256 if entry.map else "",
        difference=difference,
    )
    # A reader between these two sees a file that is not what its receipt says, and never half a file.
    replace_with(path, converted)
    replace_with(receipt_path, msgspec.json.encode(receipt))
    report("ready")


def _published(entry: ModelEntry, directory: Path, report: Callable[[str], None]) -> list[bytes]:
    """Return the file as published, and its further files, verified."""
    if entry.source is None:
        try:
            contents = {entry.path: Path(entry.path).read_bytes()}
        except OSError as error:
            raise PackageUnavailable(
                f"cannot read {entry.path}, which the manifest names: {error.strerror}"
            ) from error
        expected, origin = {entry.path: entry.sha256}, ""
    else:
        expected = {entry.file: entry.sha256, **{part.file: part.sha256 for part in entry.also}}
        origin = f" of {entry.source.package} {entry.source.version}"
        with tempfile.TemporaryDirectory(prefix=".package-", dir=directory) as folder:
            package_files(entry.source, list(expected), folder, report)
            contents = {file: (Path(folder) / file).read_bytes() for file in expected}
    for file, sha256 in expected.items():
        found = hashlib.sha256(contents[file]).hexdigest()
        if found != sha256:
            raise ModelCorrupt(
                f"{file}{origin} is not the file that the manifest means by {entry.name}: its SHA-256 is {found}. "
                "Nothing was stored"
            )
    return list(contents.values())
