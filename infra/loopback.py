"""HTTP servers of 127.0.0.1 that stand in for AWS, and certificates for them."""

from __future__ import annotations

import contextlib
import http.server
import ipaddress
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


class HttpRequest(NamedTuple):
    """A call. ``operation`` is the AWS operation, for those services that name it in a header."""

    method: str
    path: str
    operation: str
    body: bytes


class HttpReply(NamedTuple):
    """The answer to a call."""

    body: bytes = b"{}"
    headers: Mapping[str, str] = {}
    status: int = 200


@contextlib.contextmanager
def serve(respond: Callable[[HttpRequest], HttpReply], pem: bytes = b"") -> Iterator[str]:
    """Serve on a free port of 127.0.0.1 until the context ends; yield its ``host:port``.

    Parameters
    ----------
    respond
        Called for each request, on a thread of its own.
    pem
        Certificate and key; with them the server speaks TLS.
    """

    class _Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Else each answer takes 40 ms, which are the server's and not the caller's.
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            operation = self.headers.get("X-Amz-Target", "").rsplit(".", 1)[-1]
            reply = respond(HttpRequest(self.command, self.path, operation, body))
            self.send_response(reply.status)
            for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.body)

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST  # noqa: N815 - the names that http.server calls

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    # A caller is killed in the middle of a conversation; that is no error.
    server.handle_error = _ignore  # type: ignore[method-assign,assignment]
    if pem:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.NamedTemporaryFile() as file:
            file.write(pem)
            file.flush()
            context.load_cert_chain(file.name)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def certificate() -> tuple[bytes, bytes]:
    """Return a certificate for 127.0.0.1 that is valid for a day, and its key, both in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "127.0.0.1")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return made.public_bytes(serialization.Encoding.PEM), private


def _ignore(*_: Any) -> None:
    pass
