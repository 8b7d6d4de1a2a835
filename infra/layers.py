"""Build the layers that functions carry, without Docker: ``python -m infra.layers [lock]``.

Every layer is a folder made from a few inputs and kept in ``.cache/layers`` under the hash of those inputs, so a
second synthesis builds nothing. :mod:`infra.functions` says what each layer holds and who carries it.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import get_args

from abeyance.vision.models.registry import locked
from infra import trim
from infra.config import ROOT, Config
from infra.functions import FUNCTIONS, LayerName

#: The Python of the Lambda runtime.
PYTHON = "3.13"
#: Lambda's limit for a function and its layers, unzipped: 262 144 000 bytes, which its documentation calls 250 MB.
LIMIT_MB = 262
#: Layers made of wheels, from a pinned list.
WHEEL_LAYERS: tuple[LayerName, ...] = ("base", "vision", "web", "signatures", "video")
#: Layers made of converted models, and the roles of those.
MODEL_ROLES: dict[LayerName, tuple[str, ...]] = {
    "detector": ("detector",),
    "analysis": ("detector", "age", "gender", "expression", "mesh"),
    "embedder": ("embedder",),
    "tracking": ("detector", "age", "gender", "expression", "mesh", "embedder"),
}

#: Glob patterns, one a line, of files that layers are built without.
_EXCLUDED = ROOT / "layers" / "runtime" / "excluded.txt"
#: The newest C library that the Lambda runtime's wheels may ask for, by Lambda's name of the architecture.
_PLATFORM = {"arm64": "aarch64-manylinux_2_28", "x86_64": "x86_64-manylinux_2_28"}
_DECISION_ROOMS = ("aws", "moratorium", "ledger", "pipeline", "assurance", "deployment")
_ROOMS = {
    "decide": _DECISION_ROOMS,
    "abeyance": (
        *_DECISION_ROOMS,
        "vision",
        "embedding",
        "gallery",
        "rekognition",
        "erasure",
        "curation",
        "console",
    ),
}


class LayerBuildFailed(RuntimeError):
    """A layer that could not be built, with uv's message."""


def folder(layer: LayerName, config: Config, python: str = PYTHON) -> Path:
    """Return the folder of a finished layer, built now if it is not in the cache.

    Raises
    ------
    LayerBuildFailed
        If its wheels cannot be installed.
    """

    def fill(target: Path) -> None:
        if layer in WHEEL_LAYERS:
            _install(lock_of(layer), target / "python", config.lambda_architecture, python)
        for path, place in _files(layer, config).items():
            (target / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / place)

    digest = digest_of(layer, config, python)
    return build_once(ROOT / ".cache" / "layers" / f"{layer}-{digest[:24]}", fill, python)


def build_once(target: Path, fill: Callable[[Path], None], python: str) -> Path:
    """Return ``target``, made now if it is missing: filled, trimmed and compiled. Other processes wait meanwhile."""
    with locked(target.with_name(f".{target.name}.lock")):
        if not target.is_dir():
            with tempfile.TemporaryDirectory(prefix=".new-", dir=target.parent) as place:
                made = Path(place) / "layer"
                fill(made)
                _trim(made / "python", python)
                _stamp(made)
                made.rename(target)
    return target


def digest_of(layer: LayerName, config: Config, python: str = PYTHON) -> str:
    """Return the SHA-256 of everything that a layer is made from: the name under which the CDK publishes it."""
    digest = hashlib.sha256(f"{layer} {python}".encode() + _EXCLUDED.read_bytes() + trim.recipe(python))
    if layer in WHEEL_LAYERS:
        digest.update(config.lambda_architecture.encode() + lock_of(layer).read_bytes())
    for path, place in _files(layer, config).items():
        digest.update(str(place).encode() + path.read_bytes())
    return digest.hexdigest()


def size_of(layer: Path) -> int:
    """Return the bytes of a folder's files, which count against Lambda's limit."""
    return sum(path.stat().st_size for path in layer.rglob("*") if path.is_file())


def lock_of(layer: LayerName) -> Path:
    """Return the pinned list of a layer of wheels."""
    return ROOT / "layers" / "runtime" / f"{layer}.txt"


@functools.cache
def sources(layer: LayerName) -> tuple[Path, ...]:
    """Return the files of ours that a layer is made of, sorted."""
    package = ROOT / "layers" / "abeyance"
    found = [path for room in _ROOMS.get(layer, ()) for path in (package / room).rglob("*") if path.is_file()]
    own = [*package.glob("*.py"), ROOT / "layers" / "models" / "manifest.json"] if found else []
    return tuple(sorted(path for path in (*own, *found) if "__pycache__" not in path.parts))


