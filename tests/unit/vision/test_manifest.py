from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from abeyance.vision.errors import ManifestInvalid
from abeyance.vision.models.manifest import (
    Conversion,
    Licence,
    Manifest,
    ModelEntry,
    ModelRole,
    Preprocessing,
    SimilarityCalibration,
)

from .networks import arcface_like, as_manifest, entry_of


def test_the_installed_manifest_is_complete() -> None:
    entries = Manifest.load().entries
    assert {entry.role for entry in entries.values()} >= {ModelRole.DETECTOR, ModelRole.EMBEDDER}
    for name, entry in entries.items():
        assert entry.name == name
        assert entry.source is not None
        assert entry.licence.spdx
        assert entry.licence.attribution
        assert entry.bytes > 0
        assert entry.source.bytes > 0
        assert entry.source.sha256


def test_an_identity_is_a_name_and_twelve_digits() -> None:
    for name, entry in Manifest.load().entries.items():
        assert re.fullmatch(re.escape(name) + "@[0-9a-f]{12}", entry.identity)


def test_identities_stay_as_they_are() -> None:
    """Collections are pinned to these: a change here makes every stored template unusable, so it must be meant."""
    entries = Manifest.load().entries
    assert entries["yunet-2023mar"].identity == "yunet-2023mar@92f7d6436a64"
    assert entries["sface-2021dec"].identity == "sface-2021dec@788345300fdd"


def test_what_determines_a_template_determines_the_identity(tmp_path: Path) -> None:
    file, _ = arcface_like(tmp_path)
    entry = entry_of(file)
    pre = entry.preprocessing

    def changed(**changes: object) -> str:
        return msgspec.structs.replace(entry, **changes).identity

    different = {
        entry.identity,
        changed(sha256="0" * 64),
        changed(dimension=128),
        changed(conversion=Conversion(name="prelu")),
        changed(preprocessing=msgspec.structs.replace(pre, colour="BGR")),
        changed(preprocessing=msgspec.structs.replace(pre, mean=(0.0, 0.0, 0.0))),
        changed(preprocessing=msgspec.structs.replace(pre, alignment="")),
        changed(name="another"),
    }
    assert len(different) == 8
    same = {
        entry.identity,
        changed(licence=Licence(spdx="MIT", attribution="x")),
        changed(calibration=SimilarityCalibration(knots=((-1.0, 0.0), (1.0, 100.0)), provenance="other")),
        changed(about="text"),
        changed(path="/elsewhere/model.onnx"),
        changed(preprocessing=msgspec.structs.replace(pre, mean=(127.5, 127.5, 127.5))),
    }
    assert len(same) == 1


def test_integers_and_floats_of_a_manifest_are_one(tmp_path: Path) -> None:
    file, _ = arcface_like(tmp_path)
    entry = entry_of(file, preprocessing=Preprocessing(width=112, height=112))
    written = msgspec.json.encode(entry).replace(b"0.0", b"0").replace(b"1.0", b"1")
    assert msgspec.json.decode(written, type=ModelEntry).identity == entry.identity


def test_models_of_ones_own_come_from_the_environment(own_manifest: Path) -> None:
    file, _ = arcface_like(own_manifest.parent)
    own_manifest.write_bytes(as_manifest(entry_of(file, path=file.name)))
    manifest = Manifest.load()
    assert manifest["own-arcface"].path == str(file)
    assert "yunet-2023mar" in manifest.entries
    # Named twice is one; the same name for something else is refused.
    assert Manifest.load(extra=[own_manifest])["own-arcface"] == manifest["own-arcface"]
    other = own_manifest.with_name("other.json")
    other.write_bytes(as_manifest(entry_of(file, path=file.name, dimension=7)))
    with pytest.raises(ManifestInvalid, match="already has another model"):
        Manifest.load(extra=[other])


def test_a_model_that_is_not_there() -> None:
    with pytest.raises(ManifestInvalid, match="sface-2021dec"):
        Manifest.load()["no-such-model"]


def broken(**changes: object) -> bytes:
    entry = {
        "name": "own",
        "role": "embedder",
        "sha256": "a" * 64,
        "path": "own.onnx",
        "licence": {"spdx": "MIT", "attribution": "x"},
        "preprocessing": {"width": 112, "height": 112},
        "dimension": 512,
        "calibration": {"knots": [[0, 0], [1, 100]], "provenance": "x"},
    }
    kept = {key: value for key, value in {**entry, **changes}.items() if value is not None}
    return json.dumps({"version": 1, "models": [kept]}).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no json",
        b"\xff\xfe",
        b"[]",
        b'{"version": 2, "models": []}',
        broken(licence=None),
        broken(sha256="short"),
        broken(name="Not A Name"),
        broken(name="../escape"),
        broken(path=None),
        broken(role="oracle"),
        broken(dimension=None),
        broken(calibration=None),
        broken(unknown=1),
        broken(conversion={"name": "magic", "version": 1}),
        broken(preprocessing={"width": 128, "height": 128}),
    ],
)
def test_a_broken_manifest_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(content)
    with pytest.raises(ManifestInvalid, match="manifest"):
        Manifest.load(extra=[path])


def test_a_missing_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestInvalid, match="cannot read"):
        Manifest.load(tmp_path / "none.json")


def test_errors_and_manifest_import_nothing_heavy() -> None:
    code = (
        "import sys, abeyance.vision.errors, abeyance.vision.models.manifest, abeyance.vision.models.store;"
        "print(sorted({'numpy', 'onnxruntime', 'onnx', 'PIL', 'typer', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
