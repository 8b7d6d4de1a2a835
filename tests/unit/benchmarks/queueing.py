"""Closed forms of queueing theory, the oracle of the simulation, and the distributions that they hold for."""

from __future__ import annotations

import math

import numpy as np


def erlang_c(servers: int, load: float) -> float:
    """Return the probability of waiting, with Poisson arrivals and exponential service (M/M/c).

    ``load`` is in erlangs: arrivals a second times seconds of service; it must be less than ``servers``. Source: A. K.
    Erlang, 1917; computed by the recursion of Erlang B, which does not overflow.
    """
    if not 0 <= load < servers:
        raise ValueError("the load must be at least 0 and less than the number of servers")
    blocked = 1.0
    for number in range(1, servers + 1):
        blocked = load * blocked / (number + load * blocked)
    return blocked / (1 - load / servers * (1 - blocked))


def mean_wait(servers: int, rate: float, service: float) -> float:
    """Return the mean seconds in an M/M/c queue before service begins."""
    return erlang_c(servers, rate * service) * service / (servers - rate * service)


def mean_wait_constant(servers: int, rate: float, service: float) -> float:
    """Return the mean seconds of waiting where every service takes the same time (M/D/c).

    Exact for one server (Pollaczek and Khinchine). For several, Cosmetatos' approximation (1975), good to some per
    cent where servers are busy most of the time.
    """
    busy = rate * service / servers
    more = (
        (1 - busy) * (servers - 1) * (math.sqrt(4 + 5 * servers) - 2) / (16 * busy * servers)
        if servers > 1
        else 0.0
    )
    return mean_wait(servers, rate, service) / 2 * (1 + more)


def constant(random: np.random.Generator) -> float:
    """Return 1: every invocation takes its mean."""
    return 1.0


def exponential(random: np.random.Generator) -> float:
    """Draw from an exponential distribution, as in the textbooks' M/M/c."""
    return float(random.exponential())
