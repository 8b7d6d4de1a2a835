"""Load for the embedding endpoint, by a few connections and bodies that are made once.

Plain sockets on one event loop, no HTTP library: where server and load share the processor, the load slows down the
server that it measures.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from abeyance.embedding import npy


@dataclass(slots=True)
class Load:
    """The counts of a number of clients.

    Attributes
    ----------
    seconds
        Duration of the load.
    chips
        Chips that were answered with templates.
    latencies
        Of each answered request, in seconds.
    answers
        Requests by status; 0 for a connection that broke.
    processor
        Processor seconds of the clients.
    """

    seconds: float = 0.0
    chips: int = 0
    latencies: list[float] = field(default_factory=list)
    answers: Counter[int] = field(default_factory=Counter)
    processor: float = 0.0

    @property
    def rate(self) -> float:
        """Chips a second."""
        return self.chips / self.seconds if self.seconds else 0.0

    @property
    def errors(self) -> int:
        """Requests that were not answered with templates."""
        return self.answers.total() - self.answers[200]

    def percentile(self, share: float) -> float:
        """Return the latency of the ``share`` percentile in milliseconds; 0.0 without requests."""
        return float(np.percentile(self.latencies, share)) * 1000 if self.latencies else 0.0


def request(chips: int, seed: int = 0) -> tuple[int, bytes]:
    """Return ``chips`` and a request to /invocations with as many chips of noise, as the bytes on the wire."""
    body = npy.encode(np.random.default_rng(seed).integers(0, 256, (chips, *npy.CHIP), dtype=np.uint8))
    head = (
        "POST /invocations HTTP/1.1\r\nHost: embedder\r\n"
        f"Content-Type: {npy.MEDIA_TYPE}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return chips, head.encode() + body


def run_load(
    port: int, requests: Sequence[tuple[int, bytes]], clients: int, seconds: float, rate: float = 0.0
) -> Load:
    """Load the endpoint with ``rate`` chips a second, as far as its clients get answers.

    Without a rate, each client sends again as soon as it has its answer: the endpoint's capacity.
    """
    load = Load()
    before = resource.getrusage(resource.RUSAGE_SELF)
    asyncio.run(_Clients(port, requests, seconds, rate, load).run(clients))
    after = resource.getrusage(resource.RUSAGE_SELF)
    load.processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return load


@dataclass(slots=True)
class _Clients:
    """Clients on one event loop that share a list of requests and a pace."""

    port: int
    requests: Sequence[tuple[int, bytes]]
    seconds: float
    rate: float
    load: Load
    next: int = 0
    due: float = 0.0
    end: float = 0.0

    async def run(self, clients: int) -> None:
        began = time.perf_counter()
        self.end, self.due = began + self.seconds, began
        await asyncio.gather(*(self._client() for _ in range(clients)))
        self.load.seconds = time.perf_counter() - began

    async def _client(self) -> None:
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while time.perf_counter() < self.end:
            chips, content = self.requests[self.next % len(self.requests)]
            self.next += 1
            if self.rate:
                pause = self.due - time.perf_counter()
                # A slow answer does not cause a burst later.
                self.due = max(self.due, time.perf_counter() - 1.0) + chips / self.rate
                if pause > 0:
                    await asyncio.sleep(pause)
            began = time.perf_counter()
            try:
                connection = connection or await asyncio.open_connection("127.0.0.1", self.port)
                status = await _ask(*connection, content)
            except (OSError, EOFError, ValueError):
                status, connection = 0, None
                await asyncio.sleep(0.05)
            self.load.answers[status] += 1
            if status == 200:
                self.load.latencies.append(time.perf_counter() - began)
                self.load.chips += chips
            elif status:
                await asyncio.sleep(0.05)
        if connection:
            connection[1].close()


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, content: bytes) -> int:
    writer.write(content)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
    await reader.readexactly(length)
    return int(head.split(b" ", 2)[1])
