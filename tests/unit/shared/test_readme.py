"""What documents say of types and links is so."""

from __future__ import annotations

import re
from pathlib import Path

from hogsend.contract.engagement import CATALOG

ROOT = Path(__file__).parents[3]


def test_every_type_of_engagement_is_documented() -> None:
    page = (ROOT / "docs" / "engagement.md").read_text()
    assert set(re.findall(r"(?<=`)[a-z_.]+(?=`)", page)) >= CATALOG


def test_every_link_leads_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
