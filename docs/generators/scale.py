"""Writes the tables of `docs/scale.md`, between `<!-- plan: NAME -->` and `<!-- /plan -->`."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks import plan

PAGE = Path(__file__).parents[1] / "scale.md"
_TABLE = re.compile(r"<!-- plan: (\w+) -->\n.*?<!-- /plan -->", re.DOTALL)


def page() -> str:
    """The page with its tables calculated again."""
    return _TABLE.sub(
        lambda match: f"<!-- plan: {match[1]} -->\n{plan.TABLES[match[1]]()}\n<!-- /plan -->",
        PAGE.read_text(),
    )
