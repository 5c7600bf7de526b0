"""Variables of the command line: from the environment first, then from `./.env` (contract 8.1)."""

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
"""UTF-8; some editors begin a file with a byte order mark, which Compose and dotenv leave out."""

_from_file: set[str] = set()


def load_file() -> None:
    """Load the variables of `./.env` that are not set, and remember which they are.

    Raises:
        CommandError: the file is not text, or a line of it sets no variable.
    """
    _from_file.clear()
    before = set(os.environ)
    try:
        _check_lines(Path(FILE))
        load_dotenv(FILE, override=False)
    except (UnicodeDecodeError, ValueError) as error:
        raise CommandError(
            "./.env cannot be read: it is not UTF-8 text, or has a NUL in it",
            "save it as UTF-8, or remove what is not text",
            exit_code=ExitCode.USAGE,
        ) from error
    _from_file.update(set(os.environ) - before)


def _check_lines(file: Path) -> None:
    # Such a line would be passed over: what it was to set would stay unset.
    lines = parse_stream(io.StringIO(file.read_text(ENCODING))) if file.is_file() else ()
    for line in lines:
        # `A:b` is a name to dotenv; Compose reads it as `A=b`. Names of ours are in capitals.
        name, colon, _ = (line.key or "").partition(":")
        if line.error or (colon and name.isupper()):
            raise CommandError(
                f"./.env cannot be read: line {line.original.line} is not NAME=value",
                "mend it (every quote is closed, one in '…' written as \\'), or put a # before it",
                exit_code=ExitCode.USAGE,
            )


def without_file() -> dict[str, str]:
    """Return the environment as it was before `./.env` was loaded."""
    return {name: value for name, value in os.environ.items() if name not in _from_file}


def first(*names: str) -> str | None:
    """Return the first variable that is set: any of them in the environment, else in `./.env`.

    An empty value counts as unset.

    Raises:
        CommandError: none is set, and one is written with small letters.
    """
    sources = (without_file(), dotenv_values(FILE))
    for source in sources:
        for name in names:
            if value := source.get(name):
                return value
    # As a service does (`hogsend.service.settings.names`): what was meant is not passed over.
    for written in (name for source in sources for name, value in source.items() if value):
        if (name := written.upper()) in names:
            raise CommandError(
                f"{written} is set, and only names in capitals are read",
                f"write {name} instead",
                exit_code=ExitCode.USAGE,
            )
    return None


def hogsend_home() -> Path:
    """The directory of the stack that `hogsend up` runs here, as it reads HOGSEND_HOME."""
    home = Path((first("HOGSEND_HOME") or ".hogsend").strip())
    try:
        return home.expanduser()
    except RuntimeError:  # `up` refuses it
        return home
