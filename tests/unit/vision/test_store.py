from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from abeyance.embedding.onnx import load_embedder
from abeyance.vision.errors import (
    ManifestInvalid,
    ModelCorrupt,
    ModelMissing,
    ModelUnusable,
    PackageUnavailable,
)
from abeyance.vision.models.manifest import Conversion, Manifest, ModelEntry
from abeyance.vision.models.store import (
    ModelState,
    fetch,
    load_detector,
    locate,
    models_directory,
    receipt_of,
    state_of,
)

from .networks import arcface_like, as_manifest, entry_of

PRELU = Conversion(name="prelu")


@pytest.fixture
def entry(tmp_path: Path) -> ModelEntry:
    (tmp_path / "own").mkdir()
    file, _ = arcface_like(tmp_path / "own", slope=1.5)
    return entry_of(file, conversion=PRELU)


def test_where_models_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ABEYANCE_MODELS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert models_directory() == tmp_path / "abeyance" / "models"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert models_directory() == Path.home() / ".cache" / "abeyance" / "models"
    monkeypatch.setenv("ABEYANCE_MODELS", str(tmp_path / "set"))
    assert models_directory() == tmp_path / "set"
    assert models_directory(tmp_path / "given") == tmp_path / "given"


def test_a_model_is_converted_checked_and_stored_once(entry: ModelEntry, tmp_path: Path) -> None:
    store = tmp_path / "store"
    assert state_of(entry, store) is ModelState.MISSING
    steps: list[str] = []
    (path,) = fetch([entry], store, progress=lambda _, step: steps.append(step))
    assert steps == ["converting and checking", "ready"]
    assert {p.name for p in store.iterdir() if not p.name.startswith(".")} == {
        path.name,
        "own-arcface.receipt.json",
    }
    receipt = receipt_of(entry, store)
    assert receipt is not None
    assert receipt.source_sha256 == entry.sha256
    assert receipt.difference < 1e-5
    assert state_of(entry, store) is ModelState.READY
    before = path.stat().st_mtime_ns
    assert fetch([entry], store, progress=lambda *_: pytest.fail("worked again")) == [path]
    assert path.stat().st_mtime_ns == before
    fetch([entry], store, force=True)
    assert path.stat().st_mtime_ns != before
    # Nobody else's umask: a layer or an image is read by another user.
    assert path.stat().st_mode & 0o444 == 0o444


def test_the_rewritten_prelu_gives_the_same_templates(entry: ModelEntry, tmp_path: Path) -> None:
    """Also with a slope above 1."""
    fetch([entry], tmp_path / "store")
    manifest = Manifest({entry.name: entry})
    converted = load_embedder(entry.name, tmp_path / "store", manifest=manifest)
    plain = msgspec.structs.replace(entry, conversion=Conversion())
    original = load_embedder(entry.name, tmp_path / "empty", manifest=Manifest({entry.name: plain}))
    chips = np.random.default_rng(0).integers(0, 256, (4, 112, 112, 3), np.uint8)
    assert np.abs(converted.embed(chips) - original.embed(chips)).max() < 1e-5
    assert converted.identity != original.identity


def test_another_form_is_made_again_and_its_templates_are_the_same(entry: ModelEntry, tmp_path: Path) -> None:
    fetch([entry], tmp_path)
    newer = msgspec.structs.replace(entry, conversion=msgspec.structs.replace(PRELU, form=2))
    assert state_of(newer, tmp_path) is ModelState.STALE
    fetch([newer], tmp_path)
    assert state_of(newer, tmp_path) is ModelState.READY
    assert newer.identity == entry.identity


def test_damage_is_noticed_and_mended(entry: ModelEntry, tmp_path: Path) -> None:
    (path,) = fetch([entry], tmp_path)
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:-1] + b"x"):
        path.write_bytes(damaged)
        assert state_of(entry, tmp_path) is ModelState.CORRUPT
        with pytest.raises(ModelCorrupt, match="abeyance models fetch own-arcface"):
            locate(entry, tmp_path)
        fetch([entry], tmp_path)
        assert path.read_bytes() == whole
    path.with_name("own-arcface.receipt.json").write_text("{")
    assert state_of(entry, tmp_path) is ModelState.CORRUPT
    fetch([entry], tmp_path)
    assert locate(entry, tmp_path) == path


def test_without_verification_only_the_size_counts(entry: ModelEntry, tmp_path: Path) -> None:
    (path,) = fetch([entry], tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"x")
    assert locate(entry, tmp_path, verify=False) == path
    path.write_bytes(whole[:-1])
    with pytest.raises(ModelCorrupt):
        locate(entry, tmp_path, verify=False)


