"""Output: colours on a terminal, plain text elsewhere, one JSON document with `--json`."""

from __future__ import annotations

import sys
from typing import NoReturn

import msgspec
from rich.console import Console, ConsoleDimensions
from rich.text import Text

from cli.redaction import printable, printable_json

MIN_WIDTH = 40
"""Narrower terminals get output of this width, in columns, and wrap the lines themselves."""


class _Console(Console):
    """A console that raises `BrokenPipeError` instead of ending the process."""

    def on_broken_pipe(self) -> NoReturn:
        """Raise the error again; rich calls this while it handles the error."""
        raise  # noqa: PLE0704 - rich calls this inside its `except BrokenPipeError`

    @property
    def size(self) -> ConsoleDimensions:
        """Columns and lines. A terminal that is not set up yet reports 0 columns."""
        width, height = super().size
        return ConsoleDimensions(max(width, MIN_WIDTH), height)

    @size.setter
    def size(self, size: tuple[int, int]) -> None:
        Console.size.fset(self, size)  # type: ignore[attr-defined]


out = _Console(highlight=False)
err = _Console(stderr=True, highlight=False)

_json_started = False


def quantity(number: int, noun: str) -> str:
    """Return a number with its noun, for example "3 events". The plural takes an `s`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def print_error(problem: str, fix: str) -> None:
    """Print an error and its fix on stderr."""
    err.print(Text.assemble(("error: ", "bold red"), printable(problem)), soft_wrap=True)
    err.print(Text.assemble(("  fix: ", "bold"), printable(fix)), soft_wrap=True)


def print_json(document: msgspec.Struct) -> None:
    """Print one JSON document on stdout."""
    print_json_text(msgspec.json.encode(document).decode())


def print_json_text(document: str) -> None:
    """Print an encoded JSON document on stdout."""
    mark_json_started()
    text = printable_json(document.strip(), sys.stdout.encoding or "utf-8")
    print(text, flush=True)  # noqa: T201 - rich would wrap it


def mark_json_started() -> None:
    """Record that this run writes its JSON document to stdout, so that no second one follows."""
    global _json_started  # noqa: PLW0603 - one a process, as stdout is
    _json_started = True


def is_json_started() -> bool:
    """Whether this run has printed its JSON document, or a part of it."""
    return _json_started


def reset_output() -> None:
    """Start a run that has printed nothing yet. Tests run several commands in one process."""
    global _json_started  # noqa: PLW0603
    _json_started = False
