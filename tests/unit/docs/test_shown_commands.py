"""Commands that documents and the command line show keep secrets from the list of processes."""

from __future__ import annotations

import re
from pathlib import Path

from docs.generators import examples

ROOT = Path(__file__).parents[3]
SECRET_IN_AN_ARGUMENT = re.compile(
    r"""-H\s+\\?["'](Authorization:|x-posthog-webhook-secret:)[^"']*\$\(|"""
    r"""-H\s+\\?["']Authorization: Bearer \$|--admin-key[ =]\\?["']?\$"""
)


def test_no_key_is_passed_as_an_argument() -> None:
    """The list of processes is for everybody to read; an environment and a pipe are not."""
    files = [*examples.pages(), *(ROOT / "docs/examples").iterdir(), *(ROOT / "cli").rglob("*.py")]
    shown = {
        str(file.relative_to(ROOT)): found.group()
        for file in files
        if file.is_file() and (found := SECRET_IN_AN_ARGUMENT.search(file.read_text()))
    }
    assert shown == {}
