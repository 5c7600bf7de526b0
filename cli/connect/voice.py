"""What a run says while it goes on. What came out of it is `report`'s."""

from __future__ import annotations

import contextlib
import sys
import textwrap
from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from cli.connect.secrecy import printable
from cli.console import err, out


class Voice:
    """Speaks to a person on stdout, or keeps stdout free for one JSON document."""

    def __init__(self, *, json: bool) -> None:
        self._json = json
        self._main = err if json else out

    @property
    def interactive(self) -> bool:
        """Whether somebody is there to answer a question."""
        return not self._json and out.is_terminal and sys.stdin.isatty()

    def step(self, text: str) -> None:
        """Say what was done or comes next."""
        if not self._json:
            self._line(("• ", "dim"), text)

    def note(self, text: str) -> None:
        """Say something worth knowing that needs no action now."""
        if not self._json:
            self._line(("note: ", "bold yellow"), text)

    def warn(self, text: str) -> None:
        """Say something that may be dangerous or wrong; on stderr with JSON."""
        self._line(("warning: ", "bold yellow"), text)

    def show_url(self, url: str) -> None:
        """Print an address to open, on one line, to be copied; on stderr with JSON."""
        self._main.print(Text(f"\n  {printable(url)}\n", style="cyan"), soft_wrap=True)

    def explain(self, text: str) -> None:
        """Say what is needed to go on; on stderr with JSON."""
        hanging(self._main, ("", ""), text)

    @contextlib.contextmanager
    def busy(self, text: str) -> Iterator[None]:
        """Show that something takes its time: on stderr, and only on a terminal."""
        if not err.is_terminal:
            yield
            return
        with err.status(Text(printable(text))):
            yield

    def _line(self, mark: tuple[str, str], text: str) -> None:
        hanging(self._main, mark, text)


def hanging(console: Console, mark: tuple[str, str], text: str) -> None:
    """Print `text` after a mark, further lines indented to stand below it."""
    word, style = mark
    indent = " " * len(word)
    lines = printable(text).split("\n")
    if console.is_terminal:
        # Elsewhere, in files and pipes, a line stays one.
        lines = [piece for line in lines for piece in _wrapped(line, console.width - len(indent))]
    first, *more = lines
    console.print(Text.assemble((word, style), first), soft_wrap=True)
    for line in more:
        console.print(Text(f"{indent}{line}"), soft_wrap=True)


def _wrapped(line: str, width: int) -> list[str]:
    # A word that is longer than a line, most likely an address, stays in one piece.
    return textwrap.wrap(line, max(width, 20), break_long_words=False, break_on_hyphens=False) or [
        ""
    ]
