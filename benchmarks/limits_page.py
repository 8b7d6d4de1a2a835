"""The table of limits in docs/operations.md; ``python -m benchmarks.limits_page`` writes it there."""

from __future__ import annotations

import re
from pathlib import Path

from abeyance.cost.demand import Demand, stored
from abeyance.cost.limits import limits, quotas
from abeyance.cost.stations import Plan

#: Limits beyond are left out.
_MOST_PHOTOS_A_SECOND = 5000.0
_HEAD = "| limit | full at photos/s | M photos a day, evenly | lever | published |"


def limits_table(demand: Demand) -> str:
    """Write the nearest limits as deployed: the load that fills each, its lever and its source."""
    known = quotas()
    rows = [_HEAD, "|---|---|---|---|---|"]
    for limit in limits(Plan(), demand):
        if limit.full_at > _MOST_PHOTOS_A_SECOND:
            break
        quota = known.quotas.get(limit.quota)
        source = f"{quota.value:,.0f} {quota.unit}: [{quota.title}]({quota.url})" if quota else "ours"
        rows.append(
            f"| {limit.name} | {limit.full_at:,.0f} | {limit.full_a_day / 1e6:,.1f} | {limit.lever} | {source} |"
        )
    return "\n".join(rows) + "\n"


def main() -> None:
    """Replace the table in docs/operations.md."""
    page = Path(__file__).parents[1] / "docs" / "operations.md"
    old = re.compile(re.escape(_HEAD) + r"\n(\|.*\n)+")
    page.write_text(old.sub(lambda _: limits_table(stored()), page.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
