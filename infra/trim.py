"""Make a layer smaller and quicker to start from: add bytecode, and trim the AWS client to the operations called.

Lambda cannot write beside a layer's files, so without bytecode in the layer every cold start compiles every module
again. Milliseconds below are of one core of a desktop machine, see docs/operations.md.
"""

from __future__ import annotations

import functools
import gzip
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any

_CALLS_FILE = Path(__file__).with_name("calls.toml")
#: The operations that deployed functions call, by service.
CALLS: dict[str, list[str]] = tomllib.loads(_CALLS_FILE.read_text())
#: The certificate authorities of AWS's own endpoints, see https://www.amazontrust.com/repository/.
AUTHORITIES = "amazon-authorities.pem"
_AMAZON = ("Amazon Root CA 1", "Amazon Root CA 2", "Amazon Root CA 3", "Amazon Root CA 4")
_STARFIELD = "Starfield Services Root Certificate Authority - G2"


def aws_client(packages: Path) -> None:
    """Remove from botocore the descriptions of operations that no function calls, and all documentation.

    22 MB become 4, and four clients take 35 ms to make where they took 135: most of that was reading JSON.
    """
    data = packages / "botocore" / "data"
    if not data.is_dir():
        return
    for service in [path for path in data.iterdir() if path.is_dir()]:
        if service.name not in CALLS:
            shutil.rmtree(service)
            continue
        *older, latest = sorted(path for path in service.iterdir() if path.is_dir())
        for path in older:
            shutil.rmtree(path)
        _trim_service(latest, CALLS[service.name])
    endpoints = data / "endpoints.json"
    known = json.loads(endpoints.read_bytes())
    for partition in known["partitions"]:
        services = partition["services"]
        partition["services"] = {name: services[name] for name in services if name in CALLS}
    endpoints.write_text(_compact(known))
    _authorities(packages / "botocore" / "cacert.pem", packages / AUTHORITIES)


def _trim_service(folder: Path, calls: Collection[str]) -> None:
    """Reduce a service's description to these calls, as plain JSON: reading it is quicker than unpacking."""
    for path in list(folder.iterdir()):
        content = json.loads(
            gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        )
        path.unlink()
        kind = path.name.split(".")[0]
        if kind.startswith(("examples-", "waiters-")):
            continue
        if kind == "service-2" and "operations" in content:
            content["operations"] = {name: content["operations"][name] for name in calls}
            content["shapes"] = _reachable(content["shapes"], content["operations"])
        if kind == "paginators-1" and "pagination" in content:
            pages = content["pagination"]
            content["pagination"] = {name: pages[name] for name in pages if name in calls}
        (folder / path.name.removesuffix(".gz")).write_text(_compact(_without_prose(content)))


def _reachable(shapes: dict[str, Any], operations: dict[str, Any]) -> dict[str, Any]:
    """Return the shapes that the operations refer to."""
    found: dict[str, Any] = {}
    waiting: list[Any] = [operations]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            waiting += value.values()
            name = value.get("shape")
            if isinstance(name, str) and name not in found:
                found[name] = shapes[name]
                waiting.append(shapes[name])
    return found


def _without_prose(value: Any) -> Any:
    if isinstance(value, dict):
        # The key has to stay, because botocore reads it in places. It may also be a member of a shape, and then its
        # value is no text.
        return {
            name: "" if name == "documentation" and isinstance(item, str) else _without_prose(item)
            for name, item in value.items()
        }
    return [_without_prose(item) for item in value] if isinstance(value, list) else value


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _authorities(everybody: Path, amazon: Path) -> None:
    """Copy the few certificates of botocore's list that sign AWS's endpoints.

    Every new connection reads the list again: 17 ms for all 126, 1 ms for these, on a whole core; the gate opens four
    connections for its first photo, on a seventh of one.
    """
    blocks = everybody.read_text().split("\n\n")
    wanted = [f'# Label: "{name}"' for name in (*_AMAZON, _STARFIELD)]
    found = [block for block in blocks if any(label in block.splitlines() for label in wanted)]
    if len(found) != len(wanted):
        raise ValueError(f"botocore's list of authorities has {len(found)} of Amazon's {len(wanted)}")
    amazon.write_text("\n\n".join(block.strip() for block in found) + "\n")


def bytecode(packages: Path, python: str) -> None:
    """Compile every module for a Python ``3.x``, if this machine has one.

    Bytecode is not compared with its source, because modification times, which Python would compare, change in a
    layer.
    """
    command = interpreter(python)
    if not command or not packages.is_dir():
        return
    subprocess.run(  # noqa: S603 - a Python, no shell
        [
            *(command, "-m", "compileall", "-q", "-q", "-f", "--invalidation-mode", "unchecked-hash"),
            *("-s", str(packages), "-p", "/opt/python", str(packages)),
        ],
        # Some packages bring files for other versions of Python, which do not compile.
        check=False,
        timeout=300,
    )


@functools.cache
def interpreter(python: str) -> str:
    """Return a Python of that version on this machine, or an empty string: then functions start more slowly."""
    home = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    candidates = [
        sys.executable,
        shutil.which(f"python{python}"),
        *(str(path) for path in sorted(home.glob(f"{python}.*/bin/python{python}"))),
    ]
    for candidate in filter(None, candidates):
        answer = subprocess.run(  # noqa: S603 - a Python, no shell
            [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        if answer.stdout.strip() == python:
            return candidate
    return ""


def recipe(python: str) -> bytes:
    """Return what the result of this module depends on, besides the packages."""
    return (
        Path(__file__).read_bytes() + _CALLS_FILE.read_bytes() + (b"compiled" if interpreter(python) else b"")
    )
