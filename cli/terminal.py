"""Progress, notes and warnings while a command runs. Its `report` module prints the result."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from rich.text import Text

from cli.console import err, out, print_hanging
from cli.redaction import printable
from cli.server_address import ServerAddress


class Terminal:
    """Writes to stdout, or to stderr where `--json` reserves stdout for one document."""

    def __init__(self, *, json: bool) -> None:
        self._json = json
        self._main = err if json else out

    @property
    def interactive(self) -> bool:
        """Whether the user can answer questions: on a terminal, and without `--json`."""
        return not self._json and out.is_terminal and sys.stdin.isatty()

    def step(self, text: str) -> None:
        """Print a step that was done or comes next; nothing with JSON."""
        if not self._json:
            self._line(("• ", "dim"), text)

    def note(self, text: str) -> None:
        """Print a note that needs no immediate action; nothing with JSON."""
        if not self._json:
            self._line(("note: ", "bold yellow"), text)

    def warn(self, text: str) -> None:
        """Print a warning; on stderr with JSON."""
        self._line(("warning: ", "bold yellow"), text)

    def warn_of_plaintext(self, address: ServerAddress) -> None:
        """Warn when the admin key would cross a network unencrypted."""
        if address.is_plaintext and address.admin_key is not None:
            self.warn(
                f"{address.base_url} is plain http: the admin key is sent unencrypted; use https"
            )

    def show_url(self, url: str) -> None:
        """Print a URL on one line, so that it can be copied; on stderr with JSON."""
        self._main.print(Text(f"\n  {printable(url)}\n", style="cyan"), soft_wrap=True)

    def explain(self, text: str) -> None:
        """Print instructions; on stderr with JSON."""
        print_hanging(self._main, ("", ""), text)

    @contextlib.contextmanager
    def busy(self, text: str) -> Iterator[None]:
        """Show a spinner, on stderr and only on a terminal."""
        if not err.is_terminal:
            yield
            return
        with err.status(Text(printable(text))):
            yield

    def _line(self, mark: tuple[str, str], text: str) -> None:
        print_hanging(self._main, mark, text)
