"""`.env` beside `compose.yaml`: read, and changed without touching what else is in it."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path

from dotenv import dotenv_values
from dotenv.parser import Binding, parse_stream

from cli.environment import ENCODING
from cli.stack.data_directory import write_private

_ASSIGNMENT = re.compile(r"^(\s*(?:export\s+)?([A-Za-z_]\w*)\s*)[=:]")
"""Compose reads `NAME: value` too."""


class EnvFile:
    """The file; one that is missing is empty."""

    def __init__(self, path: Path) -> None:
        """Read and write `path`."""
        self.path = path

    def values(self) -> dict[str, str]:
        """What it sets; an empty value counts as unset."""
        lines = "".join(map(_assignment, parse_stream(io.StringIO(self._text()))))
        found = dotenv_values(stream=io.StringIO(lines))
        return {name: value for name, value in found.items() if value}

    def create(self) -> None:
        """Make an empty one, unless there is one."""
        if not self.path.exists():
            self.path.touch(mode=0o600)

    def change(self, values: Mapping[str, str | None]) -> None:
        """Set variables, or remove those that are None. All other lines stay as they are.

        What a link leads to is changed, and the link stays.
        """
        text = self._text()
        # As Compose reads it: a page break ends no line.
        kept = text.removesuffix("\n").split("\n") if text else []
        lines = [line for line in kept if _name(line) not in values]
        lines += [f"{name}={value}" for name, value in values.items() if value is not None]
        write_private(self.path.resolve(), "".join(f"{line}\n" for line in lines))

    def _text(self) -> str:
        return self.path.read_text(ENCODING) if self.path.exists() else ""


def _assignment(binding: Binding) -> str:
    """What dotenv found, as it is written; where it found no value, with the one of Compose."""
    written = binding.original.string
    return written if binding.value is not None else _ASSIGNMENT.sub(r"\1=", written)


def _name(line: str) -> str | None:
    found = _ASSIGNMENT.match(line)
    return found[2] if found else None
