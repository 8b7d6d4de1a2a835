"""The public page on this machine, at ``/public/``, and the certificate of the demonstration's halt."""

from __future__ import annotations

import mimetypes
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from abeyance.assurance.files import WrittenCertificate, write_certificate
from abeyance.assurance.reconcile import Reconciliation
from abeyance.assurance.status import INDEX, PAGE_FILES
from abeyance.deployment.certificates import build_certifier, policy_text, write_public_page
from abeyance.deployment.parts import build_heads, build_log_objects
from abeyance.ledger.receipts import read_checkpoint
from abeyance.local.system import LocalSystem
from abeyance.moratorium.errors import FlagsError

PUBLIC_PATH: Final = "/public"


def certify_halt(
    system: LocalSystem, flag: str, reconciled: Reconciliation, folder: Path
) -> WrittenCertificate:
    """Write the certificate of a flag for the whole log of a running system, and the public page beside it."""
    objects = build_log_objects(system.settings, system.client)
    head = build_heads(system.settings, system.client).read()
    note = read_checkpoint(objects)
    certifier = build_certifier(
        system.settings, objects, head.integrated if head else note.size, system.client
    )
    written = write_certificate(
        folder,
        flag,
        lambda out: certifier.certify(flag, None, note, out, reconciled=[reconciled]),
        policy_text(system.settings, note.origin, system.client),
    )
    write_public_page(system.settings, folder, system.client)
    return written


def mount_public(system: LocalSystem, folder: Path) -> None:
    """Serve a folder of certificates, and the public page made from what is in force now, at ``/public/``."""

    def serve(environ: Mapping[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = str(environ.get("PATH_INFO", ""))
        if path == PUBLIC_PATH:
            start_response(
                "308 Permanent Redirect", [("Location", f"{PUBLIC_PATH}/"), ("Content-Length", "0")]
            )
            return [b""]
        name = path.removeprefix(f"{PUBLIC_PATH}/") or INDEX
        try:
            if name in PAGE_FILES:
                write_public_page(system.settings, folder, system.client)
        except FlagsError as error:
            said = f"The flags cannot be read, so every request is denied: {error}".encode()
            start_response("503 Service Unavailable", [("Content-Type", "text/plain; charset=utf-8")])
            return [said]
        # Only names that the folder has: no path leads out of it.
        found = {one.name: one for one in folder.iterdir() if one.is_file() and not one.name.startswith(".")}
        if name not in found:
            start_response("404 Not Found", [("Content-Type", "text/plain"), ("Content-Length", "0")])
            return [b""]
        body = found[name].read_bytes()
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        headers = [("Content-Type", kind), ("Content-Length", str(len(body))), ("Cache-Control", "no-store")]
        start_response("200 OK", headers)
        return [b"" if environ.get("REQUEST_METHOD") == "HEAD" else body]

    folder.mkdir(parents=True, exist_ok=True)
    system.aws.router.mount(is_public_request, serve)


def is_public_request(environ: Mapping[str, Any]) -> bool:
    """Return True for a request to the public page: to read, below its path, without the signature of S3's clients."""
    path = str(environ.get("PATH_INFO", ""))
    signed = "HTTP_AUTHORIZATION" in environ or "X-Amz-" in str(environ.get("QUERY_STRING", ""))
    reads = environ.get("REQUEST_METHOD") in ("GET", "HEAD")
    return reads and not signed and (path == PUBLIC_PATH or path.startswith(f"{PUBLIC_PATH}/"))
