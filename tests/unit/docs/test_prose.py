"""Comments, docstrings and documents follow the section "Write" of CONTRIBUTING.md."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
WITHOUT_SUBJECT = re.compile(
    r"\b(nobody|somebody|whoever|whosever|(is|are|was|were) away)\b", re.IGNORECASE
)
PATTERNS = ("*.py", "*.js", "*.mjs", "*.go", "*.sh", "*.yaml")
FILES = sorted(
    {
        *(
            file
            for folder in ("benchmarks", "cli", "deploy", "docs", "sandbox", "services", "shared")
            for pattern in PATTERNS
            for file in (ROOT / folder).rglob(pattern)
        ),
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "docs" / "runbooks").glob("*.md"),
        *(ROOT / name for name in ("README.md", "SECURITY.md", "compose.yaml")),
    }
)
"""Without the decisions in docs/adr, and without CONTRIBUTING.md, which lists these words."""


def test_no_sentence_has_a_pronoun_in_place_of_its_subject() -> None:
    places = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
        for file in FILES
        for number, line in enumerate(file.read_text("utf-8").splitlines(), start=1)
        if WITHOUT_SUBJECT.search(line)
    ]
    assert places == []
