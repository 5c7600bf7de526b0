"""Ask before something is done that cannot be undone."""

from __future__ import annotations

import sys

from cli.console import out
from cli.errors import CommandError
from cli.exit_codes import ExitCode
from cli.redaction import printable
from cli.terminal import Terminal


def require_terminal(what: str, *, json: bool) -> None:
    """Check that a question can be asked.

    Raises:
        CommandError: it cannot, and `what` asks one, for example "an erasure".
    """
    if not Terminal(json=json).interactive:
        raise CommandError(
            f"{what} asks first, and there is no terminal to ask on",
            "add --yes",
            exit_code=ExitCode.USAGE,
        )


def confirmed(question: str) -> bool:
    """Ask a question on the terminal; anything but yes is no."""
    out.print(f"{printable(question)} [y/N] ", end="", markup=False, soft_wrap=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
