"""The layers: their content, and that a function finds in them what it imports."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import get_args

import pytest
from infra.config import ROOT, Config

from abeyance.deployment.settings import UNITS, DeploymentSettings
from infra import functions, layers


@pytest.mark.parametrize("name", ["gate", "ledger", "flags"])
def test_decision_function_starts_without_pixel_rooms(name: str) -> None:
    """It starts from its own layer alone, which has no room that reads pixels."""
    layer = layers.folder("decide", Config())
    assert not (layer / "python" / "abeyance" / "vision").exists()
    code = (
        "import sys; import handler; "
        "heavy = {'numpy', 'onnxruntime', 'PIL', 'abeyance.vision', 'abeyance.gallery'} & sys.modules.keys(); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    _import(code, name, layer)


@pytest.mark.parametrize("name", ["detect", "recognize", "console"])
def test_pixel_function_starts_from_its_layer(name: str) -> None:
    _import("import handler", name, layers.folder("abeyance", Config()))


def _import(code: str, name: str, layer: Path) -> None:
    deployment = DeploymentSettings.of(flags="appconfig:abeyance/live/moratoria")
    settings = deployment.environment_of(UNITS[name])
    path = [str(layer / "python"), str(ROOT / "functions" / name), sysconfig.get_path("purelib")]
    answer = subprocess.run(
        # -S: without the site's .pth files, of which one says where the repository is.
        [sys.executable, "-S", "-c", code],
        env={
            **os.environ,
            **settings,
            "PYTHONPATH": os.pathsep.join(path),
            "AWS_DEFAULT_REGION": "eu-central-1",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr[-2000:]


def test_layers_of_every_function_fit() -> None:
    """Every layer is there for some function, and no function carries more layers than Lambda takes."""
    for spec in functions.FUNCTIONS:
        assert len(spec.layers) <= 5
    assert {kind for spec in functions.FUNCTIONS for kind in spec.layers} == set(
        get_args(functions.LayerName)
    )


def test_functions_carry_the_models_that_they_open_and_no_others() -> None:
    def models(name: str) -> set[str]:
        (spec,) = [spec for spec in functions.FUNCTIONS if spec.name == name]
        carried = [layers.folder(layer, Config()) for layer in spec.layers if layer in layers.MODEL_ROLES]
        return {path.stem.split("-")[0] for folder in carried for path in folder.glob("models/*.onnx")}

    described = {"yunet", "age", "gender", "expression", "facemesh"}
    assert models("console") == {"yunet"}
    assert models("detect") == described
    assert models("recognize") == {"sface"}
    assert models("api") == described | {"sface"}
    assert not any(models(name) for name in ("gate", "review", "ledger", "flags"))


def test_same_sources_make_the_same_layer() -> None:
    config = Config()
    assert layers.digest_of("decide", config) == layers.digest_of("decide", Config())
    assert layers.digest_of("decide", config) != layers.digest_of("abeyance", config)
    assert layers.digest_of("base", config) != layers.digest_of("base", Config(architecture="x86_64"))


def test_pinned_lists_have_no_addresses_and_every_hash() -> None:
    for name in layers.WHEEL_LAYERS:
        lines = (ROOT / "layers" / "runtime" / f"{name}.txt").read_text().splitlines()
        pins = [line for line in lines if line and not line.startswith((" ", "#"))]
        assert pins
        assert all("==" in pin for pin in pins)
        assert not any("http" in line for line in lines)
        assert sum("--hash=sha256:" in line for line in lines) >= len(pins)


def test_config_names_the_choice_that_is_wrong() -> None:
    given = {"embedder": "tpu"}
    with pytest.raises(ValueError, match="embedder"):
        Config.from_context(given.get)
    with pytest.raises(ValueError, match="models_directory"):
        Config.from_context({"emulator": "true"}.get)
