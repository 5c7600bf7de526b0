"""Errors that end a command: each has a problem and its fix."""

from __future__ import annotations

import msgspec

from cli.exit_codes import ExitCode


class CommandError(Exception):
    """Ends a command. `cli.failures` prints it as text or JSON, without a traceback."""

    def __init__(self, problem: str, fix: str, *, exit_code: ExitCode = ExitCode.FAILED) -> None:
        """Create the error.

        Args:
            problem: what is wrong.
            fix: what the user can do about it.
            exit_code: of the command.
        """
        super().__init__(problem)
        self.fix = fix
        self.exit_code = exit_code

    @property
    def problem(self) -> str:
        """What is wrong."""
        return str(self)


class CommandFailed(msgspec.Struct, frozen=True):
    """The JSON document of a command that failed."""

    error: str
    fix: str
