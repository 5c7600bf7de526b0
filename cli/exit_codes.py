"""The exit codes of every command; `hogsend --help` and docs/command.md show them as one table."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit code of a command."""

    OK = 0
    FAILED = 1
    USAGE = 2
    INTERRUPTED = 130
    CLOSED_PIPE = 141


MEANINGS: dict[ExitCode, str] = {
    ExitCode.OK: "success, including Ctrl-C of a command that runs until then; for `status` and "
    "`doctor`: the server is healthy",
    ExitCode.FAILED: "failed, or only partly done, or stdout cannot be written; for `status` "
    "and `doctor`: not healthy",
    ExitCode.USAGE: "wrong usage or an invalid setting; nothing was done (`connect` exits with 1 "
    "for invalid values of its options)",
    ExitCode.INTERRUPTED: "interrupted by Ctrl-C before it was done",
    ExitCode.CLOSED_PIPE: "the program that reads the output closed the pipe, as `head` does",
}


def table() -> str:
    """Return the exit codes and their meanings as a Markdown table."""
    rows = [f"| {code.value} | {meaning} |" for code, meaning in MEANINGS.items()]
    return "\n".join(["| exit code | meaning |", "|---|---|", *rows])
