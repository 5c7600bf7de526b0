"""Query parameters shared by all list routes."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from litestar.params import QueryParameter

DEFAULT_LIMIT = 50

Limit: TypeAlias = Annotated[int, QueryParameter(ge=1, le=100)]
Offset: TypeAlias = Annotated[int, QueryParameter(ge=0, le=1_000_000)]
Before: TypeAlias = Annotated[
    str | None,
    QueryParameter(max_length=8192, description="`nextBefore` of the previous page."),
]
