"""Reads and edits the `.env` of a deployment, keeping its other lines."""

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
"""An assignment as Compose reads it, which includes `NAME: value`."""


class EnvFile:
    """A `.env` file. A missing file counts as empty."""

    def __init__(self, path: Path) -> None:
        """Read and write `path`."""
        self.path = path

    def values(self) -> dict[str, str]:
        """Return the variables that the file sets; an empty value counts as unset."""
        lines = "".join(map(_assignment, parse_stream(io.StringIO(self._text()))))
        values = dotenv_values(stream=io.StringIO(lines))
        return {name: value for name, value in values.items() if value}

    def create(self) -> None:
        """Create an empty file if it is missing."""
        if not self.path.exists():
            self.path.touch(mode=0o600)

    def change(self, values: Mapping[str, str | None]) -> None:
        """Set variables, or remove those that are None. All other lines stay unchanged.

        If the file is a symbolic link, its target is changed.
        """
        text = self._text()
        # Not `splitlines`, which also splits at form feeds; Compose does not.
        present = text.removesuffix("\n").split("\n") if text else []
        lines = [line for line in present if _name(line) not in values]
        lines += [f"{name}={value}" for name, value in values.items() if value is not None]
        write_private(self.path.resolve(), "".join(f"{line}\n" for line in lines))

    def _text(self) -> str:
        return self.path.read_text(ENCODING) if self.path.exists() else ""


def _assignment(binding: Binding) -> str:
    """Return the text of an assignment, with `NAME: value` rewritten to `NAME=value` for dotenv."""
    text = binding.original.string
    return text if binding.value is not None else _ASSIGNMENT.sub(r"\1=", text)


def _name(line: str) -> str | None:
    assignment = _ASSIGNMENT.match(line)
    return assignment[2] if assignment else None
