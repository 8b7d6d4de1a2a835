"""Start a function as Lambda starts it, on this machine: from its layers, by the runtime's own client.

The runtime API that hands it events and the AWS that it calls are stubs on 127.0.0.1; AWS speaks TLS, as there.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import math
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from abeyance.deployment.settings import DeploymentSettings
from infra import functions, layers, loopback
from infra.config import ROOT, Config
from infra.loopback import HttpReply, HttpRequest

#: Seconds for one start.
LIMIT_S = 60.0
#: Packages that Lambda's Python runtime brings itself.
_RUNTIME_PACKAGES = ("awslambdaric", "simplejson", "snapshot-restore-py")
_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

#: A stand-in for AWS.
AwsStub = Callable[[HttpRequest], HttpReply]


class Start(NamedTuple):
    """Milliseconds since the start of the process, and the answer to the first event."""

    #: Until it asks for its first event; and of those on the processor, which a busy machine distorts less.
    ready_ms: float
    ready_processor_ms: float
    #: Until its first event is answered; NaN where none was given.
    answered_ms: float
    answered_processor_ms: float
    answer: Any
    #: Its standard output and error.
    log: str


class Sandbox(NamedTuple):
    """A function's modules and environment variables."""

    folder: Path
    variables: Mapping[str, str]

    def start(self, aws: AwsStub, event: Any = None) -> Start:
        """Start the function and, given an event, await its answer.

        Raises
        ------
        RuntimeError
            If it fails or takes longer than :data:`LIMIT_S`; the message ends with its log.
        """
        api = _RuntimeApi(event)
        code = "from awslambdaric.__main__ import main; main(['awslambdaric', 'handler.handler'])"
        with (
            tempfile.TemporaryFile() as log,
            loopback.serve(api) as address,
            self._reachable(aws) as variables,
        ):
            api.began = time.monotonic()
            process = subprocess.Popen(  # noqa: S603 - this Python, no shell
                # -S: without this environment's .pth files, one of which adds the repository to the path.
                [sys.executable, "-S", "-c", code],
                env={**variables, "AWS_LAMBDA_RUNTIME_API": address},
                stdout=log,
                stderr=log,
                cwd=tempfile.gettempdir(),
            )
            api.process = process.pid
            try:
                while not api.done.wait(0.02) and process.poll() is None:
                    if time.monotonic() > api.began + LIMIT_S:
                        break
            finally:
                process.kill()
                process.wait()
            log.seek(0)
            text = log.read().decode(errors="replace")
        if api.failed or not api.done.is_set():
            raise RuntimeError(f"the function failed: {api.failed} {text[-3000:]}")
        return Start(*api.ready, *api.answered, api.answer, text)

    def run(self, code: str, aws: AwsStub, *options: str) -> subprocess.CompletedProcess[str]:
        """Run ``code`` where the function would run, with Python's own ``options``."""
        with self._reachable(aws) as variables:
            return subprocess.run(  # noqa: S603 - this Python, no shell
                [sys.executable, "-S", *options, "-c", code],
                env=variables,
                capture_output=True,
                text=True,
                timeout=LIMIT_S,
                check=True,
            )

    @contextlib.contextmanager
    def _reachable(self, aws: AwsStub) -> Iterator[dict[str, str]]:
        """Serve the stub; yield the sandbox's variables with its address and its certificate added."""
        import botocore

        certificate, key = _certificate()
        known = self.variables.get("AWS_CA_BUNDLE") or str(Path(botocore.__file__).with_name("cacert.pem"))
        authorities = self.folder / "authorities.pem"
        authorities.write_bytes(Path(known).read_bytes() + certificate)
        with loopback.serve(aws, certificate + key) as address:
            yield {
                **self.variables,
                "AWS_ENDPOINT_URL": f"https://{address}",
                "AWS_CA_BUNDLE": str(authorities),
            }


@contextlib.contextmanager
def deployed(spec: functions.FunctionSpec) -> Iterator[Sandbox]:
    """Yield a function with its layers, merged as Lambda merges them, for this machine and this Python."""
    with tempfile.TemporaryDirectory(prefix="abeyance-sandbox-") as place:
        packages, runtime = Path(place, "opt"), Path(place, "runtime")
        packages.mkdir()
        runtime.mkdir()
        for name in spec.layers:
            for entry in (layer(name) / "python").glob("*"):
                (packages / entry.name).symlink_to(entry)
        for package in _RUNTIME_PACKAGES:
            distribution = importlib.metadata.distribution(package)
            for top in {path.parts[0] for path in distribution.files or ()} - {"..", "__pycache__"}:
                if not top.endswith((".dist-info", ".libs")):
                    (runtime / top).symlink_to(str(distribution.locate_file(top)))
        variables = _variables(spec, place, spec.folder, packages, runtime)
        yield Sandbox(Path(place), variables | functions.runtime_environment(str(packages)))


