"""Settings of the command line: from the environment, then from `./.env` (contract 8.1)."""

from __future__ import annotations

import io
import os
from pathlib import Path

from dotenv import dotenv_values, load_dotenv
from dotenv.parser import parse_stream

from cli.errors import CommandError
from cli.exit_codes import ExitCode

FILE = ".env"
ENCODING = "utf-8-sig"
"""UTF-8. Some editors write a byte order mark first, which Compose and dotenv skip."""

_from_file: set[str] = set()


def load_file() -> None:
    """Load the variables of `./.env` that the environment does not set, and remember their names.

    Raises:
        CommandError: the file is not UTF-8 text, or a line is not an assignment.
    """
    _from_file.clear()
    before = set(os.environ)
    try:
        _check_lines(Path(FILE))
        load_dotenv(FILE, override=False)
    except (UnicodeDecodeError, ValueError) as error:
        raise CommandError(
            "./.env cannot be read: it is not UTF-8 text, or has a NUL in it",
            "save it as UTF-8 without NUL characters",
            exit_code=ExitCode.USAGE,
        ) from error
    _from_file.update(set(os.environ) - before)


def _check_lines(file: Path) -> None:
    # dotenv skips a line that it cannot parse, so the setting would silently stay unset.
    lines = parse_stream(io.StringIO(file.read_text(ENCODING))) if file.is_file() else ()
    for line in lines:
        # dotenv reads `A:b` as a name without a value; Compose reads it as `A=b`. Only Hogsend's
        # names, which are in capitals, are refused: other programs' names may have a colon.
        name, colon, _ = (line.key or "").partition(":")
        if line.error or (colon and name.isupper()):
            raise CommandError(
                f"./.env cannot be read: line {line.original.line} is not NAME=value",
                "correct the line (close every quote; inside '…' write a quote as \\'), or "
                "comment it out with a #",
                exit_code=ExitCode.USAGE,
            )


def without_file() -> dict[str, str]:
    """Return the environment without the variables that were loaded from `./.env`."""
    return {name: value for name, value in os.environ.items() if name not in _from_file}


def first(*names: str) -> str | None:
    """Return the first of these variables that is set in the environment, else in `./.env`.

    An empty value counts as unset.

    Raises:
        CommandError: none is set, and one is written in lower case.
    """
    sources = (without_file(), dotenv_values(FILE))
    for source in sources:
        for name in names:
            if value := source.get(name):
                return value
    # Services refuse it too (`hogsend.service.settings.names`): otherwise a misspelled setting
    # would silently have no effect.
    for written in (name for source in sources for name, value in source.items() if value):
        if (name := written.upper()) in names:
            raise CommandError(
                f"{written} is set, but only names in capitals are read",
                f"write {name} instead",
                exit_code=ExitCode.USAGE,
            )
    return None


def hogsend_home() -> Path:
    """Return the data directory of the local stack, read from HOGSEND_HOME as `hogsend up` does."""
    home = Path((first("HOGSEND_HOME") or ".hogsend").strip())
    try:
        return home.expanduser()
    except RuntimeError:  # an unknown `~user`, which `up` refuses
        return home
