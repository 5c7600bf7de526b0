"""Copies examples into pages. Each example is a file in `docs/examples`, which a test runs.

In a page an example is between the markers `<!-- example: docs/examples/NAME -->` and
`<!-- /example -->`, as a code block.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHOWN = re.compile(r"<!-- example: (\S+) -->\n.*?<!-- /example -->", re.DOTALL)
LANGUAGES = {".py": "python", ".console": "console", ".mjs": "javascript", ".go": "go"}


def pages() -> list[Path]:
    """All pages that contain examples."""
    candidates = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [page for page in candidates if SHOWN.search(page.read_text())]


def shown_in(page: str) -> list[str]:
    """The paths of the examples in a page, relative to the repository."""
    return SHOWN.findall(page)


def with_examples(page: str) -> str:
    """The page with the present contents of its examples."""
    return SHOWN.sub(lambda match: block(match[1]), page)


def block(example: str) -> str:
    """An example as a code block between its markers."""
    path = ROOT / example
    return (
        f"<!-- example: {example} -->\n```{LANGUAGES[path.suffix]}\n"
        f"{path.read_text()}```\n<!-- /example -->"
    )
