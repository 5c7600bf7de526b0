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

NATS_WITH_PREFIX = '$ nats() { command nats --inbox-prefix "$NATS_INBOX_PREFIX" "$@"; }'


def test_no_shown_command_has_a_key_in_its_arguments() -> None:
    """Any user can read the arguments of all processes, but not their environment or pipes."""
    files = [*examples.pages(), *(ROOT / "docs/examples").iterdir(), *(ROOT / "cli").rglob("*.py")]
    matches = {
        str(file.relative_to(ROOT)): match.group()
        for file in files
        if file.is_file() and (match := SECRET_IN_AN_ARGUMENT.search(file.read_text()))
    }
    assert matches == {}


def test_every_shown_nats_command_is_given_the_inbox_prefix() -> None:
    """The server refuses replies to any other inbox, and the command then waits in vain.

    A shell function gives the prefix, which does not reach a program that `xargs` starts.
    """
    # bus.md contains nats.console.
    pages = [page for page in (ROOT / "docs").rglob("*.md") if page.name != "bus.md"]
    blocks = [
        (file.name, block)
        for file in (*pages, ROOT / "docs/examples/clients/nats.console")
        for block in re.split(r"^```.*$", file.read_text(), flags=re.MULTILINE)
        if re.search(r"^\$ .*\bnats (stream|consumer|micro|subscribe)", block, re.MULTILINE)
    ]
    assert {name for name, _ in blocks} == {"HogsendStreamNearlyFull.md", "nats.console"}
    for name, block in blocks:
        before, defined, after = block.partition(NATS_WITH_PREFIX)
        assert defined, name
        assert not re.search(r"^\$ nats ", before, re.MULTILINE), name
        assert not re.search(r"xargs .*\bnats\b", after), name
