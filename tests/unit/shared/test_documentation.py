"""The documentation: every type of engagement is listed, and every link has a target."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from hogsend.contract.engagement import CATALOG

ROOT = Path(__file__).parents[3]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md")]
)
LINK = re.compile(r"\]\((?![a-z]+:)([^)#\s]*)(?:#([^)\s]+))?\)")
LINK_IN_CODE = re.compile(r"\b((?:docs/[\w/-]+|README|SECURITY|CONTRIBUTING)\.md)#([\w-]+)")
HEADING = re.compile(r"^#{1,6} +(.+?)(?: +#+)?$", re.MULTILINE)
CODE_BLOCK = re.compile(r"^( *)(```+|~~~+).*?^\1\2", re.MULTILINE | re.DOTALL)


def test_every_type_of_engagement_is_documented() -> None:
    page = (ROOT / "docs" / "engagement.md").read_text()
    assert set(re.findall(r"(?<=`)[a-z_.]+(?=`)", page)) >= CATALOG


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_has_a_target(page: Path) -> None:
    for target, anchor in LINK.findall(page.read_text()):
        file = page.parent / target if target else page
        assert file.exists(), target
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file.read_text()), f"{target}#{anchor}"


def test_every_anchor_that_code_names_exists() -> None:
    links = {
        link.groups()
        for root in ("cli", "services", "shared", "sandbox", "deploy")
        for file in (ROOT / root).rglob("*")
        if file.suffix in {".py", ".yaml", ".html", ".js", ".mjs"}
        for link in LINK_IN_CODE.finditer(file.read_text())
    }
    assert {
        f"{page}#{anchor}"
        for page, anchor in links
        if anchor not in anchors((ROOT / page).read_text())
    } == set()


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("## `BETTER_AUTH_SECRET`", "better_auth_secret"),
        ("## Changing `BETTER_AUTH_SECRET`", "changing-better_auth_secret"),
        ("### One, two & [three](a.md)!", "one-two--three"),
        ("# Not *every* **word** ü 5.0", "not-every-word-ü-50"),
    ],
)
def test_anchors_are_made_as_github_makes_them(heading: str, anchor: str) -> None:
    assert anchors(f"text\n\n{heading}\n") == {anchor}
    assert anchors(f"{heading}\n{heading}\n") == {anchor, f"{anchor}-1"}
    assert anchors(f"```\n{heading}\n```\n") == set()


def anchors(page: str) -> set[str]:
    """The anchors in a page's HTML and of its headings, as GitHub's html-pipeline makes them."""
    seen: Counter[str] = Counter()
    names = set(re.findall(r'<a (?:id|name)="([^"]+)"', page))
    for heading in HEADING.findall(CODE_BLOCK.sub("", page)):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        # Marks of emphasis are removed; an underscore inside a word is kept.
        text = re.sub(r"[`*]|\b_|_\b", "", text) if "`" not in text else re.sub(r"[`*]", "", text)
        anchor = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
        names.add(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
        seen[anchor] += 1
    return names
