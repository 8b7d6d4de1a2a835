"""A function started as Lambda starts it, on this machine: its layers, the runtime's own client, and nothing else.

The runtime API that hands it events, and the AWS that it calls, are stubs on 127.0.0.1; AWS speaks TLS, as there.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import hashlib
import http.server
import importlib.metadata
import ipaddress
import json
import math
import os
import re
import shutil
import ssl
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

from abeyance.pipeline.settings import Settings
from infra import functions, layers
from infra.config import ROOT, Config

LIMIT = 60.0
#: What Lambda's Python runtime brings itself.
_RUNTIME = ("awslambdaric", "simplejson", "snapshot-restore-py")
_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


class Started(NamedTuple):
    """Milliseconds since the start of the process, and what the first event was answered with."""

    #: Until it asks for its first event; and of those on the processor, which a busy machine distorts less.
    ready: float
    ready_processor: float
    #: Until its first event is answered; NaN where none was given.
    answered: float
    answered_processor: float
    answer: Any
    #: What it wrote.
    log: str


class Request(NamedTuple):
    """A call of an AWS API. ``target`` is the operation, for those services that name it in a header."""

    method: str
    path: str
    target: str
    body: bytes


class Reply(NamedTuple):
    """What the stub answers."""

    body: bytes = b"{}"
    headers: Mapping[str, str] = {}
    status: int = 200


#: What stands in for AWS.
Aws = Callable[[Request], Reply]


class Sandbox:
    """Where a function runs: its modules, its environment variables."""

    def __init__(self, folder: Path, variables: Mapping[str, str]) -> None:
        self.folder = folder
        self.variables = variables


@contextlib.contextmanager
def sandbox(spec: functions.Function) -> Iterator[Sandbox]:
    """The function with its layers, merged as Lambda merges them, for this machine and this Python."""
    config = Config()
    with tempfile.TemporaryDirectory(prefix="abeyance-sandbox-") as place:
        folder = Path(place)
        for kind in spec.layers:
            _merge(layer(kind) / "python", folder / "opt")
        _runtime(folder / "runtime")
        variables = _variables(spec, layers.folder("models", config) / "models")
        variables["PYTHONPATH"] = os.pathsep.join(
            str(part) for part in (ROOT / "functions" / spec.name, folder / "opt", folder / "runtime")
        )
        yield Sandbox(folder, variables | functions.in_lambda(str(folder / "opt")))


@contextlib.contextmanager
def plain(code: str, spec: functions.Function) -> Iterator[Sandbox]:
    """A function of one module, with the packages of this environment."""
    with tempfile.TemporaryDirectory(prefix="abeyance-sandbox-") as place:
        folder = Path(place)
        (folder / "handler.py").write_text(code)
        variables = _variables(spec, layers.folder("models", Config()) / "models")
        variables["PYTHONPATH"] = os.pathsep.join([str(folder), sysconfig.get_path("purelib")])
        yield Sandbox(folder, variables)


def _merge(source: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    if source.is_dir():
        for entry in source.iterdir():
            (target / entry.name).symlink_to(entry)


def layer(kind: layers.Kind) -> Path:
    """A layer as it is deployed, but for this machine and this Python."""
    return _from_here(kind) if kind in layers.LOCKED else layers.folder(kind, Config(), _PYTHON)


def _from_here(kind: layers.Kind) -> Path:
    """A layer of wheels as it is deployed, but in the versions of this environment, which has them for this machine."""
    names = re.findall(r"^([\w.-]+)==", layers.lock_of(kind).read_text(), re.MULTILINE)
    found = [importlib.metadata.distribution(name) for name in names]
    recipe = layers.digest_of(kind, Config(), _PYTHON) + "".join(f"{one.name} {one.version}" for one in found)
    target = ROOT / ".cache" / "coldstart" / f"{kind}-{hashlib.sha256(recipe.encode()).hexdigest()[:24]}"
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as place:
            for one in found:
                for path in one.files or ():
                    if ".." not in path.parts:
                        copy = Path(place) / "layer" / "python" / path
                        copy.parent.mkdir(parents=True, exist_ok=True)
                        shutil.copyfile(str(one.locate_file(path)), copy)
            layers.finish(Path(place) / "layer" / "python", _PYTHON)
            try:
                (Path(place) / "layer").rename(target)
            except OSError:
                if not target.is_dir():  # else another process has made it meanwhile
                    raise
    return target


def _runtime(target: Path) -> None:
    target.mkdir()
    for name in _RUNTIME:
        distribution = importlib.metadata.distribution(name)
        for top in {path.parts[0] for path in distribution.files or ()} - {"..", "__pycache__"}:
            if not top.endswith((".dist-info", ".libs")):
                (target / top).symlink_to(str(distribution.locate_file(top)))


def _variables(spec: functions.Function, models: Path) -> dict[str, str]:
    settings = Settings(
        flags="appconfig:abeyance/live/moratoria",
        pseudonym_key="secret:arn:aws:secretsmanager:eu-central-1:111122223333:secret:abeyance",
        models=str(models),
        ledger_queue="https://sqs.eu-central-1.amazonaws.com/111122223333/abeyance-ledger.fifo",
    )
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "ABEYANCE_"))},
        **settings.to_environment(),
        # What runs must not write into the layers, and on Lambda could not.
        "PYTHONDONTWRITEBYTECODE": "1",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
        "AWS_LAMBDA_LOG_FORMAT": "JSON",
        "AWS_LAMBDA_LOG_LEVEL": "INFO",
        "AWS_LAMBDA_FUNCTION_NAME": spec.name,
        "AWS_LAMBDA_FUNCTION_VERSION": "1",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(spec.memory),
        "_HANDLER": "handler.handler",
        "LAMBDA_TASK_ROOT": str(ROOT / "functions" / spec.name),
    }


def start(box: Sandbox, aws: Aws, event: Any = None) -> Started:
    """Start the function and, given an event, have it answer that.

    Raises ``RuntimeError`` if it fails or takes longer than :data:`LIMIT` seconds.
    """
    with tempfile.TemporaryFile() as log, _RuntimeApi(event) as api, reachable(box, aws) as variables:
        # -S: without this environment's .pth files, of which one says where the repository is.
        code = "from awslambdaric.__main__ import main; main(['awslambdaric', 'handler.handler'])"
        began = time.monotonic()
        process = subprocess.Popen(  # noqa: S603 - this Python, no shell
            [sys.executable, "-S", "-c", code],
            env={**variables, "AWS_LAMBDA_RUNTIME_API": api.address},
            stdout=log,
            stderr=log,
            cwd=tempfile.gettempdir(),
        )
        api.process = process.pid
        try:
            until = began + LIMIT
            while not api.done.wait(0.02) and process.poll() is None and time.monotonic() < until:
                pass
            if api.failed or not api.done.is_set():
                raise RuntimeError(f"the function failed: {api.failed} {_read(log)[-3000:]}")
            (ready, ready_processor), (answered, answered_processor) = api.ready, api.answered
            since = [(moment - began) * 1000 for moment in (ready, answered)]
            return Started(since[0], ready_processor, since[1], answered_processor, api.answer, _read(log))
        finally:
            process.kill()
            process.wait()


@contextlib.contextmanager
def reachable(box: Sandbox, aws: Aws) -> Iterator[dict[str, str]]:
    """The sandbox's variables, and AWS at the address that they name."""
    with _AwsStub(aws) as stub:
        authorities = _bundle(box, stub.certificate)
        yield {**box.variables, "AWS_ENDPOINT_URL": stub.address, "AWS_CA_BUNDLE": authorities}


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


