"""Builds what the functions carry, without Docker: ``python -m infra.layers [lock]``.

Every layer is a folder made from a few inputs and kept in ``.cache/layers`` under the hash of those inputs, so a
second synth builds nothing. The console carries what recognize does, and ``web``:

==================  ==========================  =============================================================
layer               carried by                  holds
==================  ==========================  =============================================================
``base``            every function              botocore, msgspec, rfc8785
``vision``          detect, recognize, api      numpy, onnxruntime, pillow
``web``             console                     flask
``models``          detect, recognize, api      the converted models
``decide``          gate, ledger, flags         our rooms that know no pixels: moratorium, ledger, pipeline
``abeyance``        detect, recognize, api      all our rooms that are deployed
==================  ==========================  =============================================================
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from infra import trim
from infra.config import ROOT, Config

if TYPE_CHECKING:
    from abeyance.vision.models.manifest import ModelEntry

#: The Python of the Lambda runtime.
PYTHON = "3.13"
#: Lambda's limit for a function and its layers, unzipped.
LIMIT_MB = 250

Architecture = Literal["arm64", "x86_64"]
Kind = Literal["base", "vision", "web", "models", "decide", "abeyance"]
#: Those that are made of wheels, from a pinned list.
LOCKED: tuple[Kind, ...] = ("base", "vision", "web")

_MACHINE = {"arm64": "aarch64", "x86_64": "x86_64"}
_ROOMS: dict[str, tuple[str, ...]] = {
    "decide": ("moratorium", "ledger", "pipeline"),
    "abeyance": ("vision", "moratorium", "ledger", "gallery", "pipeline", "rekognition", "console"),
}
#: What inference does not need: training and conversion tools and what they import, tests, type stubs, C headers.
_DISPENSABLE = (
    "**/__pycache__",
    "bin",
    "**/tests",
    "**/*.pyi",
    "numpy/f2py",
    "numpy/_core/include",
    "numpy/_core/lib",
    "numpy/fft",
    "numpy/polynomial",
    "numpy/random",
    "flatbuffers*",
    "google",
    "packaging*",
    "protobuf*",
    "onnxruntime/quantization",
    "onnxruntime/transformers",
    "onnxruntime/tools",
    "onnxruntime/backend",
    "onnxruntime/datasets",
    # The C library; Python's module has the same code in itself.
    "onnxruntime/capi/libonnxruntime.so*",
    "PIL/_avif*.so",
    "pillow.libs/libavif*",
    "PIL/_imagingtk*.so",
    "PIL/_imagingcms*.so",
    "PIL/_imagingft*.so",
    "pillow.libs/libfreetype*",
    "pillow.libs/libharfbuzz*",
    "pillow.libs/liblcms2*",
    "PIL/ImageQt.py",
    "PIL/ImageTk.py",
)


class LayerBuildFailed(RuntimeError):
    """A layer could not be built; says what to do."""


def folder(kind: Kind, config: Config, python: str = PYTHON) -> Path:
    """The finished layer, built now if it is not in the cache. ``python`` differs only where one is tried out."""
    digest = digest_of(kind, config, python)
    target = ROOT / ".cache" / "layers" / f"{kind}-{digest[:24]}"
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=target.parent) as place:
            made = Path(place) / "layer"
            made.mkdir()
            _builder(kind, config, python)(made)
            finish(made / "python", python)
            _stamp(made)
            try:
                made.rename(target)
            except OSError:
                if not target.is_dir():  # else another process was quicker
                    raise
    return target


def digest_of(kind: Kind, config: Config, python: str = PYTHON) -> str:
    """SHA-256 of everything that a layer is made from: the name under which CDK publishes it."""
    digest = hashlib.sha256(f"{kind} {python}".encode() + trim.recipe(python))
    if kind in LOCKED:
        digest.update(f"{config.lambda_architecture} {_DISPENSABLE}".encode())
        digest.update(lock_of(kind).read_bytes())
    elif kind == "models":
        for path in _model_files(config):
            digest.update(path.name.encode() + path.read_bytes())
    else:
        for path in sources(kind):
            digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return digest.hexdigest()


def size_of(layer: Path) -> int:
    """Bytes of a folder's files: what counts against Lambda's limit."""
    return sum(path.stat().st_size for path in layer.rglob("*") if path.is_file())


def _builder(kind: Kind, config: Config, python: str) -> Callable[[Path], None]:
    if kind in LOCKED:
        return lambda target: _install(lock_of(kind), target / "python", config.lambda_architecture, python)
    if kind == "models":
        return lambda target: _copy_models(_model_files(config), target / "models")
    return lambda target: _copy_rooms(kind, target / "python" / "abeyance")


def finish(packages: Path, python: str) -> None:
    """Take out of a layer's packages what is not needed, and compile them."""
    for pattern in _DISPENSABLE:
        for found in list(packages.glob(pattern)):
            shutil.rmtree(found) if found.is_dir() else found.unlink()
    trim.aws_client(packages)
    trim.bytecode(packages, python)


