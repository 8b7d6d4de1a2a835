"""The map of templates: its arithmetic, the graph that has it appended, and its fit."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper

from abeyance.evaluation.errors import TooFew
from abeyance.evaluation.map_fit import fit_map
from abeyance.vision.errors import ManifestInvalid, ModelCorrupt, ModelUnusable
from abeyance.vision.models.convert import append_map
from abeyance.vision.models.manifest import FittedMap, Manifest
from abeyance.vision.models.template_map import TemplateMap
from abeyance.vision.session import open_session

SIZE = 24


def strangers(count: int, seed: int = 0) -> NDArray[np.float32]:
    """Unit vectors with a common part, and one direction in which they vary much more than in the others."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((count, SIZE)) + 0.4
    rows[:, 3] *= 6
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def fitted() -> TemplateMap:
    return fit_map(strangers(2000), np.arange(2000) % 3, provenance="made up", directions=4)


def test_the_map_damps_what_strangers_share(fitted: TemplateMap) -> None:
    held_out = strangers(500, seed=1)
    pairs = np.triu_indices(500, 1)
    before, after = ((v @ v.T)[pairs] for v in (held_out, fitted.apply(held_out)))
    assert np.quantile(after, 0.999) < np.quantile(before, 0.999) - 0.02
    assert abs(after.mean()) < before.mean()
    assert abs(fitted.directions[0][3]) > 0.95
    assert fitted.gains[0] == min(fitted.gains) < 0.8


def test_it_is_undone_for_another_fit(fitted: TemplateMap) -> None:
    before = strangers(50, seed=2)
    before[7] = 0
    mapped = fitted.apply(before)
    assert not mapped[7].any()
    lengths = np.linalg.norm(mapped, axis=1)
    assert np.allclose(np.delete(lengths, 7), 1, atol=1e-6)
    assert np.abs(fitted.undo(mapped) - before).max() < 1e-5


def test_the_graph_with_the_map_gives_the_mapped_direction(fitted: TemplateMap) -> None:
    graph = helper.make_graph(
        [helper.make_node("Identity", ["data"], ["out"])],
        "passes",
        [helper.make_tensor_value_info("data", onnx.TensorProto.FLOAT, ["n", SIZE])],
        [helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, ["n", SIZE])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=9)
    session = open_session(append_map(model.SerializeToString(), fitted))
    unit = strangers(5, seed=3)
    (found,) = session.run(["out"], {"data": 17 * unit})
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    assert np.abs(found - fitted.apply(unit)).max() < 1e-6
    with pytest.raises(ModelUnusable, match="cannot follow"):
        append_map(
            model.SerializeToString(),
            fit_map(strangers(2000)[:, :20], np.zeros(2000), provenance="", directions=2),
        )


def test_a_map_that_is_not_the_manifests_is_refused(tmp_path: Path, fitted: TemplateMap) -> None:
    file = tmp_path / "map.json"
    file.write_bytes(msgspec.json.encode(fitted))
    named = FittedMap(file=str(file), sha256=hashlib.sha256(file.read_bytes()).hexdigest())
    assert TemplateMap.read(named) == fitted
    with pytest.raises(ModelCorrupt, match="SHA-256"):
        TemplateMap.read(FittedMap(file=str(file), sha256="0" * 64))
    file.write_bytes(b"{}")
    with pytest.raises(ManifestInvalid, match="not a map"):
        TemplateMap.read(FittedMap(file=str(file), sha256=hashlib.sha256(b"{}").hexdigest()))
    with pytest.raises(ManifestInvalid, match="cannot read"):
        TemplateMap.read(FittedMap(file=str(tmp_path / "none.json"), sha256="0" * 64))


def test_the_embedder_of_the_manifest_has_a_map_that_its_identity_depends_on() -> None:
    entry = Manifest.load()["sface-2021dec"]
    assert entry.map is not None
    known = TemplateMap.read(entry.map)
    assert len(known.mean) == entry.dimension
    assert "CC BY 4.0" in known.provenance
    plain = msgspec.structs.replace(entry, map=None)
    assert plain.identity != entry.identity


def test_too_few_strangers_fit_no_map() -> None:
    with pytest.raises(TooFew):
        fit_map(strangers(100), np.zeros(100), provenance="")
