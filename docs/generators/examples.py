"""Examples in pages: each is a file in `docs/examples` that a test runs, shown between markers.

`<!-- example: docs/examples/NAME -->`, the file as a code block, `<!-- /example -->`.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHOWN = re.compile(r"<!-- example: (\S+) -->\n.*?<!-- /example -->", re.DOTALL)
LANGUAGES = {".py": "python", ".console": "console", ".mjs": "javascript", ".go": "go"}


def pages() -> list[Path]:
    """Every page that shows an example."""
    written = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [page for page in written if SHOWN.search(page.read_text())]


def shown_in(page: str) -> list[str]:
    """The examples that a page shows, by their path in the repository."""
    return SHOWN.findall(page)


def with_examples(page: str) -> str:
    """A page with its examples as the files have them."""
    return SHOWN.sub(lambda found: block(found[1]), page)


def block(example: str) -> str:
    """An example as pages show it."""
    path = ROOT / example
    return (
        f"<!-- example: {example} -->\n```{LANGUAGES[path.suffix]}\n"
        f"{path.read_text()}```\n<!-- /example -->"
    )
