"""Arguments that name what a command is about: one that is blank is a variable that is not set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, Token


def _not_blank(_type: object, value: str | None) -> None:
    if value is not None and not value.strip():
        raise ValueError("It is blank.")


def _directory(_type: object, tokens: Sequence[Token]) -> Path:
    # `Path` takes an empty text for the current directory.
    if not tokens[0].value.strip():
        raise ValueError("The name of the directory is blank.")
    return Path(tokens[0].value)


Name = Annotated[str, Parameter(validator=_not_blank)]
NameIfAny = Annotated[str | None, Parameter(validator=_not_blank)]
"""One that is looked up where it is not given: blank, a command would be about another server."""
Directory = Annotated[Path, Parameter(converter=_directory)]
