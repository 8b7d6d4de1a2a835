"""Threads for work on arrays, which releases the interpreter."""

from __future__ import annotations

import functools
import os
from concurrent.futures import ThreadPoolExecutor


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def pool() -> ThreadPoolExecutor:
    """Return the process's pool. Its tasks never wait for one another."""
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="gallery")


if hasattr(os, "register_at_fork"):
    # A child has none of its parent's threads, and would wait for them.
    os.register_at_fork(after_in_child=pool.cache_clear)
