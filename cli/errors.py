"""What stops a command: a sentence, and where there is one, the fix."""

from __future__ import annotations


class CommandError(Exception):
    """Printed without a traceback; the command exits with 1."""

    def __init__(self, problem: str, fix: str | None = None) -> None:
        super().__init__(problem)
        self.fix = fix
