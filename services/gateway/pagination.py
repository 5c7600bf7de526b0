"""Query parameters shared by all list routes."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from litestar.params import QueryParameter

DEFAULT_LIMIT = 50

Limit: TypeAlias = Annotated[
    int, QueryParameter(ge=1, le=100, description="Maximum number of entries on the page.")
]
Offset: TypeAlias = Annotated[
    int,
    QueryParameter(
        ge=0, le=1_000_000, description="Number of matching entries to skip before the page."
    ),
]
Before: TypeAlias = Annotated[
    str | None,
    QueryParameter(
        max_length=8192,
        description="Cursor: `nextBefore` of the previous page. Without it, the first page.",
    ),
]