@contextlib.contextmanager
def plain(code: str, spec: functions.FunctionSpec) -> Iterator[Sandbox]:
    """Yield a function of one module, with the packages of this environment."""
    with tempfile.TemporaryDirectory(prefix="abeyance-sandbox-") as place:
        Path(place, "handler.py").write_text(code)
        yield Sandbox(Path(place), _variables(spec, place, place, sysconfig.get_path("purelib")))


def layer(name: functions.LayerName) -> Path:
    """Return a layer as it is deployed, but for this machine and this Python.

    Wheels have the versions of this environment, because those of the lock need not exist for this Python.
    """
    if name not in layers.WHEEL_LAYERS:
        return layers.folder(name, Config(), _PYTHON)
    pins = re.findall(r"^([\w.-]+)==", layers.lock_of(name).read_text(), re.MULTILINE)
    found = [importlib.metadata.distribution(pin) for pin in pins]

    def fill(target: Path) -> None:
        for distribution in found:
            for path in distribution.files or ():
                if ".." not in path.parts:
                    copy = target / "python" / path
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(str(distribution.locate_file(path)), copy)

    recipe = layers.digest_of(name, Config(), _PYTHON) + "".join(f"{one.name} {one.version}" for one in found)
    digest = hashlib.sha256(recipe.encode()).hexdigest()
    return layers.build_once(ROOT / ".cache" / "coldstart" / f"{name}-{digest[:24]}", fill, _PYTHON)


def _variables(spec: functions.FunctionSpec, place: str, *path: Path | str) -> dict[str, str]:
    models = Path(place, "models")
    models.mkdir()
    for name in layers.MODEL_ROLES.keys() & spec.layers:
        for file in (layers.folder(name, Config()) / "models").iterdir():
            (models / file.name).symlink_to(file)
    settings = DeploymentSettings.of(
        flags="appconfig:abeyance/live/moratoria",
        pseudonym_key="secret:arn:aws:secretsmanager:eu-central-1:111122223333:secret:abeyance",
        models=str(models),
        verify_models=False,
        ledger_queue="https://sqs.eu-central-1.amazonaws.com/111122223333/abeyance-ledger",
    )
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "ABEYANCE_"))},
        **settings.environment_of(spec.settings),
        "PYTHONPATH": os.pathsep.join(str(part) for part in path),
        # A function cannot write into its layers on Lambda.
        "PYTHONDONTWRITEBYTECODE": "1",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
        "AWS_LAMBDA_LOG_FORMAT": "JSON",
        "AWS_LAMBDA_LOG_LEVEL": "INFO",
        "AWS_LAMBDA_FUNCTION_NAME": spec.name,
        "AWS_LAMBDA_FUNCTION_VERSION": "1",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(spec.memory_mib),
        "_HANDLER": "handler.handler",
        "LAMBDA_TASK_ROOT": str(spec.folder),
    }


class _RuntimeApi:
    """Lambda's runtime API, as far as it hands over one event and takes the answer."""

    def __init__(self, event: Any) -> None:
        self.done, self.failed, self.answer = threading.Event(), "", None
        #: Milliseconds since ``began``, and those on the processor.
        self.ready = self.answered = (math.nan, math.nan)
        self.began, self.process = 0.0, 0
        self._event = event

    def __call__(self, request: HttpRequest) -> HttpReply:
        now = self._elapsed()
        if request.method == "POST":
            self.answered = now
            if request.path.endswith("/response"):
                self.answer = json.loads(request.body or b"null")
            else:
                self.failed = request.body.decode()
            self.done.set()
            return HttpReply(status=202)
        first = math.isnan(self.ready[0])
        self.ready = now if first else self.ready
        if self._event is None:
            self.done.set()
        if self._event is None or not first:
            time.sleep(LIMIT_S)  # There is no further event; the process is killed meanwhile.
        headers = {
            "Lambda-Runtime-Aws-Request-Id": "1",
            "Lambda-Runtime-Deadline-Ms": str(int((time.time() + LIMIT_S) * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:eu-central-1:111122223333:function:f",
        }
        return HttpReply(json.dumps(self._event).encode(), headers)

    def _elapsed(self) -> tuple[float, float]:
        moment = (time.monotonic() - self.began) * 1000
        threads = Path(f"/proc/{self.process}/task").glob("*/schedstat")
        return moment, sum(int(thread.read_text().split()[0]) for thread in threads) / 1e6


_certificate = functools.cache(loopback.certificate)
