"""What asyncpg asks PostgreSQL, with or without a cursor."""

from __future__ import annotations

from typing import Any, TypeAlias

import asyncpg
import pytest
from asyncpg.cursor import Cursor
from asyncpg.prepared_stmt import PreparedStatement

Statements: TypeAlias = list[tuple[str, tuple[Any, ...]]]
"""Statements and their arguments."""


def note(patched: pytest.MonkeyPatch) -> Statements:
    """Note every statement that is asked from now on, whatever asyncpg was called by."""
    asked: Statements = []
    connection_type: Any = asyncpg.Connection
    execute, cursor = connection_type._execute, connection_type.cursor
    unnamed = PreparedStatement.cursor

    async def executed(self: Any, query: str, args: Any, *rest: Any, **named: Any) -> Any:
        asked.append((query, tuple(args)))
        return await execute(self, query, args, *rest, **named)

    def read(self: Any, query: str, *args: Any, **named: Any) -> Any:
        asked.append((query, args))
        return cursor(self, query, *args, **named)

    def read_unnamed(self: Any, *args: Any, **named: Any) -> Any:
        asked.append((self.get_query(), args))
        return unnamed(self, *args, **named)

    patched.setattr(connection_type, "_execute", executed)
    patched.setattr(connection_type, "cursor", read)
    patched.setattr(PreparedStatement, "cursor", read_unnamed)
    return asked


def read_rows(patched: pytest.MonkeyPatch) -> list[Any]:
    """Note every row with properties that is read from now on."""
    rows: list[Any] = []
    connection_type: Any = asyncpg.Connection
    fetch, fetch_some = connection_type.fetch, Cursor.fetch

    def noted(found: Any) -> Any:
        rows.extend(row for row in found if "properties" in row.keys())  # noqa: SIM118 - a record's
        return found

    async def fetched(self: Any, *args: Any, **named: Any) -> Any:
        return noted(await fetch(self, *args, **named))

    async def fetched_some(self: Any, *args: Any, **named: Any) -> Any:
        return noted(await fetch_some(self, *args, **named))

    patched.setattr(connection_type, "fetch", fetched)
    patched.setattr(Cursor, "fetch", fetched_some)
    return rows
