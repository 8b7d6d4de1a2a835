"""The process: settings, logs, signals, and uvicorn around the application."""

from __future__ import annotations

import json
import logging
import math
import signal
import sys
from types import FrameType

import uvicorn

from .app import App
from .endpoint import Endpoint
from .model import open_model
from .settings import EmbedderSettings, manifest_beside_model

log = logging.getLogger("abeyance.embedder")

#: Longer than a load balancer keeps an idle connection (ALB: 60 s): the server never closes one that carries a request.
KEEP_ALIVE_S = 75
#: Exit status if the model cannot be opened.
UNUSABLE = 3

_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "taskName"}


class JsonLines(logging.Formatter):
    """Log records as JSON objects, one a line: time, level, message, and the fields of ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S"),
            "level": record.levelname,
            "message": record.getMessage(),
            **{key: value for key, value in vars(record).items() if key not in _PLAIN},
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class _Server(uvicorn.Server):
    """A server that reports draining at the first signal to stop, and then ends with status 0."""

    endpoint: Endpoint

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.endpoint.drain()
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM, and return the exit status.

    SageMaker starts the container with the argument ``serve``, ECS with none.
    """
    given = sys.argv[1:] if arguments is None else arguments
    if given not in ([], ["serve"]):
        sys.stderr.write("usage: python -m embedder [serve]\nSettings come from the environment.\n")
        return 2
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    manifest_beside_model()
    settings = EmbedderSettings.from_environment()
    failure: list[Exception] = []

    def stop(error: Exception) -> None:
        failure.append(error)
        server.should_exit = True

    endpoint = Endpoint(settings, open_model, stop)
    config = uvicorn.Config(
        App(endpoint),
        host=settings.host,
        port=settings.port,
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=math.ceil(settings.drain),
    )
    server = _Server(config)
    server.endpoint = endpoint
    log.info("listening", extra={"host": settings.host, "port": settings.port, "model": settings.model})
    server.run()
    left = endpoint.batcher.pending if endpoint.batcher else 0
    log.info("ended", extra={"answered": endpoint.answered, "unanswered_chips": left})
    return UNUSABLE if failure else 0
