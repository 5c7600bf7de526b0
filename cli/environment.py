"""Settings for the command line: the process environment first, then `./.env` (contract 8.1)."""

from __future__ import annotations

import os

from dotenv import dotenv_values, load_dotenv

FILE = ".env"

_from_file: set[str] = set()


def load_file() -> None:
    """Add what `./.env` sets and the environment does not, and remember where it came from."""
    before = set(os.environ)
    load_dotenv(FILE, override=False)
    _from_file.update(set(os.environ) - before)


def first(*names: str) -> str | None:
    """First of `names` that is set: all of them in the environment, then all of them in `./.env`.

    Empty counts as unset.
    """
    given = {name: value for name, value in os.environ.items() if name not in _from_file}
    for source in (given, dotenv_values(FILE)):
        for name in names:
            if value := source.get(name):
                return value
    return None
