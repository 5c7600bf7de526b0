"""How comments and docstrings are written: CONTRIBUTING.md, "Write"."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
WITHOUT_SUBJECT = re.compile(
    r"\b(nobody|somebody|whoever|whosever|(is|are|was) away)\b", re.IGNORECASE
)
FILES = sorted(
    file
    for room in ("benchmarks", "cli", "deploy", "sandbox", "services", "shared")
    for file in (ROOT / room).rglob("*.py")
)


def test_sentences_name_their_subject() -> None:
    found = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
        for file in FILES
        for number, line in enumerate(file.read_text("utf-8").splitlines(), start=1)
        if WITHOUT_SUBJECT.search(line)
    ]
    assert found == []
