"""The tables of `docs/scale.md`, between `<!-- plan: NAME -->` and `<!-- /plan -->`."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks import plan

PAGE = Path(__file__).parents[1] / "scale.md"
_TABLE = re.compile(r"<!-- plan: (\w+) -->\n.*?<!-- /plan -->", re.DOTALL)


def page() -> str:
    """The page with its sums done again."""
    return _TABLE.sub(
        lambda found: f"<!-- plan: {found[1]} -->\n{plan.TABLES[found[1]]()}\n<!-- /plan -->",
        PAGE.read_text(),
    )
