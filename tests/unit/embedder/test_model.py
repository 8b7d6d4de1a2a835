"""Which device serves, with which graph; and the settings."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import numpy as np
import pytest

from abeyance.embedding.onnx import OnnxEmbedder
from abeyance.vision.errors import ModelError, ModelUnusable
from abeyance.vision.models.manifest import ModelEntry, Preprocessing
from abeyance.vision.session import open_session
from benchmarks.embedder import synthetic
from embedder import model as served
from embedder.endpoint import probe_chips
from embedder.graph import serving_graph
from embedder.model import CPU, CUDA, TENSORRT, choose_providers, open_model
from embedder.settings import EmbedderSettings, cpus, manifest_beside_model


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.mark.parametrize(
    ("wanted", "available", "chosen"),
    [
        ("auto", [CPU], [CPU]),
        ("auto", [CUDA, CPU], [CUDA, CPU]),
        ("CPU", [CUDA, CPU], [CPU]),
        ("TensorRT,CUDA,CPU", [TENSORRT, CUDA, CPU], [TENSORRT, CUDA, CPU]),
        (" cuda , cpu", [TENSORRT, CUDA, CPU], [CUDA, CPU]),
    ],
)
def test_providers_by_availability(wanted: str, available: list[str], chosen: list[str]) -> None:
    assert choose_providers(wanted, available) == chosen


def test_tensorrt_is_taken_only_where_its_library_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for found, first in ((None, CUDA), ("libnvinfer.so.10", TENSORRT)):
        monkeypatch.setattr("ctypes.util.find_library", lambda name, found=found: found)
        assert choose_providers("auto", [TENSORRT, CUDA, CPU])[0] == first


@pytest.mark.parametrize("wanted", ["CUDA", "CUDA,CPU", "NPU", ""])
def test_a_device_that_was_asked_for_by_name_must_be_there(wanted: str) -> None:
    with pytest.raises(ModelUnusable, match="PROVIDERS"):
        choose_providers(wanted, [CPU])


def test_the_cpu_serves_what_the_function_would_compute_itself(tiny_environment: ModelEntry) -> None:
    model = open_model(EmbedderSettings(model=tiny_environment.name))
    local = OnnxEmbedder(open_session(tiny_environment.path), tiny_environment)
    assert (model.identity, model.dimension, model.provider) == (tiny_environment.identity, 32, "CPU")
    assert np.array_equal(model.run(probe_chips(3)), local.embed(probe_chips(3)))


@pytest.mark.parametrize("half", [False, True])
def test_the_graph_for_a_gpu_gives_the_same_templates(tiny_environment: ModelEntry, half: bool) -> None:
    # What a GPU runs, run on the CPU: uint8 in, preprocessing in the graph, batches padded to a few sizes.
    precision = "fp16" if half else "fp32"
    model = served._on_gpu(
        Path(tiny_environment.path), tiny_environment, [CPU], EmbedderSettings(batch=8, precision=precision)
    )
    if half:  # the arithmetic of CUDA's provider
        graph = serving_graph(Path(tiny_environment.path), tiny_environment.preprocessing, half=True)
        run = served._padded(served._gpu_session(graph, [CPU], half=True, batch=8), model.warm_up)
    else:
        run = model.run
    assert model.warm_up == (1, 2, 4, 8)
    local = OnnxEmbedder(open_session(tiny_environment.path), tiny_environment)
    for count in (1, 3, 8):
        want, have = local.embed(probe_chips(count)), run(probe_chips(count))
        assert have.shape == want.shape
        assert have.dtype == np.float32
        assert cosines(have, want).min() > (0.9995 if half else 0.999999)
        assert np.allclose(np.linalg.norm(have, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    "how",
    [
        Preprocessing(colour="BGR", width=112, height=112),
        Preprocessing(mean=(10.0, 20.0, 30.0), std=(2.0, 3.0, 4.0), width=112, height=112),
    ],
)
def test_preprocessing_in_the_graph_is_that_of_the_manifest(tiny: ModelEntry, how: Preprocessing) -> None:
    entry = msgspec.structs.replace(tiny, preprocessing=how)
    session = served._gpu_session(serving_graph(Path(tiny.path), how, half=False), [CPU], half=False, batch=2)
    have = served._padded(session, (2,))(probe_chips(2))
    assert np.allclose(have, OnnxEmbedder(open_session(tiny.path), entry).embed(probe_chips(2)), atol=1e-5)


def test_a_graph_that_does_not_bear_half_precision_says_so(tiny: ModelEntry) -> None:
    import onnx
    from onnx import numpy_helper

    for spoil in ("operator", "weight"):
        model = onnx.load(tiny.path)
        if spoil == "operator":
            model.graph.node[1].op_type = "Einsum"
        else:
            weight = model.graph.initializer[0]
            weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * 1e9, weight.name))
        with pytest.raises(ModelUnusable, match="fp16"):
            serving_graph(model.SerializeToString(), tiny.preprocessing, half=True)


def test_what_cannot_be_served_is_said(tiny_environment: ModelEntry) -> None:
    for settings in (
        EmbedderSettings(model="yunet-2023mar"),
        EmbedderSettings(model="nobody"),
        EmbedderSettings(model=tiny_environment.name, providers="CUDA"),
        EmbedderSettings(model=tiny_environment.name, precision="fp16"),
    ):
        with pytest.raises(ModelError):
            open_model(settings)


def test_settings_come_from_the_environment() -> None:
    settings = EmbedderSettings.from_environment(
        {"ABEYANCE_EMBEDDER_PORT": "9", "ABEYANCE_EMBEDDER_LINGER": "1.5", "SAGEMAKER_BIND_TO_PORT": "10"}
    )
    assert (settings.port, settings.linger, settings.host) == (10, 1.5, "127.0.0.1")
    for wrong in ({"PORT": "x"}, {"PRECISION": "int8"}, {"MAX_CHIPS": "0"}, {"CAPACITY": "5"}):
        with pytest.raises(msgspec.ValidationError):
            EmbedderSettings.from_environment(
                {f"ABEYANCE_EMBEDDER_{key}": value for key, value in wrong.items()}
            )
    assert 1 <= cpus() <= (os.cpu_count() or 1)


def test_a_sagemaker_model_may_bring_its_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ABEYANCE_MANIFEST", raising=False)
    manifest_beside_model(tmp_path)
    assert "ABEYANCE_MANIFEST" not in os.environ
    (tmp_path / "manifest.json").write_text("{}")
    monkeypatch.setenv("ABEYANCE_MANIFEST", "mine.json")
    manifest_beside_model(tmp_path)
    assert os.environ["ABEYANCE_MANIFEST"] == "mine.json"


@pytest.mark.parametrize(
    ("name", "gflops", "millions"),
    [("iresnet50", 12.6, 43.6), pytest.param("iresnet100", 24.2, 65.2, marks=pytest.mark.slow)],
)
def test_generated_networks_have_the_published_size(name: str, gflops: float, millions: float) -> None:
    cost = synthetic.cost(synthetic.build(synthetic.ARCHITECTURES[name]))
    assert cost.flops / 1e9 == pytest.approx(gflops, rel=0.01)
    assert cost.parameters / 1e6 == pytest.approx(millions, rel=0.01)


def test_generated_networks_are_the_same_every_time_and_say_what_they_are(tmp_path: Path) -> None:
    one, two = (synthetic.write(tmp_path / name, "tiny") for name in "ab")
    assert one.identity == two.identity
    assert one.name.startswith("loadtest-random-")
    assert "RANDOM" in one.about
