"""PostgreSQL for one service: its pool, its schema's migrations, and errors as the bus knows them.

A service starts without its database and recovers when it comes back: `keep_connected` keeps
trying, and until it succeeds `acquire` fails fast.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import structlog

from hogsend.contract.errors import Unavailable
from hogsend.contract.health import DependencyHealth, SchemaHealth
from hogsend.service import metrics
from hogsend.service.migrations import MigrationFailed, migrate
from hogsend.service.postgres_address import PostgresAddress
from hogsend.service.retry import retry_until_available
from hogsend.service.settings import DatabaseSettings

log = structlog.get_logger(__name__)

ACQUIRE_SECONDS = 2.0
COMMAND_SECONDS = 10.0
RETRY_SECONDS = 1.0
"""Longest pause between attempts to connect."""
NOT_AVAILABLE = "PostgreSQL is not available"

AWAY = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresSystemError,
    asyncpg.LockNotAvailableError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)
"""What asyncpg raises while the server is missing, starting, stopping, hanging or full, or refuses
a statement or a login for a reason that passes: the same statement may succeed later."""

LOST = (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError)
"""What asyncpg raises when the server came back without what the migrations had made."""

BROKEN = (asyncpg.InternalClientError, asyncpg.ReadOnlySQLTransactionError)
"""What makes a connection useless: asyncpg lost track of one that was cut, or it leads to a server
that has become a standby since."""


class Database:
    """One service's schema in PostgreSQL."""

    def __init__(self, url: str, schema: str, migrations: Path, *, pool_size: int) -> None:
        """Prepare without connecting.

        Args:
            url: PostgreSQL address, see `hogsend.service.postgres_address`.
            schema: the service's own schema, made when missing.
            migrations: directory of numbered `.sql` files in dbmate's format.
            pool_size: connections at most.
        """
        self._address = PostgresAddress.parse(url)
        # asyncpg refuses a subclass of str, such as a member of a StrEnum.
        self._schema = str(schema)
        self._migrations = migrations
        self._pool_size = pool_size
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._lost = asyncio.Event()

    @classmethod
    def of(cls, settings: DatabaseSettings, schema: str, migrations: Path) -> Database:
        """Prepare a service's database from its settings."""
        url = settings.database_url.get_secret_value()
        return cls(url, schema, migrations, pool_size=settings.database_pool_size)

    async def keep_connected(self) -> None:
        """Connect, and connect anew whenever what the migrations had made is gone; never ends.

        A server that came back with an empty disk, or was replaced by one, is migrated like a new
        one, without anything being restarted.
        """
        while True:
            await self.connect()
            self._lost.clear()
            await self._lost.wait()
            metrics.FAILURES.labels("database", "SchemaLost").inc()
            log.error("tables are gone from PostgreSQL; migrating again", schema=self._schema)
            if self._pool is not None:
                self._pool.terminate()
            self._pool = None
            await asyncio.sleep(RETRY_SECONDS)

    async def connect(self) -> None:
        """Migrate and open the pool, retrying until both succeed."""
        if self._pool is None:
            await retry_until_available(self._open, wait_max=RETRY_SECONDS)
        log.info("database ready", schema=self._schema)

    async def close(self) -> None:
        """Close the pool; running statements are cancelled after a moment."""
        if self._pool is not None:
            try:
                await asyncio.wait_for(self._pool.close(), ACQUIRE_SECONDS)
            except TimeoutError:
                self._pool.terminate()

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[asyncpg.pool.PoolConnectionProxy[asyncpg.Record]]:
        """A connection from the pool.

        Raises:
            Unavailable: PostgreSQL is not available, or was lost while the block ran.
        """
        pool = self._pool
        if pool is None:
            raise Unavailable(NOT_AVAILABLE)
        try:
            async with pool.acquire(timeout=ACQUIRE_SECONDS) as connection:
                try:
                    yield connection
                except BROKEN:
                    # The pool must not lend it again.
                    connection.terminate()
                    raise
        except (*AWAY, *LOST, *BROKEN) as error:
            metrics.FAILURES.labels("database", type(error).__name__).inc()
            if isinstance(error, LOST) and pool is self._pool:
                self._lost.set()
            raise Unavailable(NOT_AVAILABLE) from error

    async def _open(self) -> None:
        try:
            await migrate(self._address, self._schema, self._migrations)
            self._pool = await asyncpg.create_pool(
                self._address.dsn,
                min_size=1,
                max_size=self._pool_size,
                command_timeout=COMMAND_SECONDS,
                timeout=self._address.connect_seconds or ACQUIRE_SECONDS,
                server_settings={**self._address.settings, "search_path": self._schema},
                reset=_keep_session,
            )
        except (*AWAY, asyncpg.PostgresError, MigrationFailed) as error:
            # The reason may name hosts: it is for the log, and not for the public health.
            log.warning("PostgreSQL is not available yet", reason=_reason(error))
            raise Unavailable(NOT_AVAILABLE) from error

    async def health(self) -> tuple[DependencyHealth, SchemaHealth]:
        """How PostgreSQL answers, and how far the schema is."""
        required = sorted(
            re.split(r"[_.]", path.name)[0] for path in self._migrations.glob("*.sql")
        )
        newest = required[-1] if required else None
        started = time.perf_counter()
        try:
            async with self.acquire() as connection:
                rows = await connection.fetch(
                    "SELECT version FROM schema_migrations ORDER BY version"
                )
        except (Unavailable, asyncpg.PostgresError):
            return (
                DependencyHealth(status="down"),
                SchemaHealth(applied=None, required=newest, pending=[]),
            )
        applied = [str(row["version"]) for row in rows]
        latency = round((time.perf_counter() - started) * 1000, 1)
        return (
            DependencyHealth(status="up", latency_ms=latency),
            SchemaHealth(
                applied=applied[-1] if applied else None,
                required=newest,
                pending=[version for version in required if version not in applied],
            ),
        )


async def _keep_session(_: object) -> None:
    """Give a connection back as it is.

    asyncpg would reset the session with a round trip each time. Open transactions it ends all the
    same, and the one place that changes a session undoes that itself: `locks.exclusive`.
    """


def _reason(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[-1] if lines else type(error).__name__
