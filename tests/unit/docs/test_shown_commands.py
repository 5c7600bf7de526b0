"""Commands in the documentation and in the command's output pass no secret as an argument."""

from __future__ import annotations

import re
from pathlib import Path

from docs.generators import examples

ROOT = Path(__file__).parents[3]
SECRET_IN_AN_ARGUMENT = re.compile(
    r"""-H\s+\\?["'](Authorization:|x-posthog-webhook-secret:)[^"']*\$\(|"""
    r"""-H\s+\\?["']Authorization: Bearer \$|--admin-key[ =]\\?["']?\$"""
)


def test_no_shown_command_has_a_key_in_its_arguments() -> None:
    """Any user can read the arguments of all processes, but not their environment or pipes."""
    files = [*examples.pages(), *(ROOT / "docs/examples").iterdir(), *(ROOT / "cli").rglob("*.py")]
    matches = {
        str(file.relative_to(ROOT)): match.group()
        for file in files
        if file.is_file() and (match := SECRET_IN_AN_ARGUMENT.search(file.read_text()))
    }
    assert matches == {}
