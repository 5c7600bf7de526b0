"""Confirmation of commands that delete something permanently."""

from __future__ import annotations

import sys

from cli.console import out, print_hanging
from cli.errors import CommandError
from cli.exit_codes import ExitCode
from cli.terminal import Terminal


def require_terminal(action: str, *, json: bool) -> None:
    """Check that the user can be asked for confirmation.

    Args:
        action: what needs the confirmation, for example "an erasure".
        json: whether the command prints JSON; then it never asks.

    Raises:
        CommandError: stdin or stdout is not a terminal, or `--json` is given.
    """
    if not Terminal(json=json).interactive:
        raise CommandError(
            f"{action} needs a confirmation, and there is no terminal to ask on",
            "add --yes to confirm it",
            exit_code=ExitCode.USAGE,
        )


def confirm(question: str) -> bool:
    """Ask a question on the terminal; any answer but `y` or `yes` means no."""
    print_hanging(out, ("", ""), f"{question} [y/N]", end=" ")
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
