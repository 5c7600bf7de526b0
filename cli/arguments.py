"""Types of arguments that refuse a blank value.

A blank argument usually comes from a shell variable that is not set.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, Token


def _refuse_blank(_type: object, value: str | None) -> None:
    if value is not None and not value.strip():
        raise ValueError("It is blank.")


def _directory(_type: object, tokens: Sequence[Token]) -> Path:
    # `Path("")` is the current directory.
    if not tokens[0].value.strip():
        raise ValueError("The name of the directory is blank.")
    return Path(tokens[0].value)


Name = Annotated[str, Parameter(validator=_refuse_blank)]
OptionalName = Annotated[str | None, Parameter(validator=_refuse_blank)]
"""A name with a default, for example --url. A blank value must not silently select the default."""
Directory = Annotated[Path, Parameter(converter=_directory)]
