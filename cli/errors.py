"""Errors that end a command: a sentence and, if there is one, the fix."""

from __future__ import annotations

import msgspec


class CommandError(Exception):
    """Printed without a traceback; the command exits with 1."""

    def __init__(self, problem: str, fix: str | None = None) -> None:
        super().__init__(problem)
        self.fix = fix


class CommandFailed(msgspec.Struct, frozen=True):
    """What `--json` prints when a command could not do its work at all."""

    error: str
