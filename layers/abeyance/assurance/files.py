"""The three files of a certificate: signed JSON, page, and bundle; and reading certificates from a folder."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from abeyance.assurance.certifier import Certified

#: Ends of the names.
JSON: Final = ".json"
PAGE: Final = ".html"
BUNDLE: Final = ".bundle"


class CertificateFile(msgspec.Struct, frozen=True, kw_only=True):
    """The signed JSON: the certificate, its note, and the notes of its two checkpoints ("" for the log's beginning)."""

    certificate: dict[str, Any]
    note: str
    first: str
    last: str


class WrittenCertificate(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate and where its files are."""

    certificate: dict[str, Any]
    file: Path
    page: Path
    bundle: Path


def write_certificate(
    folder: Path, flag: str, make: Callable[[IO[bytes]], Certified], policy: str
) -> WrittenCertificate:
    """Write the files ``<flag>-<from>-<to>`` with their ends into a folder, the bundle first, the JSON last.

    Parameters
    ----------
    folder
        Made if it is missing.
    flag
        Key of the flag.
    make
        Makes the certificate and writes its bundle.
    policy
        Text of the policy that the page offers for the check.
    """
    from abeyance.assurance.pages import certificate_page

    folder.mkdir(parents=True, exist_ok=True)
    with _partial(folder) as (out, partial):
        made = make(out)
    certificate = made.certificate
    stem = f"{flag}-{certificate['from']['size']}-{certificate['to']['size']}"
    bundle = folder / f"{stem}{BUNDLE}"
    partial.replace(bundle)
    file = CertificateFile(certificate=certificate, note=str(made.note), first=made.first, last=made.last)
    text = msgspec.json.format(msgspec.json.encode(file, order="sorted"), indent=1)
    written = WrittenCertificate(
        certificate=certificate, file=folder / f"{stem}{JSON}", page=folder / f"{stem}{PAGE}", bundle=bundle
    )
    replace_file(written.page, certificate_page(file, policy, stem).encode())
    replace_file(written.file, text + b"\n")
    return written


def read_certificates(folder: Path) -> dict[str, CertificateFile]:
    """Return the certificates of a folder by their stem, the latest first; other files are passed over."""
    found = {}
    for path in folder.glob(f"*{JSON}"):
        try:
            found[path.stem] = msgspec.json.decode(path.read_bytes(), type=CertificateFile)
        except msgspec.MsgspecError:
            continue
    return dict(sorted(found.items(), key=lambda item: -item[1].certificate["to"]["size"]))


def replace_file(path: Path, data: bytes) -> None:
    """Write a file so that nobody reads a half of it."""
    with _partial(path.parent) as (out, partial):
        out.write(data)
    partial.replace(path)


@contextlib.contextmanager
def _partial(folder: Path) -> Iterator[tuple[IO[bytes], Path]]:
    """Yield a file in a folder to write to, and its path; it is removed if that fails."""
    path = folder / f".part-{secrets.token_hex(8)}"
    try:
        with path.open("xb") as out:
            yield out, path
    except BaseException:
        path.unlink(missing_ok=True)
        raise
