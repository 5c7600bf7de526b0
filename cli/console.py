"""What people see: colours on a terminal, plain text elsewhere, JSON on stdout when asked."""

from __future__ import annotations

import msgspec
from rich.console import Console
from rich.text import Text

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def complain(problem: str, fix: str | None = None) -> None:
    """Say what is wrong, and what to do about it."""
    err.print(Text.assemble(("error: ", "bold red"), problem), soft_wrap=True)
    if fix:
        err.print(Text.assemble(("  fix: ", "bold"), fix), soft_wrap=True)


def print_json(document: msgspec.Struct) -> None:
    """Print one JSON document and nothing else."""
    print(msgspec.json.encode(document).decode(), flush=True)  # noqa: T201 - rich would wrap it