class _Server:
    """An HTTP server on a thread; a context manager."""

    scheme = "http"

    def __init__(self, handler: type[http.server.BaseHTTPRequestHandler]) -> None:
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        # The function is killed in the middle of a conversation; that is no error.
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Any:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _RuntimeApi(_Server):
    """As much of Lambda's runtime API as hands over one event and tells when it is answered."""

    def __init__(self, event: Any) -> None:
        self.done, self.failed, self.answer = threading.Event(), "", None
        #: When, and milliseconds on the processor until then.
        self.ready = self.answered = (math.nan, math.nan)
        self.process = 0
        api = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = (
                True  # 40 ms for each answer, which are the stub's and not the function's
            )

            def do_GET(self) -> None:
                first, now = math.isnan(api.ready[0]), api.now()
                api.ready = now if first else api.ready
                if event is None:
                    api.done.set()
                if event is None or not first:
                    time.sleep(LIMIT)  # there is no further event
                    return
                body = json.dumps(event).encode()
                self.send_response(200)
                for name, value in {
                    "Lambda-Runtime-Aws-Request-Id": "1",
                    "Lambda-Runtime-Deadline-Ms": str(int((time.time() + LIMIT) * 1000)),
                    "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:eu-central-1:111122223333:function:f",
                    "Content-Type": "application/json",
                    "Content-Length": str(len(body)),
                }.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                api.answered = api.now()
                said = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"null")
                if self.path.endswith("/response"):
                    api.answer = said
                else:
                    api.failed = json.dumps(said)
                api.done.set()
                self.send_response(202)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(Handler)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"

    def now(self) -> tuple[float, float]:
        """The moment, and milliseconds that the function has been on the processor."""
        moment = time.monotonic()
        threads = Path(f"/proc/{self.process}/task").glob("*/schedstat")
        return moment, sum(int(thread.read_text().split()[0]) for thread in threads) / 1e6


class _AwsStub(_Server):
    """AWS, as far as ``aws`` answers for it."""

    def __init__(self, aws: Aws) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = (
                True  # 40 ms for each answer, which are the stub's and not the function's
            )

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                target = self.headers.get("X-Amz-Target", "").rsplit(".", 1)[-1]
                reply = aws(Request(self.command, self.path, target, body))
                self.send_response(reply.status)
                for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(reply.body)

            do_GET = do_PUT = do_HEAD = do_DELETE = do_POST  # noqa: N815 - the names that http.server looks for

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(Handler)
        self.certificate, key = _certificate()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.NamedTemporaryFile() as file:
            file.write(self.certificate + key)
            file.flush()
            context.load_cert_chain(file.name)
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.address = f"https://127.0.0.1:{self._server.server_address[1]}"


def _bundle(box: Sandbox, certificate: bytes) -> str:
    """The authorities that the function knows on Lambda, and the stub's."""
    import botocore

    known = box.variables.get("AWS_CA_BUNDLE") or str(Path(botocore.__file__).with_name("cacert.pem"))
    path = box.folder / "authorities.pem"
    path.write_bytes(Path(known).read_bytes() + certificate)
    return str(path)


@functools.cache
def _certificate() -> tuple[bytes, bytes]:
    """A certificate for 127.0.0.1 that is good for a day, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM), key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
