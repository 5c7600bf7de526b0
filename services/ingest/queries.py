"""Loads the queries of a `.sql` file by name, with cursors that take few round trips."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiosql
import asyncpg
from aiosql.adapters.asyncpg import AsyncPGAdapter
from asyncpg.cursor import CursorFactory


class _Adapter(AsyncPGAdapter):
    """Opens a cursor in the current transaction, on a statement that the connection has prepared.

    aiosql's own adapter prepares the statement each time, within a savepoint, and closes it later:
    four more round trips, each of which takes long on a busy machine.
    """

    @asynccontextmanager
    async def select_cursor(
        self, conn: Any, query_name: str, sql: str, parameters: Any
    ) -> AsyncIterator[CursorFactory[asyncpg.Record]]:
        arguments = self.maybe_order_params(query_name, parameters)  # type: ignore[no-untyped-call]
        if getattr(conn, "keeps_statements", False):
            try:
                yield conn.cursor(sql, *arguments)
            except asyncpg.InvalidCachedStatementError:
                # asyncpg drops the invalid statement from its cache after `fetch` only.
                conn._drop_global_statement_cache()  # noqa: SLF001
                raise
        else:
            # With a pooler the statement must have no name: it would stay on another connection of
            # the server's.
            yield (await conn.prepare(sql)).cursor(*arguments)


def load(path: Path) -> Any:
    """Load the queries of a file. Queries whose name ends in `_cursor` need a transaction."""
    return aiosql.from_path(path, _Adapter)