def _files(layer: LayerName, config: Config) -> dict[Path, Path]:
    """Return the files that are copied into a layer, each with its place there."""
    if roles := MODEL_ROLES.get(layer):
        return {path: Path("models", path.name) for path in _model_files(config, roles)}
    places = {}
    for path in sources(layer):
        inside = path.relative_to(ROOT / "layers")
        # The manifest lies beside the package in the checkout, and inside it where it is installed.
        places[path] = Path("python", "" if inside.parts[0] == "abeyance" else "abeyance", inside)
    return places


def _model_files(config: Config, roles: Collection[str]) -> list[Path]:
    """Return the converted models of some roles and their receipts, fetched first if need be.

    They are the detector and the embedder that the operator chose, and every attribute model. The embedder also where
    a GPU makes the templates: the API embeds single photos itself.
    """
    from abeyance.vision.models.manifest import Manifest
    from abeyance.vision.models.store import fetch

    chosen = {"detector": config.detector_model, "embedder": config.embedder_model}
    entries = [
        entry
        for entry in Manifest.load().entries.values()
        if entry.role in roles and chosen.get(entry.role, entry.name) == entry.name
    ]
    paths = fetch(entries, config.models_directory)
    return [file for path in paths for file in (path, path.with_name(f"{path.stem}.receipt.json"))]


def _install(lock: Path, target: Path, architecture: str, python: str) -> None:
    """Install the wheels of a pinned list for Lambda's machine, which need not be this one."""
    answer = _uv(
        *("install", "--target", str(target), "--requirement", str(lock), "--require-hashes", "--no-deps"),
        *("--python", sys.executable, "--python-version", python),
        # Copied, because trimming changes files, which would be the cache's own if they were linked.
        *(f"--python-platform={_PLATFORM[architecture]}", "--only-binary=:all:", "--link-mode=copy"),
    )
    if answer.returncode:
        raise LayerBuildFailed(f"uv cannot install {lock.name} for {architecture}:\n{answer.stderr.strip()}")


def _uv(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "uv", "pip", *arguments, "--quiet"]
    return subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)  # noqa: S603


def _trim(packages: Path, python: str) -> None:
    """Remove from a layer's packages what is not needed, and compile the rest."""
    for pattern in _EXCLUDED.read_text().splitlines():
        for found in [] if pattern.startswith("#") else list(packages.glob(pattern)):
            shutil.rmtree(found) if found.is_dir() else found.unlink()
    trim.aws_client(packages)
    trim.bytecode(packages, python)


def _stamp(layer: Path) -> None:
    """Give every file one time and one mode, so that the same inputs make the same archive."""
    for path in layer.rglob("*"):
        path.chmod(0o755 if path.is_dir() or path.suffix == ".so" or ".so." in path.name else 0o644)
        os.utime(path, (315_619_200, 315_619_200))


def lock() -> None:
    """Write ``layers/runtime/*.txt`` anew: newest versions that have wheels for both architectures, with hashes."""
    for layer in WHEEL_LAYERS:
        answer = _uv(
            *("compile", str(lock_of(layer).with_suffix(".in")), "--output-file", str(lock_of(layer))),
            *(f"--python-platform={_PLATFORM['arm64']}", f"--python-version={PYTHON}", "--only-binary=:all:"),
            *("--generate-hashes", "--no-header", "--no-annotate", "--upgrade"),
        )
        if answer.returncode:
            raise LayerBuildFailed(f"uv cannot pin layers/runtime/{layer}.in:\n{answer.stderr.strip()}")


def main() -> None:
    """Build every layer for both architectures and print its size in MB, and what functions carry together."""
    if sys.argv[1:] == ["lock"]:
        lock()
        return
    for architecture in _PLATFORM:
        config = Config(architecture=architecture)  # type: ignore[arg-type]
        sizes = {layer: size_of(folder(layer, config)) / 1e6 for layer in get_args(LayerName)}
        print(architecture, *(f"{layer} {size:.1f}" for layer, size in sizes.items()), sep="  ")  # noqa: T201
        for carried in {spec.layers: None for spec in FUNCTIONS}:
            size = sum(sizes[layer] for layer in carried)
            print(f"{'':7} {', '.join(carried)}: {size:.1f} MB of {LIMIT_MB}")  # noqa: T201


if __name__ == "__main__":
    main()
