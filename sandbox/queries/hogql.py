"""A small subset of HogQL (posthog/hogql): a SELECT over `events` with WHERE and ORDER BY.

Supported are columns, properties of events, strings, numbers, placeholders, `toString`,
`toDateTime`, `coalesce` and `count()`; comparisons with AND, OR and parentheses; ORDER BY, LIMIT
and OFFSET. Other queries are refused, as PostHog refuses queries that it cannot parse.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from sandbox.queries.expressions import NO_ROW, HogQLError, Row, output
from sandbox.queries.parser import Parser


class Result(msgspec.Struct, frozen=True):
    """The rows of a query, up to its limit."""

    columns: list[str]
    rows: list[list[Any]]
    limit: int
    offset: int
    has_more: bool


def run(text: str, values: Mapping[str, Any], rows: Iterable[Row]) -> Result:
    """Run a query over `rows`. `values` are the values of its placeholders.

    Raises:
        HogQLError: the query is not supported.
    """
    query = Parser(text, values).query()
    try:
        matching = [row for row in rows if query.condition is None or query.condition(row)]
        if any(value is None for _, value in query.columns):
            results = [[len(matching) for _ in query.columns]]
        else:
            if not query.from_events:
                matching = [NO_ROW]
            for value, descending in reversed(query.order):
                matching.sort(key=value, reverse=descending)
            page = matching[query.offset : query.offset + query.limit + 1]
            results = [[output(value(row)) for _, value in query.columns if value] for row in page]
    except (TypeError, ValueError) as error:
        raise HogQLError(f"Illegal types of arguments: {error}") from None
    return Result(
        columns=[name for name, _ in query.columns],
        rows=results[: query.limit],
        limit=query.limit,
        offset=query.offset,
        has_more=len(results) > query.limit,
    )
