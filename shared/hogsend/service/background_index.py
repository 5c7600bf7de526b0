"""Builds the index of a large table while rows are written to it.

A migration cannot do that: it is one transaction, and writers would wait for its end. See
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
"""Pause until a look at what another replica builds, or until the next attempt."""

_STATE = """
SELECT (SELECT indisvalid FROM pg_catalog.pg_index WHERE indexrelid = to_regclass($1)) AS valid,
    EXISTS (SELECT FROM pg_catalog.pg_stat_progress_create_index
        WHERE relid = to_regclass($2)) AS building,
    to_regclass($2) IS NULL AS needless
"""


class _State(Enum):
    READY = auto()
    """It is there, or its table is not."""
    BUILDING = auto()
    """Another replica is at it."""
    BROKEN = auto()
    """An attempt was interrupted; PostgreSQL keeps what it made, and does not use it."""
    MISSING = auto()


class BackgroundIndex:
    """One index of one table; every replica looks after it, and one builds it."""

    def __init__(self, database: Database, *, name: str, table: str, columns: str) -> None:
        """Prepare.

        Args:
            database: whose schema has the table.
            name: of the index.
            table: its name.
            columns: what is indexed, as SQL.
        """
        self._database = database
        self._name = f'"{database.schema}"."{name}"'
        self._table = f'"{database.schema}"."{table}"'
        self._create = (
            f'CREATE INDEX CONCURRENTLY IF NOT EXISTS "{name}" ON {self._table} ({columns})'
        )

    async def keep_built(self) -> None:
        """Build the index unless it is there, again and again until it is."""
        while True:
            try:
                if await self._built():
                    return
            except Unavailable as error:
                metrics.FAILURES.labels("index", error.code).inc()
                log.debug("an index is not built yet", index=self._name, reason=str(error))
            except asyncpg.PostgresError as error:
                metrics.FAILURES.labels("index", type(error).__name__).inc()
                log.warning("an index is not built", index=self._name, reason=str(error))
            await asyncio.sleep(RETRY_SECONDS)

    async def _built(self) -> bool:
        """Do what there is to do; False when another replica is at it."""
        async with self._database.outside_transactions() as connection:
            state = await self._state(connection)
            if state in {_State.BUILDING, _State.READY}:
                return state is _State.READY
            if state is _State.BROKEN:
                await connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {self._name}")
            log.info("building an index in the background", index=self._name)
            await connection.execute(self._create)
            # A replica that waited for another one, which failed, finds what that left.
            ready = await self._state(connection) is _State.READY
        log.info("an index was built", index=self._name, ready=ready)
        return ready

    async def _state(self, connection: asyncpg.Connection[asyncpg.Record]) -> _State:
        row = await connection.fetchrow(_STATE, self._name, self._table)
        assert row is not None  # noqa: S101 - it selects no table
        if row["valid"] or row["needless"]:
            return _State.READY
        if row["building"]:
            return _State.BUILDING
        return _State.MISSING if row["valid"] is None else _State.BROKEN
