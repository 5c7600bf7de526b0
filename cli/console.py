"""Output: colours on a terminal, plain text elsewhere, one JSON document with `--json`."""

from __future__ import annotations

import re
import sys
import textwrap
from typing import NoReturn

import msgspec
from rich.console import Console, ConsoleDimensions
from rich.text import Text

from cli.redaction import printable, printable_json

_COMMAND = re.compile(r"`[^`]+`")
_BLANK = "\0"
"""Stands for a blank at which a line must not be broken. Printed text contains no NUL."""
_MARK_END = "\1"
"""Stands for the blank between a mark and the text of its paragraph, and is not printed either."""

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


# Without markup: paths, names and addresses may have brackets.
out = _Console(highlight=False, markup=False)
err = _Console(stderr=True, highlight=False, markup=False)

_json_started = False


def quantity(number: int, noun: str) -> str:
    """Return a number with its noun, for example "3 events". The plural takes an `s`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def print_error(problem: str, fix: str) -> None:
    """Print an error and its fix on stderr."""
    print_hanging(err, ("error: ", "bold red"), problem)
    print_hanging(err, ("  fix: ", "bold"), fix)


def print_hanging(
    console: Console,
    mark: tuple[str, str],
    text: str,
    *,
    indent: int | None = None,
    end: str = "\n",
) -> None:
    """Print `text` after a mark. Lines are wrapped on a terminal, not in files and pipes.

    Args:
        console: where to print.
        mark: a text that is printed first, and its style.
        text: may have several lines.
        indent: columns before the following lines, for a mark that is the start of a sentence and
            may be wrapped too. By default the lines align with the text after the mark.
        end: printed after the text.
    """
    gap, newline, word = mark[0].rpartition("\n")
    first, *more = printable(text).split("\n")
    if indent is None:
        margin = " " * len(word)
        first = _wrapped(console, first, margin, margin)[len(margin) :]
    else:
        margin = " " * indent
        paragraph = _wrapped(console, f"{word.rstrip()}{_MARK_END}{first}", "", margin)
        word, _, first = paragraph.replace(_MARK_END, f" {_MARK_END}").partition(_MARK_END)
    lines = [first, *(_wrapped(console, line, margin, margin) for line in more)]
    printed = Text.assemble((f"{gap}{newline}{word}", mark[1]), "\n".join(lines))
    console.print(printed, end=end, soft_wrap=True)


def _wrapped(console: Console, line: str, margin: str, following: str) -> str:
    if not console.is_terminal:
        return margin + line
    # Commands stay whole to be copied, and so do words longer than a line, most likely URLs.
    unbroken = _COMMAND.sub(lambda command: command[0].replace(" ", _BLANK), line)
    wrapped = textwrap.fill(
        unbroken,
        max(console.width, len(following) + 20),
        initial_indent=margin,
        subsequent_indent=following,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return wrapped.replace(_BLANK, " ") or margin


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