def test_another_manifest_makes_a_model_stale(entry: ModelEntry, tmp_path: Path) -> None:
    fetch([entry], tmp_path)
    newer = msgspec.structs.replace(entry, sha256="0" * 64)
    assert state_of(newer, tmp_path) is ModelState.STALE
    with pytest.raises(ModelMissing, match="another version of the manifest"):
        locate(newer, tmp_path)


def test_a_model_that_was_not_fetched_says_how(entry: ModelEntry, tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match="abeyance models fetch own-arcface"):
        locate(entry, tmp_path)
    with pytest.raises(ModelMissing, match="abeyance models fetch yunet-2023mar"):
        load_detector(directory=tmp_path)


def test_a_wrong_file_is_not_stored(entry: ModelEntry, tmp_path: Path) -> None:
    wrong = msgspec.structs.replace(entry, sha256="0" * 64)
    with pytest.raises(ModelCorrupt, match="SHA-256"):
        fetch([wrong], tmp_path / "store")
    assert not list((tmp_path / "store").glob("*.onnx"))
    missing = msgspec.structs.replace(entry, path=str(tmp_path / "nowhere.onnx"))
    with pytest.raises(PackageUnavailable, match="cannot read"):
        fetch([missing], tmp_path / "store")


def test_a_file_of_ones_own_plugs_in_by_its_entry_alone(own_manifest: Path, tmp_path: Path) -> None:
    """No copy, no code, no conversion: an entry that names a file, found through the environment."""
    file, _ = arcface_like(own_manifest.parent)
    own_manifest.write_bytes(as_manifest(entry_of(file, path=file.name)))
    embedder = load_embedder("own-arcface", tmp_path / "empty")
    assert embedder.dimension == 512
    assert embedder.entry.licence.spdx == "LicenseRef-own"
    assert embedder.embed(np.zeros((2, 112, 112, 3), np.uint8)).shape == (2, 512)
    # Packed for deployment it is a copy like any other, and the file is no longer needed.
    entry = Manifest.load()["own-arcface"]
    (copy,) = fetch([entry], tmp_path / "layer")
    file.unlink()
    assert locate(entry, tmp_path / "layer") == copy
    with pytest.raises(ModelMissing):
        locate(entry, tmp_path / "empty")


def test_a_changed_file_of_ones_own_is_refused(own_manifest: Path, tmp_path: Path) -> None:
    file, _ = arcface_like(own_manifest.parent)
    entry = entry_of(file)
    file.write_bytes(file.read_bytes() + b"\0")
    assert state_of(entry, tmp_path) is ModelState.CORRUPT
    with pytest.raises(ModelCorrupt, match="SHA-256 differs"):
        locate(entry, tmp_path)


def test_models_have_roles(tmp_path: Path) -> None:
    with pytest.raises(ManifestInvalid, match="is for detector, not a embedder"):
        load_embedder("yunet-2023mar", tmp_path)
    with pytest.raises(ManifestInvalid, match="is for embedder, not a detector"):
        load_detector("sface-2021dec", tmp_path)


def test_a_file_that_its_conversion_is_not_for_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "no.onnx"
    file.write_bytes(b"no model at all")
    with pytest.raises(ModelUnusable, match="cannot be converted"):
        fetch([entry_of(file, conversion=PRELU)], tmp_path / "store")
    with pytest.raises(ModelUnusable, match="version 9"):
        fetch([entry_of(file, conversion=Conversion(name="prelu", version=9))], tmp_path / "store")
    assert not list((tmp_path / "store").glob("*.onnx"))


def test_a_conversion_that_changes_the_answers_is_refused(
    entry: ModelEntry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rewriting that one would write first: right up to a slope of 1 and wrong above it."""
    from onnx import helper

    from abeyance.vision.models import convert

    def wrong(model: object) -> object:
        graph = model.graph  # type: ignore[attr-defined]
        (node,) = [n for n in graph.node if n.op_type == "PRelu"]
        place = list(graph.node).index(node)
        graph.node.remove(node)
        graph.node.insert(place, helper.make_node("Mul", [node.input[0], node.input[1]], ["scaled"]))
        graph.node.insert(place + 1, helper.make_node("Max", [node.input[0], "scaled"], [node.output[0]]))
        return model

    monkeypatch.setitem(convert._CONVERSIONS, "prelu", wrong)
    with pytest.raises(ModelUnusable, match="differs from the original"):
        fetch([entry], tmp_path / "store")
    assert state_of(entry, tmp_path / "store") is ModelState.MISSING
