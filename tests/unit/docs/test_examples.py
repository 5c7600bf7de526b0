"""Programs and transcripts in the documentation are files that tests/e2e/test_examples.py runs."""

from __future__ import annotations

import re
from pathlib import Path

from docs.generators import examples
from tests.transcripts import Step, steps

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "docs" / "examples"


def test_every_python_program_in_the_documentation_is_a_file() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        rest = examples.SHOWN.sub("", page.read_text())
        assert not re.findall(r"^```python$", rest, re.MULTILINE), page.name


def test_every_example_file_is_shown_in_the_documentation() -> None:
    pages = (page.read_text() for page in examples.pages())
    shown = {example for page in pages for example in examples.shown_in(page)}
    files = {str(file.relative_to(ROOT)) for file in EXAMPLES.rglob("*.*") if file.is_file()}
    # Needs a program that the tests do not install; docs/bus.md contains its lines.
    assert shown == files - {"docs/examples/clients/nats.console"}


def test_a_transcript_is_parsed_into_commands_and_expected_output() -> None:
    shown = "$ echo '{\n  }' \\\n  && ls\na\n...\nb ... c\n$ true\n"
    first, second = steps(shown)
    assert first == Step("echo '{\n  }' \\\n  && ls", ["a", "...", "b ... c"])
    assert second == Step("true", [])
    assert first.matches("a\nx\ny\nb 12 c\n")
    assert not first.matches("a\nb\n")
