"""Cold starts, measured: ``python -m infra.coldstart [function …] [--repeat N]``.

Each function is started as Lambda starts it (awslambdaric, the runtime's own client) from the folders that its layers
are made of, against a stub of the runtime API on 127.0.0.1. What is measured is the time from the start of the process
to the moment that it asks for its first event: interpreter, imports, the module's own work. Models are loaded by the
first photo, so for functions that carry them that time is measured beside it. Imports are broken down by Python itself.

Figures are this machine's: this Python, this processor, the dependencies of this environment. Lambda's own share
(starting the sandbox, fetching layers) is not in them.
"""

from __future__ import annotations

import argparse
import http.server
import os
import re
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from pathlib import Path

from abeyance.pipeline.settings import Settings
from infra import functions, layers
from infra.config import ROOT, Config

#: What loads a function's models, in the process that has imported its handler.
_WARM = {
    "detect": "load_detector('{detector}', '{models}')",
    "recognize": "load_embedder('{embedder}', '{models}')",
}
_LIMIT = 60.0


class RuntimeApi:
    """As much of Lambda's runtime API as tells when a function is ready."""

    def __init__(self) -> None:
        self.ready = threading.Event()
        self.failed = ""
        api = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                api.at = time.monotonic()
                api.ready.set()
                time.sleep(_LIMIT)  # there never is an event

            def do_POST(self) -> None:
                api.failed = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                api.ready.set()

            def log_message(self, *_: object) -> None:
                pass

        self.at = 0.0
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


def environment(spec: functions.Function, models: Path) -> dict[str, str]:
    """What the function finds in its sandbox; third-party packages are this environment's."""
    kind: layers.Kind = "decide" if "decide" in spec.layers else "abeyance"
    own = [ROOT / "functions" / spec.name, layers.folder(kind, Config()) / "python"]
    settings = Settings(flags="appconfig:abeyance/live/moratoria", models=str(models))
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "ABEYANCE_"))},
        **settings.to_environment(),
        "PYTHONPATH": os.pathsep.join([*map(str, own), sysconfig.get_path("purelib")]),
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
        "AWS_LAMBDA_FUNCTION_NAME": spec.name,
        "AWS_LAMBDA_FUNCTION_VERSION": "1",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(spec.memory),
        "_HANDLER": "handler.handler",
        "LAMBDA_TASK_ROOT": str(own[0]),
    }


def start(spec: functions.Function, models: Path) -> tuple[float, float]:
    """Milliseconds from the start of the process to its first question for an event: passed, and on the processor.

    The second is what a busy machine does not distort. Raises ``RuntimeError`` if the function fails before.
    """
    api = RuntimeApi()
    # -S: without this environment's .pth files, of which one says where the repository is.
    code = "from awslambdaric.__main__ import main; main(['awslambdaric', 'handler.handler'])"
    variables = {**environment(spec, models), "AWS_LAMBDA_RUNTIME_API": api.address}
    with tempfile.TemporaryFile() as log:
        began = time.monotonic()
        process = subprocess.Popen(  # noqa: S603 - this Python, no shell
            [sys.executable, "-S", "-c", code],
            env=variables,
            stdout=log,
            stderr=log,
            cwd=tempfile.gettempdir(),
        )
        try:
            until = began + _LIMIT
            while not api.ready.wait(0.05) and process.poll() is None and time.monotonic() < until:
                pass
            if api.failed or not api.ready.is_set():
                log.seek(0)
                raise RuntimeError(f"{spec.name} does not start: {api.failed or log.read().decode()[-2000:]}")
            return (api.at - began) * 1000, _processor_ms(process.pid)
        finally:
            process.kill()
            process.wait()
            api.close()


def _processor_ms(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


def breakdown(spec: functions.Function, models: Path, least_ms: float = 8.0) -> list[tuple[str, float]]:
    """Top-level packages by the milliseconds that importing them took, children of others not counted twice."""
    answer = subprocess.run(
        [sys.executable, "-S", "-X", "importtime", "-c", "import handler"],
        env=environment(spec, models),
        capture_output=True,
        text=True,
        timeout=_LIMIT,
        check=True,
    )
    own: dict[str, float] = {}
    for line in answer.stderr.splitlines():
        found = re.match(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)", line)
        if found:
            package = ".".join(found[2].split(".")[: 2 if found[2].startswith("abeyance.") else 1])
            own[package] = own.get(package, 0.0) + int(found[1]) / 1000
    return sorted(((name, ms) for name, ms in own.items() if ms >= least_ms), key=lambda item: -item[1])


def models_ready(spec: functions.Function, models: Path) -> float | None:
    """Milliseconds to load the function's model after its imports, or None if it has none."""
    if spec.name not in _WARM:
        return None
    settings = Settings()
    call = _WARM[spec.name].format(
        detector=settings.detector_model, embedder=settings.embedder_model, models=models
    )
    code = (
        "import handler, time; began = time.perf_counter(); "
        f"from abeyance.vision.models.store import load_detector, load_embedder; {call}; "
        "print((time.perf_counter() - began) * 1000)"
    )
    answer = subprocess.run(  # noqa: S603 - this Python, no shell
        [sys.executable, "-S", "-c", code],
        env=environment(spec, models),
        capture_output=True,
        text=True,
        timeout=_LIMIT,
        check=True,
    )
    return float(answer.stdout.split()[-1])


def main() -> None:
    """Print a table and, below it, what the imports are made of."""
    parser = argparse.ArgumentParser(prog="python -m infra.coldstart", description=__doc__)
    parser.add_argument("functions", nargs="*", help="folders of functions/; all by default")
    parser.add_argument("--repeat", type=int, default=5, help="starts of each function")
    given = parser.parse_args()
    models = layers.folder("models", Config()) / "models"
    chosen = [spec for spec in functions.FUNCTIONS if not given.functions or spec.name in given.functions]
    for spec in chosen:
        start(spec, models)  # fills the page cache and the byte code, as a layer's snapshot does
        passed, used = zip(*(start(spec, models) for _ in range(given.repeat)), strict=True)
        ready = models_ready(spec, models)
        more = f"  model {ready:5.0f} ms" if ready is not None else ""
        parts = ", ".join(f"{name} {ms:.0f}" for name, ms in breakdown(spec, models)[:9])
        least, middle = min(passed), statistics.median(passed)
        line = f"{spec.name:10} {least:5.0f} ms (median {middle:.0f}, processor {min(used):.0f}){more}"
        print(f"{line}  {parts}")  # noqa: T201


if __name__ == "__main__":
    main()
