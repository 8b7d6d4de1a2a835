"""Clients for many threads on moto."""

from __future__ import annotations

import threading
from typing import Any


class OneAtATime:
    """A boto3 client for many threads on moto, whose DynamoDB is not atomic between threads as the real one is.

    Every call runs alone; between two calls of one thread the others go on, which is where races are.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._lock = threading.RLock()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if name == "exceptions" or not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            with self._lock:
                return found(*args, **kwargs)

        return call
