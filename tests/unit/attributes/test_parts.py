"""Models that are published in several files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from abeyance.vision.errors import ModelCorrupt
from abeyance.vision.models import store
from abeyance.vision.models.manifest import Manifest, ModelEntry, PackageFile


def entry_of(files: dict[str, bytes]) -> ModelEntry:
    (first, head), *rest = ((name, hashlib.sha256(content).hexdigest()) for name, content in files.items())
    model = Manifest.load()["expression-faceapi"]
    also = tuple(PackageFile(file=name, sha256=sha) for name, sha in rest)
    return msgspec.structs.replace(model, file=first, sha256=head, also=also)


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The files that the registry hands out for any package."""
    files: dict[str, bytes] = {}

    def handed_out(*head: Any, **others: Any) -> list[Path]:
        patterns: Sequence[str] = head[1]
        folder = Path(head[2])
        for name in patterns:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(files[name])
        return [folder / name for name in sorted(patterns)]

    monkeypatch.setattr(store, "package_files", handed_out)
    return files


def test_files_come_in_the_order_of_the_manifest(package: dict[str, bytes], tmp_path: Path) -> None:
    package.update({"p/z.bin": b"weights", "p/a.json": b"names"})
    found = store._published(entry_of(package), tmp_path, lambda *_: None)
    assert found == [b"weights", b"names"]


@pytest.mark.parametrize("wrong", ["p/z.bin", "p/a.json"])
def test_each_file_has_to_be_the_expected_one(package: dict[str, bytes], tmp_path: Path, wrong: str) -> None:
    package.update({"p/z.bin": b"weights", "p/a.json": b"names"})
    entry = entry_of(package)
    package[wrong] = b"something else"
    with pytest.raises(ModelCorrupt, match=wrong):
        store._published(entry, tmp_path, lambda *_: None)


def test_every_file_is_part_of_the_identity() -> None:
    entry = Manifest.load()["facemesh"]
    other = msgspec.structs.replace(entry, also=(PackageFile(file="x", sha256="0" * 64),))
    moved = msgspec.structs.replace(entry, also=(msgspec.structs.replace(entry.also[0], file="elsewhere"),))
    assert other.identity != entry.identity == moved.identity


def test_only_a_package_has_several_files() -> None:
    entry = Manifest.load()["facemesh"]
    with pytest.raises(ValueError, match="further files"):
        msgspec.structs.replace(entry, source=None, file="", path="mesh.bin")
