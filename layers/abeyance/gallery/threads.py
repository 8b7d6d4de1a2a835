"""Threads for work on arrays, which lets go of the interpreter."""

from __future__ import annotations

import functools
import os
from concurrent.futures import ThreadPoolExecutor


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def pool() -> ThreadPoolExecutor:
    """One for the process. Its tasks never wait for one another."""
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="gallery")


if hasattr(os, "register_at_fork"):
    # A child has none of its parent's threads, and would wait for them.
    os.register_at_fork(after_in_child=pool.cache_clear)
