"""Output: colours on a terminal, plain text elsewhere, one JSON document with `--json`."""

from __future__ import annotations

import sys
from typing import NoReturn

import msgspec
from rich.console import Console, ConsoleDimensions
from rich.text import Text

from cli.redaction import printable, printable_json

MIN_WIDTH = 40
"""Columns below which a table would be cut off; the terminal wraps what is wider than itself."""


class _Console(Console):
    """A console that leaves a closed pipe to the command instead of ending the process."""

    def on_broken_pipe(self) -> NoReturn:
        """Raise what was raised; called while it is handled."""
        raise  # noqa: PLE0704 - rich calls this inside its `except BrokenPipeError`

    @property
    def size(self) -> ConsoleDimensions:
        """Columns and lines; one that is not set up yet says 0, and would be shown nothing."""
        width, height = super().size
        return ConsoleDimensions(max(width, MIN_WIDTH), height)

    @size.setter
    def size(self, size: tuple[int, int]) -> None:
        Console.size.fset(self, size)  # type: ignore[attr-defined]


out = _Console(highlight=False)
err = _Console(stderr=True, highlight=False)

_json_begun = False


def counted(number: int, noun: str) -> str:
    """A number of things, whose noun takes an `s`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def print_error(problem: str, fix: str) -> None:
    """Print what is wrong and how to fix it, on stderr."""
    err.print(Text.assemble(("error: ", "bold red"), printable(problem)), soft_wrap=True)
    err.print(Text.assemble(("  fix: ", "bold"), printable(fix)), soft_wrap=True)


def print_json(document: msgspec.Struct) -> None:
    """Print one JSON document on stdout."""
    print_json_text(msgspec.json.encode(document).decode())


def print_json_text(document: str) -> None:
    """Print one JSON document, encoded already, on stdout."""
    json_begins()
    text = printable_json(document.strip(), sys.stdout.encoding or "utf-8")
    print(text, flush=True)  # noqa: T201 - rich would wrap it


def json_begins() -> None:
    """Say that a document is written to stdout, at once or piece by piece: none other follows."""
    global _json_begun  # noqa: PLW0603 - one a process, as stdout is
    _json_begun = True


def json_printed() -> bool:
    """Whether this run has printed its JSON document, or a part of it."""
    return _json_begun


def forget_output() -> None:
    """Begin a run: nothing is printed yet."""
    global _json_begun  # noqa: PLW0603
    _json_begun = False