def lock_of(kind: str) -> Path:
    """The pinned list of a layer of wheels."""
    return ROOT / "layers" / "runtime" / f"{kind}.txt"


def _install(lock: Path, target: Path, architecture: str, python: str) -> None:
    """The wheels of a pinned list, for Lambda's machine and not for this one."""
    machine, abi = _MACHINE[architecture], "cp" + python.replace(".", "")
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in (28, 27, 26, 24, 17)] + [
        f"manylinux2014_{machine}"
    ]
    answer = subprocess.run(  # noqa: S603 - pip of this Python, no shell
        [
            *(
                sys.executable,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--no-compile",
            ),
            *("--require-hashes", "--no-deps", "--only-binary=:all:", "--implementation=cp"),
            # pip compares with the Python it runs on; the ABI below is what decides.
            "--ignore-requires-python",
            *(f"--platform={platform}" for platform in platforms),
            *(f"--python-version={python}", f"--abi={abi}", "--abi=abi3", "--abi=none"),
            *(f"--requirement={lock}", f"--target={target}"),
        ],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    if answer.returncode:
        raise LayerBuildFailed(f"pip cannot install {lock.name} for {architecture}:\n{answer.stderr.strip()}")


def _model_files(config: Config) -> list[Path]:
    """Converted models and their receipts, fetched first if need be."""
    from abeyance.vision.models.manifest import Manifest
    from abeyance.vision.models.store import fetch

    entries = Manifest.load().entries.values()
    paths = fetch([entry for entry in entries if _wanted(config, entry)], config.models_directory)
    return [file for path in paths for file in (path, path.with_name(f"{path.stem}.receipt.json"))]


def _wanted(config: Config, entry: ModelEntry) -> bool:
    """The detector and the embedder that were chosen, and every attribute model.

    The embedder also where a GPU makes the templates: the API embeds single photos itself.
    """
    if entry.role == "detector":
        return entry.name == config.detector_model
    if entry.role == "embedder":
        return entry.name == config.embedder_model
    return True


def _copy_models(files: Iterable[Path], target: Path) -> None:
    target.mkdir(parents=True)
    for file in files:
        shutil.copyfile(file, target / file.name)


@functools.cache
def sources(kind: str) -> tuple[Path, ...]:
    """The files of ours that a layer is made of."""
    package = ROOT / "layers" / "abeyance"
    found = [package / "__init__.py", ROOT / "layers" / "models" / "manifest.json"]
    for room in _ROOMS[kind]:
        found += [
            path for path in (package / room).rglob("*") if path.is_file() and "__pycache__" not in path.parts
        ]
    return tuple(sorted(found))


def _copy_rooms(kind: str, target: Path) -> None:
    for path in sources(kind):
        inside = path.relative_to(ROOT / "layers")
        place = target.parent / (inside if inside.parts[0] == "abeyance" else Path("abeyance") / inside)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)


def _stamp(layer: Path) -> None:
    """One time and one mode for every file, so that the same inputs make the same archive."""
    for path in layer.rglob("*"):
        path.chmod(0o755 if path.is_dir() or path.suffix == ".so" or ".so." in path.name else 0o644)
        os.utime(path, (315_619_200, 315_619_200))


def lock() -> None:
    """Make ``layers/runtime/*.txt`` anew: newest versions that have wheels for both architectures, with hashes."""
    for kind in LOCKED:
        source, target = lock_of(kind).with_suffix(".in"), lock_of(kind)
        subprocess.run(  # noqa: S603 - uv of this Python, no shell
            [
                *(sys.executable, "-m", "uv", "pip", "compile", str(source), "--output-file", str(target)),
                *("--python-platform=aarch64-manylinux_2_28", f"--python-version={PYTHON}"),
                *(
                    "--only-binary=:all:",
                    "--generate-hashes",
                    "--no-header",
                    "--no-annotate",
                    "--quiet",
                    "--upgrade",
                ),
            ],
            check=True,
            timeout=300,
        )


def main() -> None:
    """Build every layer for both architectures and print what each weighs."""
    if sys.argv[1:] == ["lock"]:
        lock()
        return
    from infra.functions import FUNCTIONS

    for architecture in get_args(Architecture):
        config = Config(architecture=architecture)
        sizes = {kind: size_of(folder(kind, config)) / 1e6 for kind in get_args(Kind)}
        together = {", ".join(spec.layers): sum(sizes[kind] for kind in spec.layers) for spec in FUNCTIONS}
        print(architecture, *(f"{kind} {size:.1f}" for kind, size in sizes.items()), sep="  ")  # noqa: T201
        for carried, size in together.items():
            print(f"{'':7} {carried}: {size:.1f} MB of {LIMIT_MB}")  # noqa: T201


if __name__ == "__main__":
    main()
