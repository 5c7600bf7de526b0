"""Errors that end a command: a sentence, and what to do about it."""

from __future__ import annotations

import msgspec

from cli.exit_codes import ExitCode


class CommandError(Exception):
    """Ends a command. `cli.failures` prints it, for a person or as JSON, and never a traceback."""

    def __init__(self, problem: str, fix: str, *, exit_code: ExitCode = ExitCode.FAILED) -> None:
        """Say what is wrong, what to do about it, and how the command exits."""
        super().__init__(problem)
        self.fix = fix
        self.exit_code = exit_code

    @property
    def problem(self) -> str:
        """What is wrong."""
        return str(self)


class CommandFailed(msgspec.Struct, frozen=True):
    """What `--json` prints when a command could not do its work at all."""

    error: str
    fix: str
