"""The command: ``python -m tests.simulation --seeds 20000``."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from tests.simulation.mutations import MUTATIONS
from tests.simulation.run import Coverage, run_part, simulation

#: Seeds that a process runs at a time.
_PART = 50


def _find_mutations(first: int, most: int) -> int:
    """Print a table of the faults put in on purpose; return 1 if one is not found in ``most`` seeds."""
    missed = 0
    for mutation in MUTATIONS:
        with simulation() as running, mutation.patch():
            for seed in range(first, first + most):
                outcome, _ = running.run(seed)
                if outcome.violations:
                    found = f"after {seed - first + 1:4} seeds: {outcome.violations[0][:90]}"
                    break
            else:
                found, missed = "NOT FOUND", missed + 1
        print(f"{mutation.name:28} {mutation.wrong:85} {found}", flush=True)
    return 1 if missed else 0


def main() -> int:
    """Run seeds on all cores and print what failed, and how often each call site died."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, help="replay one seed")
    parser.add_argument("--stop-at", type=int, default=20, help="stop after so many failures; 0 never")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--coverage", action="store_true", help="print every call site")
    parser.add_argument("--count", action="store_true", help="write sites.json, by which deaths are steered")
    parser.add_argument(
        "--mutations",
        action="store_true",
        help="say after how many seeds each fault put in on purpose is found",
    )
    given = parser.parse_args()
    if given.mutations:
        return _find_mutations(given.first, given.seeds)
    first, last = (
        (given.seed, given.seed + 1) if given.seed is not None else (given.first, given.first + given.seeds)
    )
    began = time.perf_counter()
    jobs = [
        (start, min(start + _PART, last), given.stop_at, not given.count)
        for start in range(first, last, _PART)
    ]
    context = multiprocessing.get_context("spawn")
    failed, coverage = 0, Coverage()
    with ProcessPoolExecutor(min(given.workers, len(jobs)), mp_context=context) as pool:
        for done in as_completed([pool.submit(run_part, job) for job in jobs]):
            part, covered = done.result()
            failed += len(part)
            coverage.merge(covered)
            for outcome in part:
                for violation in outcome.violations[:5]:
                    print(f"seed {outcome.seed}: {violation}", flush=True)
            if given.stop_at and failed >= given.stop_at:
                pool.shutdown(cancel_futures=True)
                break
    sites = sorted(coverage.exposed, key=str)
    if given.count:
        counted = {str(site): round(1000 * coverage.exposed[site] / (last - first), 1) for site in sites}
        place = Path(__file__).with_name("sites.json")
        place.write_text(json.dumps(counted, indent=1, sort_keys=True) + "\n")
    rare = [
        site for site in sites if min(coverage.deaths[site, "before"], coverage.deaths[site, "after"]) < 20
    ]
    for site in sites if given.coverage else rare:
        print(
            f"{coverage.exposed[site]:8} calls, died {coverage.deaths[site, 'before']:5} before, "
            f"{coverage.deaths[site, 'after']:5} after: {site}"
        )
    print(
        f"{last - first} seeds, {failed} with violations, {len(sites)} call sites "
        f"({len(rare)} died fewer than 20 times before or after), {sum(coverage.deaths.values())} deaths, "
        f"{time.perf_counter() - began:.0f} s"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
