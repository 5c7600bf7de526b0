"""Records the statements that asyncpg sends and the rows that it reads, also with cursors."""

from __future__ import annotations

from typing import Any, TypeAlias

import asyncpg
import pytest
from asyncpg.cursor import Cursor
from asyncpg.prepared_stmt import PreparedStatement

Statements: TypeAlias = list[tuple[str, tuple[Any, ...]]]
"""Statements and their arguments."""


def record_statements(patched: pytest.MonkeyPatch) -> Statements:
    """Record every statement of all connections from now on."""
    statements: Statements = []
    connection_type: Any = asyncpg.Connection
    execute, cursor = connection_type._execute, connection_type.cursor
    unnamed = PreparedStatement.cursor

    async def executed(self: Any, query: str, args: Any, *rest: Any, **named: Any) -> Any:
        statements.append((query, tuple(args)))
        return await execute(self, query, args, *rest, **named)

    def read(self: Any, query: str, *args: Any, **named: Any) -> Any:
        statements.append((query, args))
        return cursor(self, query, *args, **named)

    def read_unnamed(self: Any, *args: Any, **named: Any) -> Any:
        statements.append((self.get_query(), args))
        return unnamed(self, *args, **named)

    patched.setattr(connection_type, "_execute", executed)
    patched.setattr(connection_type, "cursor", read)
    patched.setattr(PreparedStatement, "cursor", read_unnamed)
    return statements


def record_rows(patched: pytest.MonkeyPatch) -> list[Any]:
    """Record every row with a column `properties` that is read from now on."""
    rows: list[Any] = []
    connection_type: Any = asyncpg.Connection
    fetch, fetch_some = connection_type.fetch, Cursor.fetch

    def recorded(result: Any) -> Any:
        rows.extend(row for row in result if "properties" in row.keys())  # noqa: SIM118 - a record
        return result

    async def fetched(self: Any, *args: Any, **named: Any) -> Any:
        return recorded(await fetch(self, *args, **named))

    async def fetched_some(self: Any, *args: Any, **named: Any) -> Any:
        return recorded(await fetch_some(self, *args, **named))

    patched.setattr(connection_type, "fetch", fetched)
    patched.setattr(Cursor, "fetch", fetched_some)
    return rows
