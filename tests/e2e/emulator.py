"""An emulator of AWS in a virtual environment of its own, on the loopback interface only, for one test run.

What stands in for AWS here is the emulator's: event delivery, queues, function execution, IAM evaluation. What is
ours is everything else: the same templates, the same functions and the same policies as in an account.
"""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from infra import loopback, venvs

ROOT = Path(__file__).resolve().parents[2]
ACCOUNT, REGION = "000000000000", "eu-central-1"
#: ``/proc/net/tcp`` says this of a socket that listens.
_LISTENING = "0A"


def free_port() -> int:
    """A port of 127.0.0.1 that was free just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Emulator:
    """The emulator's process. Use it as a context manager; leaving it ends the process and its workers."""

    def __init__(self, folder: Path, *, enforce_iam: bool) -> None:
        self.port = free_port()
        # TLS, because our policies refuse anything else, here as there.
        self.url = f"https://127.0.0.1:{self.port}"
        self.certificate, self._key = folder / "certificate.pem", folder / "key.pem"
        for path, content in zip((self.certificate, self._key), loopback.certificate(), strict=True):
            path.write_bytes(content)
        self.log = folder / "emulator.log"
        self._folder = folder
        self._enforce_iam = enforce_iam
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Emulator:
        python = venvs.python_of("emulator")
        environment = {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("AWS_", "ABEYANCE_"))
            },
            "BIND_HOST": "127.0.0.1",
            "IOT_MTLS_ENABLED": "0",
            "GATEWAY_PORT": str(self.port),
            "MINISTACK_REGION": REGION,
            "MINISTACK_ACCOUNT_ID": ACCOUNT,
            "USE_SSL": "1",
            "MINISTACK_SSL_CERT": str(self.certificate),
            "MINISTACK_SSL_KEY": str(self._key),
            "AUTH": str(self._enforce_iam).lower(),
            "STATE_DIR": str(self._folder / "state"),
            "S3_DATA_DIR": str(self._folder / "s3"),
            "AWS_DEFAULT_REGION": REGION,
            "OMP_NUM_THREADS": "1",
        }
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(python.with_name("ministack"))],
                env=environment,
                cwd=self._folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._await_ready(60)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        # Its own session: the workers go with it, and nothing else does.
        for number, grace in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
            try:
                os.killpg(self._process.pid, number)
                self._process.wait(grace)
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue
        if self._process.poll() is None:
            self._process.wait(10)

    @property
    def environment(self) -> dict[str, str]:
        """What a client of the emulator needs in its environment."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CA_BUNDLE": str(self.certificate),
            "NODE_EXTRA_CA_CERTS": str(self.certificate),
        }

    def processes(self) -> list[int]:
        """Ids of the emulator and of its workers."""
        assert self._process is not None
        group = self._process.pid
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[2]) == group:
                found.append(int(entry.name))
        return found

    def listening(self) -> set[str]:
        """Addresses, in the kernel's hexadecimal, on which the emulator and its workers listen."""
        inodes = set()
        for process in self.processes():
            for descriptor in Path(f"/proc/{process}/fd").glob("*"):
                try:
                    target = str(descriptor.readlink())
                except OSError:
                    continue
                if target.startswith("socket:["):
                    inodes.add(target[8:-1])
        addresses = set()
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENING and fields[9] in inodes:
                    addresses.add(fields[1].split(":")[0])
        return addresses

    def memory(self) -> dict[str, int]:
        """Most bytes that a process of each function has held, and the emulator itself."""
        peaks: dict[str, int] = {}
        for process in self.processes():
            try:
                status = Path(f"/proc/{process}/status").read_text()
                variables = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
            except OSError:
                continue
            names = [
                text.decode()[25:] for text in variables if text.startswith(b"AWS_LAMBDA_FUNCTION_NAME=")
            ]
            name = names[0] if names else "emulator"
            for line in status.splitlines():
                if line.startswith("VmHWM:"):
                    peaks[name] = max(peaks.get(name, 0), int(line.split()[1]) * 1024)
        return peaks

    def _await_ready(self, seconds: float) -> None:
        assert self._process is not None
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self._process.poll() is not None:
                break
            try:
                context = ssl.create_default_context(cafile=str(self.certificate))
                with urllib.request.urlopen(f"{self.url}/_ministack/health", timeout=2, context=context):
                    return
            except urllib.error.HTTPError:
                return
            except OSError:
                time.sleep(0.2)
        raise RuntimeError(f"the emulator did not start:\n{self.log.read_text()[-2000:]}")
