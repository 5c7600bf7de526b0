"""Options that several commands have in the same way."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

Flag = Annotated[bool, Parameter(negative="", show_default=False)]
"""Given or not: there is no `--no-...`."""
