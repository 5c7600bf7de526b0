"""How comments, docstrings and documents are written: CONTRIBUTING.md, "Write"."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
WITHOUT_SUBJECT = re.compile(
    r"\b(nobody|somebody|whoever|whosever|(is|are|was|were) away)\b", re.IGNORECASE
)
COMMENTED = ("*.py", "*.js", "*.mjs", "*.go", "*.sh", "*.yaml")
FILES = sorted(
    {
        *(
            file
            for room in ("benchmarks", "cli", "deploy", "docs", "sandbox", "services", "shared")
            for pattern in COMMENTED
            for file in (ROOT / room).rglob(pattern)
        ),
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "docs" / "runbooks").glob("*.md"),
        *(ROOT / name for name in ("README.md", "SECURITY.md", "compose.yaml")),
    }
)
"""Not the decisions of docs/adr, and not CONTRIBUTING.md, which names these words."""


def test_sentences_name_their_subject() -> None:
    found = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
        for file in FILES
        for number, line in enumerate(file.read_text("utf-8").splitlines(), start=1)
        if WITHOUT_SUBJECT.search(line)
    ]
    assert found == []
