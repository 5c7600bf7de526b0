"""Output: colours on a terminal, plain text elsewhere, one JSON document with `--json`."""

from __future__ import annotations

import msgspec
from rich.console import Console
from rich.text import Text

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def print_error(problem: str, fix: str | None = None) -> None:
    """Print what is wrong and how to fix it, on stderr."""
    err.print(Text.assemble(("error: ", "bold red"), problem), soft_wrap=True)
    if fix:
        err.print(Text.assemble(("  fix: ", "bold"), fix), soft_wrap=True)


def print_json(document: msgspec.Struct) -> None:
    """Print one JSON document on stdout."""
    print(msgspec.json.encode(document).decode(), flush=True)  # noqa: T201 - rich would wrap it
