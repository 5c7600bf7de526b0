"""Builds an index of a large table without blocking writes to the table.

A migration cannot do so: it is one transaction, and writers would wait until it ends. See
docs/adr/0028-index-by-contact.md.
"""

from __future__ import annotations

import asyncio
from enum import Enum, auto

import asyncpg
import structlog

from hogsend.contract.errors import Unavailable
from hogsend.service import metrics
from hogsend.service.database import Database

log = structlog.get_logger(__name__)

RETRY_SECONDS = 30.0
"""Pause until the next attempt, and between checks of an index that another replica builds."""

_STATE = """
SELECT (SELECT indisvalid FROM pg_catalog.pg_index WHERE indexrelid = to_regclass($1)) AS valid,
    EXISTS (SELECT FROM pg_catalog.pg_stat_progress_create_index
        WHERE relid = to_regclass($2)) AS building,
    to_regclass($2) IS NULL AS table_missing
"""


class _State(Enum):
    READY = auto()
    """The index exists, or its table does not."""
    BUILDING = auto()
    """Another replica is building it."""
    BROKEN = auto()
    """A build was interrupted: PostgreSQL has kept the incomplete index, and does not use it."""
    MISSING = auto()
    """The table has no such index."""


class BackgroundIndex:
    """One index of one table. Every replica checks for it; one replica builds it."""

    def __init__(self, database: Database, *, name: str, table: str, columns: str) -> None:
        """Prepare without connecting.

        Args:
            database: its schema contains the table.
            name: of the index.
            table: name of the table.
            columns: the indexed columns, as SQL.
        """
        self._database = database
        self._name = f'"{database.schema}"."{name}"'
        self._table = f'"{database.schema}"."{table}"'
        self._create = (
            f'CREATE INDEX CONCURRENTLY IF NOT EXISTS "{name}" ON {self._table} ({columns})'
        )

    async def ensure_built(self) -> None:
        """Build the index if it does not exist; retry until it does."""
        while True:
            try:
                if await self._build_if_missing():
                    return
            except Unavailable as error:
                metrics.FAILURES.labels("index", error.code).inc()
                log.debug("an index is not built yet", index=self._name, reason=str(error))
            except asyncpg.PostgresError as error:
                metrics.FAILURES.labels("index", type(error).__name__).inc()
                log.warning("an index is not built", index=self._name, reason=str(error))
            await asyncio.sleep(RETRY_SECONDS)

    async def _build_if_missing(self) -> bool:
        """Build the index unless it exists; False when another replica is still building it."""
        async with self._database.outside_transactions() as connection:
            state = await self._state(connection)
            if state in {_State.BUILDING, _State.READY}:
                return state is _State.READY
            if state is _State.BROKEN:
                await connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {self._name}")
            log.info("building an index in the background", index=self._name)
            await connection.execute(self._create)
            # If this statement waited for another replica whose build failed, `IF NOT EXISTS` was
            # satisfied by the broken index of that replica.
            ready = await self._state(connection) is _State.READY
        log.info("an index was built", index=self._name, ready=ready)
        return ready

    async def _state(self, connection: asyncpg.Connection[asyncpg.Record]) -> _State:
        row = await connection.fetchrow(_STATE, self._name, self._table)
        assert row is not None  # noqa: S101 - it selects from no table
        if row["valid"] or row["table_missing"]:
            return _State.READY
        if row["building"]:
            return _State.BUILDING
        return _State.MISSING if row["valid"] is None else _State.BROKEN
