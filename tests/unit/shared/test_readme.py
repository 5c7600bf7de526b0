"""What the README shows is a file that runs, not a picture of one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hogsend.contract.engagement import CATALOG

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("page", "example"),
    [
        ("README.md", "docs/examples/subscriber.py"),
        ("docs/persons.md", "docs/examples/app.py"),
    ],
)
def test_an_example_is_the_file_that_is_tested(page: str, example: str) -> None:
    text = (ROOT / page).read_text()
    shown = re.findall(r"<!-- example: (\S+) -->\n```python\n(.*?)```", text, re.DOTALL)
    assert shown == [(example, (ROOT / example).read_text())]


def test_every_type_of_engagement_is_documented() -> None:
    page = (ROOT / "docs" / "engagement.md").read_text()
    assert set(re.findall(r"(?<=`)[a-z_.]+(?=`)", page)) >= CATALOG


def test_every_link_leads_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
