"""Sample photos from registry packages, fetched and verified like the models; none is in the repository."""

from __future__ import annotations

import io
from importlib import resources
from pathlib import Path
from typing import Literal

import msgspec
from PIL import Image

from abeyance.vision.models.registry import Progress, package_files
from abeyance.vision.models.store import cache_directory


class PackageArchive(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which archive of which package the photos are in."""

    registry: Literal["pypi", "npm"]
    package: str
    version: str
    kind: str
    sha256: tuple[str, ...]
    bytes: int
    wheel_tag: str = ""


class SampleLicence(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Terms and credit."""

    spdx: str
    attribution: str


class SampleSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A set of photos in one package."""

    name: str
    about: str
    source: PackageArchive
    patterns: tuple[str, ...]
    licence: SampleLicence


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    samples: tuple[SampleSet, ...]


def sample_sets() -> tuple[SampleSet, ...]:
    """Every set that ``samples.json`` names."""
    text = resources.files(__package__).joinpath("samples.json").read_bytes()
    return msgspec.json.decode(text, type=_Document).samples


def fetch_samples(name: str, progress: Progress | None = None) -> dict[str, Path]:
    """The files of one set by file name, from the cache or from the registry.

    Raises ``KeyError`` for an unknown set, and :class:`~abeyance.vision.errors.PackageUnavailable` or
    :class:`~abeyance.vision.errors.ModelCorrupt` if the package cannot be had or is not the one that is meant.
    """
    sets = {sample.name: sample for sample in sample_sets()}
    source = sets[name].source
    paths = package_files(
        source.registry,
        source.package,
        source.version,
        source.sha256,
        sets[name].patterns,
        cache_directory() / "samples" / name,
        kind=source.kind,
        wheel_tag=source.wheel_tag,
        size=source.bytes,
        progress=progress,
    )
    return {path.name: path for path in paths}


def as_png(path: Path) -> bytes:
    """A photo in a format that people upload: the CSU scrap shots are PGM files, which Abeyance does not take."""
    with Image.open(path) as image:
        body = io.BytesIO()
        image.save(body, "PNG")
    return body.getvalue()
