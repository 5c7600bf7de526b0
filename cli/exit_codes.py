"""The exit codes of every command; `hogsend --help` and docs/command.md show them as one table."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """How a command ended."""

    OK = 0
    FAILED = 1
    USAGE = 2
    INTERRUPTED = 130
    CLOSED_PIPE = 141


MEANINGS: dict[ExitCode, str] = {
    ExitCode.OK: "done, or ended by Ctrl-C where a command goes on until then; for `status` and "
    "`doctor`: everything is healthy",
    ExitCode.FAILED: "not done, or only a part of it; for `status` and `doctor`: not healthy",
    ExitCode.USAGE: "used wrongly, or a setting is wrong; nothing was done (`connect`, as "
    "Hogsend's own, ends with 1 where its options could be read)",
    ExitCode.INTERRUPTED: "Ctrl-C ended it before it was done",
    ExitCode.CLOSED_PIPE: "what read its output stopped reading, as `head` does",
}


def table() -> str:
    """Return the table as Markdown."""
    rows = [f"| {code.value} | {meaning} |" for code, meaning in MEANINGS.items()]
    return "\n".join(["| exit code | meaning |", "|---|---|", *rows])
