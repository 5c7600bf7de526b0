"""Queries of `.sql` files, by their names; cursors that take few round trips."""

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
    """Opens a cursor in the transaction there is, of a statement that the connection keeps.

    aiosql's own prepares the statement anew each time, within a savepoint, and has it closed later:
    four more round trips, each of which waits for its turn on a busy machine.
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
                # asyncpg forgets it for `fetch` alone.
                conn._drop_global_statement_cache()  # noqa: SLF001
                raise
        else:
            # Behind a pooler a statement must have no name: another server would keep it.
            yield (await conn.prepare(sql)).cursor(*arguments)


def load(path: Path) -> Any:
    """Read the queries of a file. Those whose name ends in `_cursor` need a transaction."""
    return aiosql.from_path(path, _Adapter)
