"""Load for the embedding endpoint, by a few connections and bodies that are made once.

Plain sockets on one event loop, no HTTP library: where server and load share the processor, the load slows down the
server that it measures.
"""

from __future__ import annotations

import asyncio
import itertools
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
    processor_s
        Processor seconds of the clients.
    """

    seconds: float = 0.0
    chips: int = 0
    latencies: list[float] = field(default_factory=list)
    answers: Counter[int] = field(default_factory=Counter)
    processor_s: float = 0.0

    @property
    def rate(self) -> float:
        """Chips a second."""
        return self.chips / self.seconds

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
    load, following = Load(), itertools.cycle(requests)
    due = began = time.perf_counter()
    worked = time.process_time()

    async def client() -> None:
        nonlocal due
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while time.perf_counter() < began + seconds:
            chips, content = next(following)
            if rate:
                pause = due - time.perf_counter()
                # A slow answer does not cause a burst later.
                due = max(due, time.perf_counter() - 1.0) + chips / rate
                await asyncio.sleep(max(0.0, pause))
            sent = time.perf_counter()
            try:
                connection = connection or await asyncio.open_connection("127.0.0.1", port)
                status = await _ask(*connection, content)
            except (OSError, EOFError, ValueError):
                status, connection = 0, None
            load.answers[status] += 1
            if status == 200:
                load.latencies.append(time.perf_counter() - sent)
                load.chips += chips
            else:
                await asyncio.sleep(0.05)
        if connection:
            connection[1].close()

    async def run() -> None:
        await asyncio.gather(*(client() for _ in range(clients)))

    asyncio.run(run())
    load.seconds, load.processor_s = time.perf_counter() - began, time.process_time() - worked
    return load


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, content: bytes) -> int:
    writer.write(content)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
    await reader.readexactly(length)
    return int(head.split(b" ", 2)[1])
