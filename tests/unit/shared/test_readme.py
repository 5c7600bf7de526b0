"""What the README shows is a file that runs, not a picture of one."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_readmes_example_is_the_file_that_is_tested() -> None:
    readme = (ROOT / "README.md").read_text()
    shown = re.findall(r"<!-- example: (\S+) -->\n```python\n(.*?)```", readme, re.DOTALL)
    assert [name for name, _ in shown] == ["docs/examples/subscriber.py"]
    for name, code in shown:
        assert code == (ROOT / name).read_text()


def test_every_link_leads_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
